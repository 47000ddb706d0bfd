"""A Git server in memory, and the writer of one of its branches with the rules of the real one.

The server takes a push only where the branch is still where the pusher saw it. The writer decides on what it has
fetched, and decides again where somebody else was faster.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from backstay.adapters.git.command import GitUnavailable
from backstay.adapters.gitops.changes import Change, Mark, ProposalOutcome, Proposed, Unchanged, change_message
from backstay.adapters.gitops.locate import HistoricVersion, Located, VersionFileMissingError
from backstay.adapters.gitops.outcomes import (
    AlreadyDone,
    AlreadyGood,
    Committed,
    Missing,
    Refused,
    RollbackOutcome,
    Superseded,
    Unavailable,
)
from backstay.adapters.gitops.repository import Repository
from backstay.adapters.gitops.version_file import VersionFile, VersionFileError, read_version_file, restore
from backstay.adapters.messages.rollback_commit import RollbackRequest, quarantine_message, rollback_message
from backstay.domain.resource import ModelIdentity, Rejection
from backstay_world.looptime import SimulatedLoop

FILE = "model-version.yaml"
_TAKES = 0.1
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit; ``files`` are all files of the tree, by path."""

    id: str
    parent: str
    message: str
    author: str
    files: Mapping[str, bytes]


class MovedError(Exception):
    """The branch is not where the pusher saw it."""


@dataclass(slots=True)
class GitServer:
    """Branches of one repository. ``away`` makes every contact fail, ``deaf`` loses the answers to so many pushes."""

    clock: Callable[[], float]
    main: str = "main"
    away: bool = False
    deaf: int = 0
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    pushed: list[Callable[[], None]] = field(default_factory=list)

    @property
    def head(self) -> str:
        """The newest commit of the main branch."""
        return self.branches[self.main]

    def make(self, parent: str, files: Mapping[str, bytes], message: str, author: str) -> str:
        """Keep a commit that no branch has yet."""
        before = self.commits[parent].files if parent else {}
        text = repr((parent, sorted(files.items()), message, author, len(self.commits)))
        commit = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.commits[commit] = Commit(commit, parent, message, author, {**before, **files})
        return commit

    def push(self, branch: str, commit: str, *, seen: str) -> None:
        """Move a branch, if it is still at the commit that was seen there (empty: it is not there).

        Raises:
            MovedError: it is not.
        """
        if self.branches.get(branch, "") != seen:
            raise MovedError(branch)
        self.branches[branch] = commit
        for told in self.pushed:
            told()

    def commit(self, files: Mapping[str, bytes], message: str, author: str = "person") -> str:
        """Commit to the main branch, as a person does."""
        seen = self.branches.get(self.main, "")
        made = self.make(seen, files, message, author)
        self.push(self.main, made, seen=seen)
        return made

    def log(self, commit: str = "") -> list[Commit]:
        """List the commits of the main branch, or those up to one, the newest first."""
        found, at = [], commit or self.branches.get(self.main, "")
        while at:
            found.append(self.commits[at])
            at = self.commits[at].parent
        return found


