from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.component.git.bare import FILE, Remote

from backstay.adapters.changes import Change, Proposed
from backstay.adapters.gitcommand import GitRefused
from backstay.adapters.rollbackcommit import (
    Refused,
    RollbackRequest,
)

if TYPE_CHECKING:
    from backstay.adapters.git import Repository

pytestmark = pytest.mark.component

RequestFor = Callable[..., RollbackRequest]
BRANCH = "backstay/rollback-aaaa"


def propose(repository: Repository, request: RollbackRequest | Change, branch: str = BRANCH) -> Proposed:
    outcome = repository.propose(request, branch=branch)
    assert isinstance(outcome, Proposed), outcome
    return outcome


def test_a_proposal_is_the_rollback_on_a_branch_of_its_own(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    main = remote.head()
    proposed = propose(repository, request_for())
    assert proposed == Proposed(BRANCH, remote.git("rev-parse", BRANCH), main)
    assert remote.head() == main
    assert remote.git("rev-parse", f"{BRANCH}^") == main
    assert remote.git("diff-tree", "-r", "--name-only", main, BRANCH) == FILE
    assert remote.show(commit=BRANCH).startswith(remote.text("6").encode())
    assert remote.trailer("Backstay-Rollback-Id", BRANCH) == ["a" * 64]


def test_what_is_proposed_already_stays(remote: Remote, repository: Repository, request_for: RequestFor) -> None:
    proposed = propose(repository, request_for())
    remote.commit({"README.md": "Other\n"}, "a person")
    assert propose(repository, request_for()) == proposed
    assert remote.git("rev-parse", BRANCH) == proposed.commit


def test_a_proposal_is_made_again_when_the_file_has_changed(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    first = propose(repository, request)
    head = remote.commit({FILE: remote.text("7").replace("# Which", "# Still which")}, "a person")
    second = propose(repository, request)
    assert second == Proposed(BRANCH, remote.git("rev-parse", BRANCH), head)
    assert second.commit != first.commit
    assert remote.show(commit=BRANCH).startswith(b"# Still which")


def test_a_branch_of_others_is_left_alone(remote: Remote, repository: Repository, request_for: RequestFor) -> None:
    request = request_for()
    tip = replace(remote, branch=BRANCH).commit({"notes.txt": "mine\n"}, "a person's work")
    outcome = repository.propose(request, branch=BRANCH)
    assert isinstance(outcome, Refused)
    assert outcome.reason.startswith(f"The branch {BRANCH} holds commits of others")
    assert not outcome.protected
    with pytest.raises(GitRefused, match="holds commits of others"):
        repository.withdraw(BRANCH)
    assert remote.git("rev-parse", BRANCH) == tip


def test_a_withdrawn_proposal_is_gone_and_may_be_withdrawn_again(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    propose(repository, request_for())
    repository.withdraw(BRANCH)
    assert remote.git("for-each-ref", "refs/heads/backstay") == ""
    repository.withdraw(BRANCH)
    propose(repository, request_for())
