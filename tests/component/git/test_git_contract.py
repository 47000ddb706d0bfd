"""One contract for rollbacks in Git, kept by the real repository and by the simulated one."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import pytest
from backstay_world.git import GitServer, SimulatedRepository
from backstay_world.looptime import SimulatedLoop
from tests.component.git.bare import FILE, OVERLAY, Open, Remote, make_remote, once

from backstay.adapters.gitops.locate import VersionFileMissingError
from backstay.adapters.gitops.outcomes import AlreadyDone, AlreadyGood, Committed, Missing, Superseded
from backstay.adapters.gitops.repository import Repository
from backstay.adapters.gitops.version_file import VersionFile, read_version_file
from backstay.adapters.messages.rollback_commit import RollbackRequest

pytestmark = pytest.mark.component

NAME = "fraud-detector"
Checkpoint = Callable[[str], None]


class Place(Protocol):
    """A repository to which a person commits."""

    def commit(self, text: str) -> str:
        """Commit a version file to the branch, and return the commit."""

    def says(self) -> bytes:
        """Return the version file at the branch's newest commit."""

    def writer(self, checkpoint: Checkpoint) -> Repository:
        """Return a writer of the branch."""


class RealPlace:
    """A bare repository."""

    def __init__(self, remote: Remote, opened: Open) -> None:
        self._remote = remote
        self._opened = opened

    def commit(self, text: str) -> str:
        self._remote.commit({FILE: text}, "another version")
        return self._remote.head()

    def says(self) -> bytes:
        return self._remote.show(FILE)

    def writer(self, checkpoint: Checkpoint) -> Repository:
        return self._opened(self._remote, checkpoint=checkpoint)


class SimulatedPlace:
    """A server in memory."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._server = GitServer(lambda: 1_800_000_000.0)

    def commit(self, text: str) -> str:
        return self._server.commit({FILE: text.encode()}, "another version")

    def says(self) -> bytes:
        return self._server.commits[self._server.head].files[FILE]

    def writer(self, checkpoint: Checkpoint) -> Repository:
        return SimulatedRepository(self._server, self._loop, checkpoint)


@pytest.fixture(params=["simulated", "real"])
def place(request: pytest.FixtureRequest, tmp_path: Path, open_repository: Open) -> Iterator[Place]:
    if request.param == "real":
        remote = make_remote(tmp_path / "server")
        yield RealPlace(remote, open_repository)
    else:
        with closing(SimulatedLoop()) as loop:
            yield SimulatedPlace(loop)


def nothing(point: str) -> None:
    del point


def declared(place: Place) -> VersionFile:
    return read_version_file(place.says(), name=NAME)


def rollback_of(bad_commit: str, *, path: str = OVERLAY) -> RollbackRequest:
    return RollbackRequest(
        rollback_id="a" * 64,
        resource=f"fraud-production/{NAME}",
        path=path,
        name=NAME,
        environment="production",
        good=Remote.identity("6"),
        bad=Remote.identity("7"),
        bad_commit=bad_commit,
        reason="error ratio 4.1 % against 1.0 %",
    )


def gone_bad(place: Place) -> str:
    """Declare version 6 and then version 7, and return the commit of that."""
    place.commit(Remote.text("6"))
    return place.commit(Remote.text("7"))


def test_a_rollback_is_committed_once(place: Place) -> None:
    request = rollback_of(gone_bad(place))
    writer = place.writer(nothing)
    (first,) = writer.rollback([request])
    assert isinstance(first, Committed)
    assert declared(place).identity.version == "6"
    assert [entry.version for entry in declared(place).rejected] == ["7"]
    assert writer.rollback([request]) == [AlreadyDone(first.commit)]


def test_what_a_person_put_back_is_left(place: Place) -> None:
    request = rollback_of(gone_bad(place))
    head = place.commit(Remote.text("6"))
    assert place.writer(nothing).rollback([request]) == [AlreadyGood(head)]


def test_a_newer_version_stays_and_the_failed_one_is_rejected(place: Place) -> None:
    request = rollback_of(gone_bad(place))
    place.commit(Remote.text("8"))
    (outcome,) = place.writer(nothing).rollback([request])
    assert isinstance(outcome, Superseded)
    assert (outcome.newer_version, bool(outcome.commit)) == ("8", True)
    assert declared(place).identity.version == "8"
    assert [entry.version for entry in declared(place).rejected] == ["7"]


def test_a_person_who_is_faster_than_the_push_keeps_their_version(place: Place) -> None:
    request = rollback_of(gone_bad(place))
    writer = place.writer(once(lambda: place.commit(Remote.text("8")), "before:push"))
    (outcome,) = writer.rollback([request])
    assert isinstance(outcome, Superseded)
    assert declared(place).identity.version == "8"


def test_a_folder_that_is_not_there_is_told(place: Place) -> None:
    request = rollback_of(gone_bad(place), path="applications/elsewhere")
    writer = place.writer(nothing)
    (outcome,) = writer.rollback([request])
    assert isinstance(outcome, Missing)
    with pytest.raises(VersionFileMissingError):
        writer.locate("applications/elsewhere", NAME)


def test_the_history_names_who_set_each_version(place: Place) -> None:
    first = place.commit(Remote.text("6"))
    second = place.commit(Remote.text("7"))
    third = place.commit(Remote.text("7", extra="    promotedBy: jo\n"))
    writer = place.writer(nothing)
    writer.fetch()
    located = writer.locate(OVERLAY, NAME)
    assert (located.head, located.set_by, located.changed_by) == (third, second, third)
    assert [(entry.identity.version, entry.commit) for entry in located.history] == [("7", second), ("6", first)]
    assert writer.contains(first, third)
    assert not writer.contains(third, first)
