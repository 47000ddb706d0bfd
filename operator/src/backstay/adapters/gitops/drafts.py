"""Decide what a request means for a branch as it is now, and make the commit for it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from backstay.adapters.git.clone import Clone
from backstay.adapters.git.command import GitError
from backstay.adapters.git.commit import NewCommit
from backstay.adapters.git.objects import TRAILERS
from backstay.adapters.gitops.changes import Change, Mark, Unchanged, change_message
from backstay.adapters.gitops.locate import Found, VersionFileMissingError, find, version_file
from backstay.adapters.gitops.outcomes import AlreadyDone, AlreadyGood, Missing, Refused, Superseded, Unavailable
from backstay.adapters.gitops.render import RenderError, RenderTimeoutError
from backstay.adapters.gitops.renders import Edit, Renders
from backstay.adapters.gitops.version_file import VersionFile, VersionFileError, read_version_file, restore
from backstay.adapters.messages.rollback_commit import RollbackRequest, quarantine_message, rollback_message
from backstay.domain.resource import ModelIdentity, Rejection

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

RollbackSettled = AlreadyDone | AlreadyGood | Superseded | Missing | Refused | Unavailable
ChangeSettled = AlreadyDone | Unchanged | Missing | Refused | Unavailable


@dataclass(frozen=True, slots=True)
class Draft:
    """A commit that waits for the push.

    Args:
        commit: its name in the clone.
        new: what it is made of, so that it can be made again on top of another commit.
        once: the trailer that at most one commit of the branch has; may be empty.
        reads: the paths that the decision rests on, each with all below it; the empty path is everything.
        newer_version: set where it only rejects the bad version.
    """

    commit: str
    new: NewCommit
    once: str
    reads: frozenset[str]
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

    def rollback(self, request: RollbackRequest, tip: str) -> Draft | RollbackSettled:
        """Compare what the file says with what failed, and commit on top of ``tip`` if it is that.

        ``tip`` is the branch's newest commit, or a draft on top of it.

        Raises:
            CloneBroken, GitUnavailable, GitRefused: the commit could not be made.
        """
        refused = f"Version {request.good.version} of {request.resource} was not restored in Git"
        return self._explained(refused, lambda: self._rolled_back(request, tip) or self._compared(request, tip))

    def change(self, change: Change, head: str) -> Draft | ChangeSettled:
        """Edit the file as it is at ``head``, and commit on top of that if the edit makes a difference.

        Raises:
            CloneBroken, GitUnavailable, GitRefused: the commit could not be made.
        """
        return self._explained(
            f"{change.name} was not changed in Git",
            lambda: self._changed(change, head) or self._edited(change, head),
        )

    def carried_over(self, drafts: Sequence[Draft], since: str, head: str) -> list[Draft] | None:
        """Make drafts again on top of a newer commit; None if what they were decided on has changed since then.

        Deciding again is slow beside this, and a branch that many push to must not keep a rollback out without end.

        Raises:
            CloneBroken, GitUnavailable, GitRefused: they could not be made.
        """
        if since != head:
            if not self._clone.is_ancestor(since, head):
                return None
            changed = self._clone.read("diff-tree", "-r", "-z", "--name-only", "--no-renames", since, head).split("\0")
            if any(within(path, read) for draft in drafts for read in draft.reads for path in changed if path):
                return None
            lines = set(self._clone.read("log", f"--format={TRAILERS}", f"{since}..{head}").split("\n"))
            if any(draft.once and draft.once in lines for draft in drafts):
                return None
        commits = self._clone.plant([draft.new for draft in drafts], onto=head)
        return [replace(draft, commit=commit) for draft, commit in zip(drafts, commits, strict=True)]

    def _carriers(self, request: RollbackRequest | Change, head: str, *, since: str) -> Iterator[tuple[str, bytes]]:
        """Look on the branch for the commits that change the version file and have the request's ID as a trailer.

        A merge, a squash and a rebase of a proposal all bring that trailer to the branch. A commit that quotes the ID
        elsewhere in its message, or changes other files, is passed over. The oldest comes first, with the file as it
        was then.
        """
        once = Mark.of(request).once
        if not once:
            return
        said = self._clone.read(
            "log",
            f"--format=%H%n{TRAILERS}%x00",
            "--extended-regexp",
            f"--grep=^{once.replace('.', '[.]')}$",
            f"{since}..{head}" if self._clone.is_ancestor(since, head) else head,
        )
        quoting = [entry.strip().split("\n") for entry in said.split("\0")[:-1]]
        named = [commit for commit, *trailers in reversed(quoting) if once in trailers]
        if not named:
            return
        file = version_file(self._clone, head, path=request.path, name=request.name)
        for commit in named:
            yield from (found for found in self._clone.revisions(commit, file, 1) if found[0] == commit)

    def _rolled_back(self, request: RollbackRequest, tip: str) -> AlreadyDone | Superseded | None:
        """Look for a commit that has done this rollback: the file must say in it what the request asks for."""
        for commit, content in self._carriers(request, tip, since=request.bad_commit):
            try:
                declared = read_version_file(content, name=request.name)
            except VersionFileError:
                continue
            if _says(declared.identity, request.good):
                return AlreadyDone(commit)
            if _rejects(declared, request.bad) and not _says(declared.identity, request.bad):
                return Superseded(declared.identity.version, commit)
        return None

    def _changed(self, change: Change, head: str) -> AlreadyDone | None:
        """Look for a commit that has made this change, which people may have edited before they merged it."""
        carrier = next(self._carriers(change, head, since=""), None)
        return AlreadyDone(carrier[0]) if carrier else None

    def _explained(self, refused: str, decide: Callable[[], T]) -> T | Missing | Refused | Unavailable:
        try:
            return decide()
        except VersionFileMissingError as error:
            return Missing(str(error))
        except RenderTimeoutError as error:
            return Unavailable(str(error))
        except (VersionFileError, RenderError) as error:
            return Refused(f"{refused}: {error}")
        except GitError:
            raise
        except OSError as error:
            return Unavailable(f"{refused} yet: the controller cannot use its work folder ({error})")
        except Exception as error:  # noqa: BLE001 - see below
            # Others have their changes in the same push: what is wrong with the files of one must not stop theirs.
            _LOG.exception("%s", refused)
            return Refused(
                f"{refused}: its files could not be checked ({type(error).__name__}: {error}); correct the folder, and "
                "report this sentence to the maintainers of Backstay"
            )

    def _edited(self, change: Change, head: str) -> Draft | Unchanged:
        found = find(self._clone, head, path=change.path, name=change.name)
        file = found.entry.path
        content = change.edit(found.content, found.declared, file)
        if content == found.content:
            return Unchanged(head)
        read_version_file(content, name=change.name, file=file)
        return self._draft(Mark.of(change).once, head, found, content=content, message=change_message(change))

    def _compared(self, request: RollbackRequest, tip: str) -> Draft | AlreadyGood | Superseded:
        found = find(self._clone, tip, path=request.path, name=request.name)
        declared = found.declared.identity
        if _says(declared, request.bad):
            return self._restored(request, found, tip, newer_version="")
        if _says(declared, request.good):
            return AlreadyGood(tip)
        return self._quarantine(request, found, tip)

    def _quarantine(self, request: RollbackRequest, found: Found, tip: str) -> Draft | Superseded:
        """Leave a newer version alone, and only reject the bad one if that does not bar the newer one too."""
        declared, bad = found.declared.identity, request.bad
        bars_newer = declared.version == bad.version and not bad.digest
        if _rejects(found.declared, bad) or not request.quarantine or bars_newer:
            return Superseded(declared.version, None)
        try:
            return self._restored(request, found, tip, newer_version=declared.version)
        except (VersionFileError, RenderError):
            return Superseded(declared.version, None)

    def _restored(self, request: RollbackRequest, found: Found, tip: str, *, newer_version: str) -> Draft:
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
        draft = self._draft(Mark.of(request).once, tip, found, content=content, message=message)
        if not found.rendered:
            return replace(draft, newer_version=newer_version)
        self._renders.check(
            Edit(tip, draft.commit, found, content),
            name=request.name,
            namespace=request.resource.partition("/")[0],
            version=newer_version or request.good.version,
        )
        return replace(draft, newer_version=newer_version, reads=draft.reads | self._renders.reads(found.folder))

    def _draft(self, once: str, tip: str, found: Found, *, content: bytes, message: str) -> Draft:
        commit = NewCommit(found.entry.path, found.entry.mode, content, message, self._author)
        return Draft(self._clone.plant([commit], onto=tip)[0], commit, once, frozenset({found.folder}))


def within(path: str, folder: str) -> bool:
    """Tell whether a path is another one or below it; everything is below the empty path."""
    return not folder or path == folder or path.startswith(f"{folder}/")


def _rejects(declared: VersionFile, bad: ModelIdentity) -> bool:
    return any((entry.version, entry.digest) == (bad.version, bad.digest) for entry in declared.rejected)


def _says(declared: ModelIdentity, wanted: ModelIdentity) -> bool:
    """Tell whether a file declares a version; name and digest may be left to the base that the overlay patches."""
    return (
        declared.version == wanted.version
        and declared.name in {"", wanted.name}
        and declared.digest in {"", wanted.digest}
    )
