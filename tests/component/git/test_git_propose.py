from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.component.git.bare import FILE, OVERLAY, PROTECTED, Open, Remote, once

from backstay.adapters.git.command import GitRefused
from backstay.adapters.gitops.changes import Change, Proposed, Unchanged
from backstay.adapters.gitops.outcomes import AlreadyDone, AlreadyGood, Missing, Refused, Superseded, Unavailable
from backstay.adapters.gitops.version_file import VersionFile, restore
from backstay.adapters.messages.rollback_commit import RollbackRequest

if TYPE_CHECKING:
    from pathlib import Path

    from backstay.adapters.gitops.repository import Repository

pytestmark = pytest.mark.component

RequestFor = Callable[..., RollbackRequest]
BRANCH = "backstay/rollback-aaaa"


def propose(repository: Repository, request: RollbackRequest | Change, branch: str = BRANCH) -> Proposed:
    outcome = repository.propose(request, branch=branch)
    assert isinstance(outcome, Proposed), outcome
    return outcome


def promotion(version: str) -> Change:
    def edit(content: bytes, declared: VersionFile, file: str) -> bytes:
        identity = replace(declared.identity, version=version, digest=Remote.identity(version).digest)
        return restore(content, name="fraud-detector", identity=identity, reject=None, drop_retry=True, file=file)

    return Change(OVERLAY, "fraud-detector", edit, f"promote(fraud-detector): production to {version}", f"p-{version}")


def refs(remote: Remote) -> list[str]:
    return remote.git("for-each-ref", "--format=%(refname)", "refs/heads/").splitlines()


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