class SimulatedRepository(Repository):
    """Writes to the main branch of a server in memory, one commit for each rollback.

    Args:
        server: the server.
        loop: whose time passes.
        checkpoint: told of each fetch and push.
    """

    def __init__(self, server: GitServer, loop: SimulatedLoop, checkpoint: Callable[[str], None]) -> None:
        self._server = server
        self._loop = loop
        self._checkpoint = checkpoint
        self._head = ""

    @property
    def branch(self) -> str:
        """The name of the branch."""
        return self._server.main

    def _reach(self) -> None:
        self._loop.spend(_TAKES)
        if self._server.away:
            raise GitUnavailable("The Git server does not answer")

    def fetch(self) -> str:
        """See where the branch is."""
        self._checkpoint("before:fetch")
        self._reach()
        self._head = self._server.head
        self._checkpoint("after:fetch")
        return self._head

    def locate(self, path: str, name: str) -> Located:
        """Find the version file and what it has declared, as the real repository does."""
        head = self._head
        content, file = self._content(head, path), f"{path}/{FILE}"
        history: dict[tuple[str, str], HistoricVersion] = {}
        complete: set[tuple[str, str]] = set()
        changed_by = ""
        for commit in self._revisions(head, file):
            identity = read(commit.files[file], name).identity
            changed_by = changed_by or commit.id
            key = (identity.version, identity.digest)
            complete |= history.keys() - {key}
            if key not in complete:
                history[key] = HistoricVersion(history[key].identity if key in history else identity, commit.id)
        declared, versions = read(content, name), tuple(history.values())
        return Located(
            head=head,
            file=file,
            identity=declared.identity,
            rejected=declared.rejected,
            retry_of=declared.retry_of,
            set_by=versions[0].commit,
            changed_by=changed_by,
            history=versions,
        )

    def _revisions(self, head: str, file: str) -> list[Commit]:
        """List the commits that changed a file, the newest first."""
        log = [commit for commit in self._server.log(head) if file in commit.files]
        before = [commit.files[file] for commit in log[1:]]
        changes = [new for new, old in zip(log, before, strict=False) if new.files[file] != old]
        return [*changes, *log[-1:]]

    def _content(self, commit: str, path: str) -> bytes:
        file = f"{path}/{FILE}"
        if file not in self._server.commits[commit].files:
            raise VersionFileMissingError(f"{path} has no {FILE} at commit {commit[:10]}")
        return self._server.commits[commit].files[file]

    def contains(self, ancestor: str, descendant: str) -> bool:
        """Tell whether a commit is another one or comes before it."""
        self._reach()
        return any(commit.id == ancestor for commit in self._server.log(descendant))

    def rollback(self, requests: Sequence[RollbackRequest]) -> list[RollbackOutcome]:
        """Decide, commit and push, again and again until nobody else was faster."""
        reason, tried = "others push faster", set[str]()
        for _ in range(_ATTEMPTS):
            try:
                return self._attempt(requests, tried)
            except MovedError:
                continue
            except GitUnavailable as problem:
                reason = str(problem)
        return [Unavailable(reason)] * len(requests)

    def _attempt(self, requests: Sequence[RollbackRequest], tried: set[str]) -> list[RollbackOutcome]:
        tip = head = self.fetch()
        reached = {commit.id for commit in self._server.log(head)}
        outcomes: list[RollbackOutcome] = []
        for request in requests:
            outcome = self._decided(request, tip)
            if isinstance(outcome, AlreadyDone) and outcome.commit in tried:
                outcome = Committed(outcome.commit, self._now())
            made = outcome.commit if isinstance(outcome, Committed | Superseded) else None
            if made is not None and made not in reached:
                tip = made
                tried.add(made)
            outcomes.append(outcome)
        if tip != head:
            self._push(tip, head)
        return outcomes

    def _push(self, tip: str, seen: str) -> None:
        self._checkpoint("before:push")
        self._reach()
        self._server.push(self.branch, tip, seen=seen)
        if self._server.deaf:
            self._server.deaf -= 1
            raise GitUnavailable("The Git server did not answer the push")
        self._checkpoint("after:push")

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._server.clock(), UTC)

    def _decided(self, request: RollbackRequest, tip: str) -> RollbackOutcome:
        try:
            return self._carried(request, tip) or self._compared(request, tip)
        except VersionFileMissingError as missing:
            return Missing(str(missing))
        except VersionFileError as problem:
            return Refused(str(problem))

    def _carried(self, request: RollbackRequest, tip: str) -> AlreadyDone | Superseded | None:
        """Look for the commit that has done this already."""
        once, file = Mark.of(request).once, f"{request.path}/{FILE}"
        for commit in reversed(self._revisions(tip, file)):
            if once in commit.message.splitlines():
                says = read(commit.files[file], request.name).identity
                if _says(says, request.good):
                    return AlreadyDone(commit.id)
                if not _says(says, request.bad):
                    return Superseded(says.version, commit.id)
        return None

    def _compared(self, request: RollbackRequest, tip: str) -> RollbackOutcome:
        content = self._content(tip, request.path)
        declared = read(content, request.name)
        if _says(declared.identity, request.bad):
            made = self._restored(request, content, request.good, tip, rollback_message(request))
            return Committed(made, self._now())
        if _says(declared.identity, request.good):
            return AlreadyGood(tip)
        rejects = any((r.version, r.digest) == (request.bad.version, request.bad.digest) for r in declared.rejected)
        if rejects or not request.quarantine:
            return Superseded(declared.identity.version, None)
        message = quarantine_message(request, declared.identity.version)
        return Superseded(declared.identity.version, self._restored(request, content, declared.identity, tip, message))

    def _restored(
        self, request: RollbackRequest, content: bytes, identity: ModelIdentity, tip: str, message: str
    ) -> str:
        bad = request.bad
        after = restore(
            content,
            name=request.name,
            identity=identity,
            reject=Rejection(bad.version, bad.digest, request.rollback_id) if request.quarantine else None,
            drop_retry=identity == request.good,
        )
        return self._server.make(tip, {f"{request.path}/{FILE}": after}, message, "backstay")

    def propose(self, request: RollbackRequest | Change, *, branch: str) -> ProposalOutcome:
        """Put what would be committed on a branch of its own."""
        try:
            head = self.fetch()
            made = self._changed(request, head) if isinstance(request, Change) else self._decided(request, head)
            if not isinstance(made, Committed):
                return made
            there = self._server.branches.get(branch, "")
            tip = self._server.commits[there] if there else None
            if tip is not None and (tip.parent, tip.files) == (head, self._server.commits[made.commit].files):
                return Proposed(branch, there, head)
            self._server.push(branch, made.commit, seen=there)
        except GitUnavailable as problem:
            return Unavailable(str(problem))
        return Proposed(branch, made.commit, head)

    def _changed(self, change: Change, head: str) -> Committed | Unchanged | Refused:
        content = self._content(head, change.path)
        try:
            after = change.edit(content, read(content, change.name), f"{change.path}/{FILE}")
        except VersionFileError as problem:
            return Refused(str(problem))
        if after == content:
            return Unchanged(head)
        files = {f"{change.path}/{FILE}": after}
        return Committed(self._server.make(head, files, change_message(change), "backstay"), self._now())

    def withdraw(self, branch: str) -> None:
        """Delete a proposal's branch."""
        self._reach()
        self._server.branches.pop(branch, None)

    def close(self) -> None:
        """Release nothing."""


def version_file(name: str, version: str, *, more: str = "") -> bytes:
    """Write the file in which an environment declares a version; ``more`` are further lines of ``spec.model``."""
    lines = ["apiVersion: backstay.dev/v1alpha1", "kind: ModelDeployment", "metadata:", f"  name: {name}", "spec:"]
    lines += ["  model:", f'    version: "{version}"', *(f"    {line}" for line in more.splitlines())]
    return ("\n".join(lines) + "\n").encode()


@lru_cache(maxsize=4096)
def read(content: bytes, name: str) -> VersionFile:
    """Read a version file; the same one is asked for many times."""
    return read_version_file(content, name=name)


def _says(declared: ModelIdentity, wanted: ModelIdentity) -> bool:
    same_name = declared.name in {"", wanted.name}
    return declared.version == wanted.version and same_name and declared.digest in {"", wanted.digest}
