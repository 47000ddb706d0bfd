"""Git repositories as the controller uses them: one writer for each branch, one thread for each writer."""

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from backstay.adapters.argocd import Source
from backstay.adapters.forge import Forge
from backstay.adapters.forge.choose import forge_of
from backstay.adapters.forge.credentials import Credentials
from backstay.adapters.git_url import normalise_url
from backstay.adapters.gitops.changes import Change, ProposalOutcome
from backstay.adapters.gitops.locate import Located
from backstay.adapters.gitops.outcomes import RollbackOutcome
from backstay.adapters.gitops.repository import Repository
from backstay.adapters.messages.rollback_commit import RollbackRequest
from backstay.controller.runtime import faults, metrics
from backstay.controller.runtime.settings import Settings

_Answer = TypeVar("_Answer")
# So many rollbacks go out in the first push of a crowd, and twice as many in each next one. To make a commit and to see
# that it changes nothing else takes some tenths of a second, so the first are not to wait for the last; but each push
# has to win against those of others.
_AT_FIRST = 25


@dataclass(slots=True)
class _Pending:
    request: RollbackRequest
    done: "asyncio.Future[RollbackOutcome]"


class GitWriter:
    """The one writer of a repository's branch: what is asked for while it pushes goes out together in the next pushes.

    Every call into the repository has its turn on one thread.
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="git")
        self._pending: list[_Pending] = []
        self._running: asyncio.Task[None] | None = None
        self._fetched_at = 0.0

    @property
    def branch(self) -> str:
        """The name of the branch; that of a repository's default branch is known once it was fetched."""
        return self._repository.branch

    async def locate(self, path: str, name: str) -> Located:
        """Fetch, and find what a folder of the branch declares of a ModelDeployment, with its history.

        Many who ask at once share a fetch that began after all of them had asked.

        Raises:
            GitError: the repository cannot be reached.
            VersionFileError: the folder declares no such thing.
        """
        asked_at = time.monotonic()

        def fetch_and_locate() -> Located:
            if self._fetched_at < asked_at:
                begun = time.monotonic()
                self._repository.fetch()
                self._fetched_at = begun
            return self._repository.locate(path, name)

        return await self._in_turn(fetch_and_locate, moves=False)

    async def contains(self, commit: str, revision: str) -> bool:
        """Tell whether a revision of the branch contains a commit."""
        return await self._in_turn(lambda: self._repository.contains(commit, revision))

    async def write(self, request: RollbackRequest) -> RollbackOutcome:
        """Write a rollback to the branch, together with others that are asked for at this moment."""
        waiting = _Pending(request, asyncio.get_running_loop().create_future())
        self._pending.append(waiting)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._drain())
        return await waiting.done

    async def propose(self, request: RollbackRequest | Change, *, branch: str) -> ProposalOutcome:
        """Put a change on a branch of its own, for a pull request."""
        return await self._in_turn(lambda: self._repository.propose(request, branch=branch))

    async def withdraw(self, branch: str) -> None:
        """Remove the branch of a pull request that is closed."""
        await self._in_turn(lambda: self._repository.withdraw(branch))

    async def _drain(self) -> None:
        size = _AT_FIRST
        while self._pending:
            batch, self._pending = self._pending[:size], self._pending[size:]
            size *= 2
            try:
                outcomes = await self._push(batch)
            except Exception as problem:  # noqa: BLE001 - handed to everyone who waits
                for waiting in batch:
                    waiting.done.set_exception(problem)
                continue
            for waiting, outcome in zip(batch, outcomes, strict=True):
                waiting.done.set_result(outcome)

    async def _push(self, batch: list[_Pending]) -> list[RollbackOutcome]:
        return await self._in_turn(lambda: self._repository.rollback([waiting.request for waiting in batch]))

    async def _in_turn(self, work: Callable[[], _Answer], *, moves: bool = True) -> _Answer:
        """Run something on the thread; what moves the clone to another commit ends what may be shared of a fetch."""

        def turn() -> _Answer:
            if moves:
                self._fetched_at = 0.0
            return work()

        return await asyncio.get_running_loop().run_in_executor(self._thread, turn)


def _passed(point: str) -> None:
    """Count the pushes, and die here if asked to."""
    if point == "before:push":
        metrics.GIT_PUSHES.labels("tried").inc()
    elif point == "after:push":
        metrics.GIT_PUSHES.labels("done").inc()
    faults.point(point)


class GitServers(Protocol):
    """Where the repositories are that ModelDeployments come from, and the forges that hold them."""

    def repository(self, source: Source, checkpoint: Callable[[str], None]) -> Repository:
        """Return the only writer of a source's branch; ``checkpoint`` is told of each fetch and push.

        Raises:
            GitUrlError: the source's URL is none that Git can use here.
        """
        ...

    def forge(self, source: Source) -> Forge:
        """Return the forge of a source's repository; blocks.

        Raises:
            ForgeRefused: it is not known which kind of forge that is.
        """
        ...


class GitRemotes:
    """Servers in the network, with clones in the controller's state folder and the credentials of its settings."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.state / "git"
        self._credentials = Credentials(settings.git_credentials) if settings.git_credentials else None

    def repository(self, source: Source, checkpoint: Callable[[str], None]) -> Repository:
        """Return the writer of a branch; its clone has a folder of its own."""
        identity = "\0".join((normalise_url(source.url), source.branch))
        return Repository(
            source.url,
            source.branch,
            workdir=self._folder / hashlib.sha256(identity.encode()).hexdigest()[:16],
            credentials=self._credentials,
            checkpoint=checkpoint,
        )

    def forge(self, source: Source) -> Forge:
        """Return the forge of a repository; blocks."""
        return forge_of(source.url, self._credentials)


class GitWriters:
    """The writers of all branches that any ModelDeployment comes from."""

    def __init__(self, servers: GitServers) -> None:
        self._servers = servers
        self._writers: dict[tuple[str, str], GitWriter] = {}

    def of(self, source: Source) -> GitWriter:
        """Return the writer of a source's branch.

        Raises:
            GitUrlError: the source's URL is none that Git can use here.
        """
        identity = (normalise_url(source.url), source.branch)
        if identity not in self._writers:
            self._writers[identity] = GitWriter(self._servers.repository(source, _passed))
        return self._writers[identity]

    def forge(self, source: Source) -> Forge:
        """Return the forge of a source's repository; blocks.

        Raises:
            ForgeRefused: it is not known which kind of forge that is.
        """
        return self._servers.forge(source)
