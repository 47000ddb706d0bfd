"""Write rollbacks into a Git repository: one commit each, once, and never over somebody else's change."""

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from backstay.adapters.credentials import Credentials
from backstay.adapters.gitclone import Clone
from backstay.adapters.gitcommand import CloneBroken, GitAbsent, GitError, GitRace, GitRefused, GitUnavailable
from backstay.adapters.gitlocate import Found, Located, VersionFileMissingError, find, locate
from backstay.adapters.giturl import parse_url
from backstay.adapters.render import RenderError, RenderTimeoutError
from backstay.adapters.renders import Edit, Renders
from backstay.adapters.rollbackcommit import (
    ID_TRAILER,
    SUPERSEDED_TRAILER,
    AlreadyDone,
    AlreadyGood,
    Committed,
    Missing,
    Refused,
    RollbackOutcome,
    RollbackRequest,
    Superseded,
    Unavailable,
    quarantine_message,
    rollback_message,
)
from backstay.adapters.versionfile import VersionFileError, restore
from backstay.domain.resource import ModelIdentity, Rejection

_ATTEMPTS = 8
_AUTHOR = re.compile(r"(?P<name>[^<>\n]+) <(?P<mail>[^<>\s]+)>")

T = TypeVar("T")


class _PushUnsureError(GitError):
    """A push failed in a way that does not tell whether it arrived."""


@dataclass(frozen=True, slots=True)
class _Written:
    """A commit that waits for the push; ``newer_version`` is set where it only quarantines."""

    request: RollbackRequest
    commit: str
    newer_version: str

    def pushed(self) -> RollbackOutcome:
        if self.newer_version:
            return Superseded(self.newer_version, self.commit)
        return Committed(self.commit, datetime.now(UTC))

    def refused(self, error: GitRefused) -> RollbackOutcome:
        if self.newer_version:
            return Superseded(self.newer_version, None)
        return Refused(str(error))


