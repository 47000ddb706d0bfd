"""A bare repository with people who push to it, for real."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.component.git.bare import FILE, OVERLAY, Open, Remote, make_remote

from backstay.adapters.gitops.repository import Repository
from backstay.adapters.messages.rollback_commit import RollbackRequest


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    """A repository whose production overlay went from version 6 to version 7."""
    remote = make_remote(tmp_path / "server")
    remote.commit({FILE: remote.text("6"), "README.md": "Models\n"}, "version 6")
    remote.commit({FILE: remote.text("7")}, "version 7")
    return remote


@pytest.fixture
def open_repository(tmp_path: Path) -> Iterator[Open]:
    with ExitStack() as stack:

        def opened(remote: Remote, folder: str = "work", **options: Any) -> Repository:
            branch = options.pop("branch", "main")
            return stack.enter_context(Repository(remote.url, branch, workdir=tmp_path / folder, **options))

        yield opened


@pytest.fixture
def repository(remote: Remote, open_repository: Open) -> Repository:
    return open_repository(remote)


@pytest.fixture
def request_for(remote: Remote) -> Callable[..., RollbackRequest]:
    """Make the request to go from version 7 back to 6, with changes."""
    first = RollbackRequest(
        rollback_id="a" * 64,
        resource="fraud-production/fraud-detector",
        path=OVERLAY,
        name="fraud-detector",
        environment="production",
        good=remote.identity("6"),
        bad=remote.identity("7"),
        bad_commit=remote.head(),
        reason="error ratio 4.1 % against 1.0 %",
        evidence=("signal=errors verdict=Fail value=0.041 limit=0.010",),
    )

    def changed(**changes: Any) -> RollbackRequest:
        return replace(first, **changes)

    return changed
