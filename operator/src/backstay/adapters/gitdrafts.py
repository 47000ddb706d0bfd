"""Decide what a request means for a branch as it is now, and make the commit for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from backstay.adapters.changes import Change, Mark, Unchanged, change_message
from backstay.adapters.gitclone import Clone
from backstay.adapters.gitcommit import NewCommit
from backstay.adapters.gitlocate import Found, VersionFileMissingError, find
from backstay.adapters.render import RenderError, RenderTimeoutError
from backstay.adapters.renders import Edit, Renders
from backstay.adapters.rollbackcommit import (
    SUPERSEDED_TRAILER,
    AlreadyDone,
    AlreadyGood,
    Missing,
    Refused,
    RollbackRequest,
    Superseded,
    Unavailable,
    quarantine_message,
    rollback_message,
)
from backstay.adapters.versionfile import VersionFileError, read_version_file, restore
from backstay.domain.resource import ModelIdentity, Rejection

T = TypeVar("T")

RollbackSettled = AlreadyDone | AlreadyGood | Superseded | Missing | Refused | Unavailable
ChangeSettled = AlreadyDone | Unchanged | Missing | Refused | Unavailable


@dataclass(frozen=True, slots=True)
class Draft:
    """A commit of one file that waits for the push. ``newer_version`` is set where it only rejects the bad version."""

    commit: str
    file: str
    newer_version: str = ""


class Drafts:
    """Makes the commits of one clone, on top of the commit that is given with each request.

    Args:
        clone: where the commits are made.
        renders: what shows that an edit changes nothing else.
        author: name and mail.
    """

    def __init__(self, clone: Clone, renders: Renders, *, author: tuple[str, str]) -> None:
        self._clone = clone
        self._renders = renders
        self._author = author

    def rollback(self, request: RollbackRequest, tip: str, *, head: str) -> Draft | RollbackSettled:
        """Compare what the file says with what failed, and commit on top of ``tip`` if it is that.

        ``head`` is the branch's newest commit, whose files are checked out; ``tip`` may hold commits of ours besides.

        Raises:
            CloneBroken, GitUnavailable, GitRefused: the commit could not be made.
        """
        found = self._recorded(request, head, since=request.bad_commit)
        if found:
            commit, newer_version = found
            return Superseded(newer_version, commit) if newer_version else AlreadyDone(commit)
        refused = f"Version {request.good.version} of {request.resource} was not restored in Git"
        return self._explained(refused, lambda: self._compared(request, tip, head))

    def change(self, change: Change, head: str) -> Draft | ChangeSettled:
        """Edit the file as it is at ``head``, and commit on top of that if the edit makes a difference.

        Raises:
            CloneBroken, GitUnavailable, GitRefused: the commit could not be made.
        """
        found = self._recorded(change, head, since="")
        if found:
            return AlreadyDone(found[0])
        return self._explained(f"{change.name} was not changed in Git", lambda: self._edited(change, head))

    def _recorded(self, request: RollbackRequest | Change, head: str, *, since: str) -> tuple[str, str] | None:
        """Look on the branch for the commit of an earlier attempt, and what it says was newer.

        A merge, a squash and a rebase of a proposal all bring its trailer to the branch.
        """
        once = Mark.of(request).once
        if not once:
            return None
        lines = self._clone.read(
            "log",
            f"--format=%H %(trailers:key={SUPERSEDED_TRAILER},valueonly,separator=%x20)",
            "--extended-regexp",
            f"--grep=^{once.replace('.', '[.]')}$",
            f"{since}..{head}" if self._clone.is_ancestor(since, head) else head,
        ).splitlines()
        if not lines:
            return None
        commit, _, newer_version = lines[-1].partition(" ")
        return commit, newer_version

    def _explained(self, refused: str, decide: Callable[[], T]) -> T | Missing | Refused | Unavailable:
        try:
            return decide()
        except VersionFileMissingError as error:
            return Missing(str(error))
        except RenderTimeoutError as error:
            return Unavailable(str(error))
        except (VersionFileError, RenderError) as error:
            return Refused(f"{refused}: {error}")

    def _edited(self, change: Change, head: str) -> Draft | Unchanged:
        found = find(self._clone, head, path=change.path, name=change.name)
        file = found.entry.path
        content = change.edit(found.content, found.declared, file)
        if content == found.content:
            return Unchanged(head)
        read_version_file(content, name=change.name, file=file)
        return Draft(self._commit(head, found, content, change_message(change)), file)

    def _compared(self, request: RollbackRequest, tip: str, head: str) -> Draft | AlreadyGood | Superseded:
        found = find(self._clone, tip, path=request.path, name=request.name)
        declared = found.declared.identity
        if _says(declared, request.bad):
            return self._restored(request, found, (tip, head), newer_version="")
        if _says(declared, request.good):
            return AlreadyGood(tip)
        return self._quarantine(request, found, (tip, head))

    def _quarantine(self, request: RollbackRequest, found: Found, place: tuple[str, str]) -> Draft | Superseded:
        """Leave a newer version alone, and only reject the bad one if that does not bar the newer one too."""
        declared, bad = found.declared.identity, request.bad
        known = any((entry.version, entry.digest) == (bad.version, bad.digest) for entry in found.declared.rejected)
        if known or not request.quarantine or (declared.version == bad.version and not bad.digest):
            return Superseded(declared.version, None)
        try:
            return self._restored(request, found, place, newer_version=declared.version)
        except (VersionFileError, RenderError):
            return Superseded(declared.version, None)

    def _restored(self, request: RollbackRequest, found: Found, place: tuple[str, str], *, newer_version: str) -> Draft:
        (tip, head), bad = place, request.bad
        content = restore(
            found.content,
            name=request.name,
            identity=found.declared.identity if newer_version else request.good,
            reject=Rejection(bad.version, bad.digest, request.rollback_id) if request.quarantine else None,
            drop_retry=not newer_version,
            file=found.entry.path,
        )
        message = quarantine_message(request, newer_version) if newer_version else rollback_message(request)
        commit = self._commit(tip, found, content, message)
        if found.rendered:
            version = newer_version or request.good.version
            if tip != head:
                self._clone.checkout(tip)
            namespace = request.resource.partition("/")[0]
            self._renders.check(Edit(tip, found, content), name=request.name, namespace=namespace, version=version)
        return Draft(commit, found.entry.path, newer_version)

    def _commit(self, tip: str, found: Found, content: bytes, message: str) -> str:
        entry = found.entry
        return self._clone.commit(NewCommit(tip, entry.path, entry.mode, content, message, self._author))


def _says(declared: ModelIdentity, wanted: ModelIdentity) -> bool:
    """Tell whether a file declares a version; name and digest may be left to the base that the overlay patches."""
    return (
        declared.version == wanted.version
        and declared.name in {"", wanted.name}
        and declared.digest in {"", wanted.digest}
    )