def test_a_line_end_that_git_does_not_know_makes_no_trailer(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    forged = f"a person's work\n\nSee-also: notes\u2028Backstay-Rollback-Id: {'a' * 64}\n"
    tip = replace(remote, branch=BRANCH).commit({FILE: remote.text("5")}, forged)
    assert isinstance(repository.propose(request, branch=BRANCH), Refused)
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


def test_a_protected_main_takes_the_proposal(remote: Remote, repository: Repository, request_for: RequestFor) -> None:
    remote.hook("pre-receive", f"while read old new ref; do [ $ref != refs/heads/main ] || {{ {PROTECTED}\n}}; done")
    [refused] = repository.rollback([request_for()])
    assert isinstance(refused, Refused)
    assert refused.protected
    propose(repository, request_for())


def test_a_server_that_takes_no_branch_of_ours_leaves_nothing_to_fall_back_to(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    remote.hook("pre-receive", PROTECTED)
    outcome = repository.propose(request_for(), branch=BRANCH)
    assert isinstance(outcome, Refused)
    assert not outcome.protected
    assert refs(remote) == ["refs/heads/main"]


KILLED_AT = """
import os, pathlib, pickle, signal, sys
from backstay.adapters.gitops.repository import Repository

def checkpoint(point):
    if point == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)

request = pickle.load(sys.stdin.buffer)
repository = Repository(sys.argv[2], "main", workdir=pathlib.Path(sys.argv[3]), checkpoint=checkpoint)
repository.propose(request, branch=sys.argv[4])
"""


@pytest.mark.parametrize("point", ["before:fetch", "after:fetch", "before:push", "after:push"])
def test_killed_at_any_point_there_is_one_proposal_in_the_end(
    remote: Remote, open_repository: Open, request_for: RequestFor, tmp_path: Path, point: str
) -> None:
    request = request_for()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT, point, remote.url, str(tmp_path / "work"), BRANCH],
        input=pickle.dumps(request),
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    there = remote.git("rev-parse", "--verify", "--quiet", BRANCH, check=False)
    assert bool(there) == (point == "after:push")
    proposed = propose(open_repository(remote), request)
    assert there in {"", proposed.commit}
    assert refs(remote) == ["refs/heads/backstay/rollback-aaaa", "refs/heads/main"]
    assert remote.git("rev-list", "--count", f"main..{BRANCH}") == "1"


def test_the_answer_to_the_push_may_be_lost(remote: Remote, repository: Repository, request_for: RequestFor) -> None:
    # The server applies the push and breaks before it answers.
    remote.hook("post-receive", "kill -KILL $(ps -o ppid= -p $$)")
    proposed = propose(repository, request_for())
    assert proposed.commit == remote.git("rev-parse", BRANCH)


def test_two_controllers_at_once_propose_the_same(
    remote: Remote, open_repository: Open, request_for: RequestFor
) -> None:
    request = request_for()
    both = threading.Barrier(2, timeout=30)
    met = threading.local()

    def meet(point: str) -> None:
        if point == "before:push" and not hasattr(met, "done"):
            met.done = True
            both.wait()

    outcomes: list[object] = []
    threads = [
        threading.Thread(
            target=lambda repository: outcomes.append(repository.propose(request, branch=BRANCH)),
            args=[open_repository(remote, folder, checkpoint=meet)],
        )
        for folder in ("one", "two")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [type(outcome) for outcome in outcomes] == [Proposed, Proposed]
    assert remote.git("rev-parse", BRANCH) in {outcome.commit for outcome in outcomes if isinstance(outcome, Proposed)}
    assert remote.git("rev-list", "--count", f"main..{BRANCH}") == "1"


def test_work_that_reaches_the_branch_before_the_push_is_kept(
    remote: Remote, open_repository: Open, request_for: RequestFor
) -> None:
    request = request_for()
    others: list[str] = []
    person = replace(remote, branch=BRANCH)
    race = once(lambda: others.append(person.commit({"notes.txt": "mine\n"}, "a person's work")), "before:push")
    outcome = open_repository(remote, checkpoint=race).propose(request, branch=BRANCH)
    assert isinstance(outcome, Refused)
    assert remote.git("rev-parse", BRANCH) == others[0]


def test_a_person_s_commit_on_top_of_ours_is_kept(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    propose(repository, request)
    remote.git("fetch", "--quiet", "origin", cwd=remote.person)
    remote.git("checkout", "--quiet", "--detach", f"origin/{BRANCH}", cwd=remote.person)
    tip = replace(remote, branch=BRANCH).commit({FILE: remote.text("5")}, "a person's correction")
    outcome = repository.propose(request, branch=BRANCH)
    assert isinstance(outcome, Refused)
    assert remote.git("rev-parse", BRANCH) == tip


def test_the_base_merged_into_the_proposal_does_not_make_it_another_s(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    propose(repository, request)
    main = remote.commit({"README.md": "Other\n"}, "a person")
    remote.git("fetch", "--quiet", "origin", cwd=remote.person)
    remote.git("checkout", "--quiet", "--detach", f"origin/{BRANCH}", cwd=remote.person)
    remote.git("merge", "--quiet", "--message", f"Merge main into {BRANCH}", main, cwd=remote.person)
    remote.git("push", "--quiet", "origin", f"HEAD:refs/heads/{BRANCH}", cwd=remote.person)
    tip = remote.git("rev-parse", BRANCH)
    assert propose(repository, request) == Proposed(BRANCH, tip, main)
    remote.git("checkout", "--quiet", "--detach", "origin/main", cwd=remote.person)
    head = remote.commit({FILE: remote.text("7", extra="    runID: x\n")}, "a person")
    assert propose(repository, request).base_commit == head


@pytest.mark.parametrize("way", ["merge", "squash", "rebase"])
def test_a_merged_proposal_is_done(remote: Remote, repository: Repository, request_for: RequestFor, way: str) -> None:
    request = request_for()
    commit = propose(repository, request).commit
    main = remote.commit({"README.md": "Other\n"}, "a person")
    remote.git("fetch", "--quiet", "origin", cwd=remote.person)
    if way == "rebase":
        remote.git("cherry-pick", f"origin/{BRANCH}", cwd=remote.person)
    elif way == "squash":
        remote.git("merge", "--quiet", "--squash", f"origin/{BRANCH}", cwd=remote.person)
        message = remote.git("log", "-1", "--format=%B", BRANCH)
        remote.git("commit", "--quiet", "--message", f"A rollback (#3)\n\n* {message}", cwd=remote.person)
    else:
        remote.git("merge", "--quiet", "--no-ff", "--message", "Merge", f"origin/{BRANCH}", cwd=remote.person)
    remote.git("push", "--quiet", "origin", "HEAD:refs/heads/main", cwd=remote.person)
    done = repository.propose(request, branch=BRANCH)
    assert done == AlreadyDone(commit if way == "merge" else remote.head())
    assert repository.rollback([request]) == [done]
    assert remote.git("merge-base", main, "main") == main
    repository.withdraw(BRANCH)
    assert repository.propose(request, branch=BRANCH) == done
    assert refs(remote) == ["refs/heads/main"]


def test_a_commit_that_only_names_the_rollback_does_not_end_its_proposal(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    proposed = propose(repository, request)
    remote.commit({"README.md": "Other\n"}, f"Notes\n\n{remote.git('log', '-1', '--format=%B', BRANCH)}")
    assert propose(repository, request) == proposed


def test_a_squash_that_has_lost_the_message_leaves_the_good_version(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    propose(repository, request)
    head = remote.commit({FILE: remote.show(commit=BRANCH)}, "Squashed")
    assert repository.propose(request, branch=BRANCH) == AlreadyGood(head)


def test_a_rollback_that_came_too_late_is_not_proposed(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    remote.commit({FILE: remote.text("8")}, "version 8")
    assert repository.propose(request, branch=BRANCH) == Superseded("8", None)
    assert refs(remote) == ["refs/heads/main"]


def test_a_promotion_takes_the_place_of_the_one_before(remote: Remote, repository: Repository) -> None:
    branch = "backstay/promote-fraud-detector-production"
    first = propose(repository, promotion("8"), branch)
    assert remote.show(commit=first.commit) == remote.text("8").encode()
    second = propose(repository, promotion("9"), branch)
    assert second.commit == remote.git("rev-parse", branch)
    assert remote.show(commit=branch) == remote.text("9").encode()
    assert remote.git("rev-list", "--count", f"main..{branch}") == "1"
    assert propose(repository, promotion("9"), branch) == second
    remote.commit({FILE: remote.text("9")}, "by hand")
    assert repository.propose(promotion("9"), branch=branch) == Unchanged(remote.head())


def test_another_file_s_proposal_is_not_replaced(remote: Remote, repository: Repository) -> None:
    branch = "backstay/promote"
    other = "applications/churn/model-version.yaml"
    remote.commit({other: remote.text("7")})
    first = propose(repository, promotion("8"), branch)
    outcome = repository.propose(replace(promotion("8"), path="applications/churn", change_id="other"), branch=branch)
    assert isinstance(outcome, Refused)
    assert remote.git("rev-parse", branch) == first.commit


def test_a_branch_without_a_common_commit_is_left_alone(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    tree = remote.git("rev-parse", "main^{tree}")
    orphan = remote.git("commit-tree", tree, "-m", "orphan")
    remote.git("update-ref", f"refs/heads/{BRANCH}", orphan)
    assert isinstance(repository.propose(request, branch=BRANCH), Refused)
    assert remote.git("rev-parse", BRANCH) == orphan


def test_a_vanished_repository_or_folder_is_told(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    assert isinstance(repository.propose(request_for(path="nowhere"), branch=BRANCH), Missing)
    away = remote.bare.rename(remote.bare.with_name("away"))
    assert isinstance(repository.propose(request_for(), branch=BRANCH), Missing | Unavailable)
    away.rename(remote.bare)
    propose(repository, request_for())


@pytest.mark.parametrize(
    "branch", ["main", "backstay/", "backstay/../main", "backstay/a b", "backstay/a:refs/heads/main", ""]
)
def test_other_branches_are_refused_at_once(repository: Repository, request_for: RequestFor, branch: str) -> None:
    with pytest.raises(ValueError, match="cannot be the branch of a proposal"):
        repository.propose(request_for(), branch=branch)
    with pytest.raises(ValueError, match="cannot be the branch of a proposal"):
        repository.withdraw(branch)


def test_the_base_branch_itself_is_never_a_proposal(
    remote: Remote, open_repository: Open, request_for: RequestFor
) -> None:
    remote.git("branch", "backstay/main", "main")
    outcome = open_repository(remote, branch="backstay/main").propose(request_for(), branch="backstay/main")
    assert isinstance(outcome, Refused)
    assert "propose it on another one" in outcome.reason