class Repository:
    """The only writer to one branch of one repository. Every method blocks; calls from several threads take turns.

    Args:
        url: an http, https, ssh or file URL.
        branch: the branch to write to; empty for the repository's default branch.
        workdir: a folder of its own for the local clone; a second process given the same one gets GitUnavailable.
        credentials: where to find the credential, or None to use none.
        author: ``Name <mail>`` of the commits.
        checkpoint: called with ``before:fetch``, ``after:fetch``, ``before:push``, ``after:push``, for fault injection.

    Raises:
        ValueError: URL, branch or author cannot be one.
    """

    def __init__(  # noqa: PLR0913 - what one repository is, by keyword
        self,
        url: str,
        branch: str,
        *,
        workdir: Path,
        credentials: Credentials | None = None,
        author: str = "Backstay <backstay@localhost>",
        checkpoint: Callable[[str], None] = lambda _: None,
    ) -> None:
        person = _AUTHOR.fullmatch(author)
        if person is None:
            raise ValueError(f"{author!r} cannot be the author of a commit; write it as Name <mail>")
        self._author = (person["name"], person["mail"])
        self._clone = Clone(parse_url(url), branch, workdir, credentials=credentials)
        self._workdir = workdir
        self._checkpoint = checkpoint
        self._turn = threading.Lock()
        self._head = ""
        self._renders = Renders(self._clone, home=workdir)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the work folder."""
        with self._turn:
            self._clone.close()

    def fetch(self) -> str:
        """Fetch the branch and return its newest commit; the first call clones.

        Raises:
            GitUnavailable, GitRefused, GitAbsent: why it could not be read.
        """
        with self._turn:
            head = self._fetch()
            self._clone.tidy()
            return head

    def locate(self, path: str, name: str) -> Located:
        """Find a ModelDeployment's version file at the commit fetched last, and the versions it has declared.

        Raises:
            VersionFileError: there is none (VersionFileMissingError), or it cannot be used.
            GitUnavailable, GitRefused, GitAbsent: why the repository could not be read.
        """
        with self._turn:
            return self._healed(lambda: locate(self._clone, self._head or self._fetch(), path=path, name=name))

    def contains(self, ancestor: str, descendant: str) -> bool:
        """Tell whether a commit is another one or comes before it; an unknown commit is looked for on the branch.

        Raises:
            GitUnavailable, GitRefused, GitAbsent: why the branch could not be read.
        """
        if ancestor == descendant:
            return True
        with self._turn:
            return self._healed(lambda: self._contains(ancestor, descendant))

    def rollback(self, requests: Sequence[RollbackRequest]) -> list[RollbackOutcome]:
        """Write rollbacks, a commit each and all in one push, and return what came of each.

        Every attempt starts from the branch as it is then, and looks for the commits of earlier attempts first. So a
        call repeated after an unknown end does no harm. What the repository does is an outcome, not an exception.
        """
        with self._turn:
            outcomes = self._settle(list({request.rollback_id: request for request in requests}.values()))
        return [outcomes[request.rollback_id] for request in requests]

    def _settle(self, requests: list[RollbackRequest]) -> dict[str, RollbackOutcome]:
        tried: set[str] = set()
        attempts = Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.5, min=0.25, max=2),
            retry=retry_if_exception_type((GitRace, _PushUnsureError, CloneBroken)),
            reraise=True,
        )
        try:
            return attempts(self._attempt, requests, tried) if requests else {}
        except GitRefused as error:
            outcome: RollbackOutcome = Refused(str(error))
        except GitAbsent as error:
            outcome = Missing(str(error))
        except GitError as error:
            outcome = Unavailable(str(error))
        return {request.rollback_id: outcome for request in requests}

    def _attempt(self, requests: list[RollbackRequest], tried: set[str]) -> dict[str, RollbackOutcome]:
        """Decide, commit and push once, from a fresh fetch."""
        head = tip = self._fetch()
        outcomes: dict[str, RollbackOutcome] = {}
        written: list[_Written] = []
        for request in requests:
            try:
                step = self._recorded(request, head, tried) or self._write(request, tip)
            except CloneBroken:
                self._clone.discard()
                raise
            if isinstance(step, _Written):
                written.append(step)
                tip = step.commit
            else:
                outcomes[request.rollback_id] = step
        if not written:
            return outcomes
        tried.update(step.commit for step in written)
        try:
            self._push(tip)
        except GitRefused as error:
            if len(requests) > 1:
                # The server refuses a push as a whole; one resource's protected file must not hold up the others.
                alone = [self._attempt([request], tried) for request in requests]
                return {name: outcome for found in alone for name, outcome in found.items()}
            return {step.request.rollback_id: step.refused(error) for step in written}
        return outcomes | {step.request.rollback_id: step.pushed() for step in written}

    def _recorded(self, request: RollbackRequest, head: str, tried: set[str]) -> RollbackOutcome | None:
        """Look for a commit that an earlier attempt has brought to the branch."""
        since = request.bad_commit
        bounded = self._clone.is_ancestor(since, head)
        found = self._clone.read(
            "log",
            f"--format=%H %(trailers:key={SUPERSEDED_TRAILER},valueonly,separator=%x20)",
            "--extended-regexp",
            f"--grep=^{ID_TRAILER}: {request.rollback_id.replace('.', '[.]')}$",
            f"{since}..{head}" if bounded else head,
        )
        if not found:
            return None
        commit, _, newer_version = found.splitlines()[-1].partition(" ")
        if newer_version:
            return Superseded(newer_version, commit)
        return Committed(commit, datetime.now(UTC)) if commit in tried else AlreadyDone(commit)

    def _write(self, request: RollbackRequest, tip: str) -> _Written | RollbackOutcome:
        """Compare what the file says with what failed, and commit on top of ``tip`` if it is that."""
        try:
            found = find(self._clone, tip, path=request.path, name=request.name)
            declared = found.declared.identity
            if not _says(declared, request.bad):
                return AlreadyGood(tip) if _says(declared, request.good) else self._quarantine(request, found, tip)
            return _Written(request, self._commit(request, found, tip, newer_version=""), "")
        except VersionFileMissingError as error:
            return Missing(str(error))
        except RenderTimeoutError as error:
            return Unavailable(str(error))
        except (VersionFileError, RenderError) as error:
            return Refused(f"Version {request.good.version} of {request.resource} was not restored in Git: {error}")

    def _quarantine(self, request: RollbackRequest, found: Found, tip: str) -> _Written | RollbackOutcome:
        """Leave a newer version alone, and only reject the bad one if that does not bar the newer one too."""
        declared, bad = found.declared.identity, request.bad
        known = any((entry.version, entry.digest) == (bad.version, bad.digest) for entry in found.declared.rejected)
        if known or not request.quarantine or (declared.version == bad.version and not bad.digest):
            return Superseded(declared.version, None)
        try:
            commit = self._commit(request, found, tip, newer_version=declared.version)
        except (VersionFileError, RenderError):
            return Superseded(declared.version, None)
        return _Written(request, commit, declared.version)

    def _commit(self, request: RollbackRequest, found: Found, tip: str, *, newer_version: str) -> str:
        bad = request.bad
        content = restore(
            found.content,
            name=request.name,
            identity=found.declared.identity if newer_version else request.good,
            reject=Rejection(bad.version, bad.digest, request.rollback_id) if request.quarantine else None,
            drop_retry=not newer_version,
            file=found.entry.path,
        )
        message = quarantine_message(request, newer_version) if newer_version else rollback_message(request)
        commit = self._clone.commit(tip, found.entry, content, message=message, author=self._author)
        if found.rendered:
            version = newer_version or request.good.version
            if tip != self._head:
                self._clone.checkout(tip)
            namespace = request.resource.partition("/")[0]
            self._renders.check(Edit(tip, found, content), name=request.name, namespace=namespace, version=version)
        return commit

    def _fetch(self) -> str:
        self._checkpoint("before:fetch")
        self._head = self._clone.fetch()
        self._checkpoint("after:fetch")
        return self._head

    def _push(self, commit: str) -> None:
        self._checkpoint("before:push")
        try:
            self._clone.push(commit)
        except (GitRace, GitRefused):
            raise
        except GitError as error:
            if isinstance(error, CloneBroken):
                self._clone.discard()
            raise _PushUnsureError(str(error)) from None
        self._checkpoint("after:push")

    def _contains(self, ancestor: str, descendant: str) -> bool:
        known = self._head and self._clone.knows(ancestor) and self._clone.knows(descendant)
        if not known:
            self._fetch()
        return self._clone.is_ancestor(ancestor, descendant)

    def _healed(self, read: Callable[[], T]) -> T:
        """Read from the clone, and once more from a new one if it turns out to be damaged."""
        try:
            return read()
        except CloneBroken:
            self._clone.discard()
            self._head = ""
        try:
            return read()
        except CloneBroken as error:
            raise GitUnavailable(str(error)) from None


def _says(declared: ModelIdentity, wanted: ModelIdentity) -> bool:
    """Tell whether a file declares a version; name and digest may be left to the base that the overlay patches."""
    return (
        declared.version == wanted.version
        and declared.name in {"", wanted.name}
        and declared.digest in {"", wanted.digest}
    )
