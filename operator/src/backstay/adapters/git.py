"""Write rollbacks and changes into a Git repository: one commit each, once, and never over somebody else's change."""

import re
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from backstay.adapters.changes import Change, ChangeOutcome, Mark, ProposalOutcome, Proposed
from backstay.adapters.credentials import Credentials
from backstay.adapters.gitbranch import Branch
from backstay.adapters.gitclone import Clone, Lease
from backstay.adapters.gitcommand import (
    GitAbsent,
    GitProtected,
    GitRefused,
    GitUnavailable,
)
from backstay.adapters.gitdrafts import ChangeSettled, Draft, Drafts, RollbackSettled
from backstay.adapters.gitlocate import Located, locate
from backstay.adapters.giturl import parse_url
from backstay.adapters.proposals import difference, refuse_branch, standing
from backstay.adapters.renders import Renders
from backstay.adapters.rollbackcommit import (
    AlreadyDone,
    Committed,
    Missing,
    Refused,
    RollbackOutcome,
    RollbackRequest,
    Superseded,
    Unavailable,
)

_AUTHOR = re.compile(r"(?P<name>[^<>\n]+) <(?P<mail>[^<>\s]+)>")

T = TypeVar("T")


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
        self._clone = Clone(parse_url(url), branch, workdir, credentials=credentials)
        self._branch = Branch(self._clone, checkpoint)
        self._turn = threading.Lock()
        renders = Renders(self._clone, home=workdir)
        self._drafts = Drafts(self._clone, renders, author=(person["name"], person["mail"]))

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
            head = self._branch.fetch()
            self._clone.tidy()
            return head

    def locate(self, path: str, name: str) -> Located:
        """Find a ModelDeployment's version file at the commit fetched last, and the versions it has declared.

        Raises:
            VersionFileError: there is none (VersionFileMissingError), or it cannot be used.
            GitUnavailable, GitRefused, GitAbsent: why the repository could not be read.
        """
        with self._turn:
            return self._branch.healed(lambda: locate(self._clone, self._branch.head, path=path, name=name))

    def contains(self, ancestor: str, descendant: str) -> bool:
        """Tell whether a commit is another one or comes before it; an unknown commit is looked for on the branch.

        Raises:
            GitUnavailable, GitRefused, GitAbsent: why the branch could not be read.
        """
        if ancestor == descendant:
            return True
        with self._turn:
            return self._branch.healed(lambda: self._branch.contains(ancestor, descendant))

    def rollback(self, requests: Sequence[RollbackRequest]) -> list[RollbackOutcome]:
        """Write rollbacks, a commit each and all in one push, and return what came of each.

        Every attempt starts from the branch as it is then, and looks for the commits of earlier attempts first. So a
        call repeated after an unknown end does no harm. What the repository does is an outcome, not an exception.
        """
        once = list({request.rollback_id: request for request in requests}.values())
        if not once:
            return []
        tried: set[str] = set()
        with self._turn:
            outcomes = self._branch.tried(lambda: self._roll_back(once, tried))
        if not isinstance(outcomes, dict):
            return [outcomes] * len(requests)
        return [outcomes[request.rollback_id] for request in requests]

    def change(self, change: Change) -> ChangeOutcome:
        """Commit a change to the branch, on top of whatever it is by then; as careful as `rollback`."""
        tried: set[str] = set()
        with self._turn:
            return self._branch.tried(lambda: self._change(change, tried))

    def propose(self, request: RollbackRequest | Change, *, branch: str) -> ProposalOutcome:
        """Put what `rollback` or `change` would commit on a branch of its own, for a pull request.

        What is there already from an earlier call stays as it is while it fits the base branch, and is made again when
        the version file has changed there. A rollback that came too late is Superseded, without the rejection that
        `rollback` would add.

        Args:
            request: what to propose.
            branch: its branch, below ``backstay/``. One that holds commits of others is not touched.

        Raises:
            ValueError: the branch cannot be one for proposals.
        """
        refuse_branch(branch)
        with self._turn:
            return self._branch.tried(lambda: self._propose(request, branch))

    def withdraw(self, branch: str) -> None:
        """Delete the branch of a proposal; one that is gone already is no error.

        Raises:
            ValueError: the branch cannot be one for proposals.
            GitUnavailable, GitRefused, GitAbsent: it was not deleted; GitRefused where it holds commits of others.
        """
        refuse_branch(branch)
        with self._turn:
            outcome = self._branch.tried(lambda: self._withdraw(branch))
        match outcome:
            case Refused(reason):
                raise GitRefused(reason)
            case Missing(reason):
                raise GitAbsent(reason)
            case Unavailable(reason):
                raise GitUnavailable(reason)

    def _roll_back(self, requests: list[RollbackRequest], tried: set[str]) -> dict[str, RollbackOutcome]:
        """Decide, commit and push once, from a fresh fetch."""
        head = tip = self._branch.fetch()
        outcomes: dict[str, RollbackOutcome] = {}
        drafts: dict[str, Draft] = {}
        for request in requests:
            with self._branch.mended():
                step = self._drafts.rollback(request, tip, head=head)
            if isinstance(step, Draft):
                drafts[request.rollback_id] = step
                tip = step.commit
            else:
                outcomes[request.rollback_id] = _ours_or_known(step, tried)
        if not drafts:
            return outcomes
        tried.update(draft.commit for draft in drafts.values())
        try:
            self._branch.push(tip)
        except GitRefused as error:
            if len(requests) > 1:
                # The server refuses a push as a whole; one resource's protected file must not hold up the others.
                alone = [self._roll_back([request], tried) for request in requests]
                return {name: outcome for found in alone for name, outcome in found.items()}
            return {name: _refused(draft, error) for name, draft in drafts.items()}
        return outcomes | {name: _pushed(draft) for name, draft in drafts.items()}

    def _change(self, change: Change, tried: set[str]) -> ChangeOutcome:
        head = self._branch.fetch()
        with self._branch.mended():
            step = self._drafts.change(change, head)
        if not isinstance(step, Draft):
            return _ours_or_known(step, tried)
        tried.add(step.commit)
        try:
            self._branch.push(step.commit)
        except GitRefused as error:
            return Refused(str(error), protected=isinstance(error, GitProtected))
        return Committed(step.commit, datetime.now(UTC))

    def _propose(self, request: RollbackRequest | Change, branch: str) -> ProposalOutcome:
        head = self._branch.fetch()
        with self._branch.mended():
            match request:
                case RollbackRequest():
                    draft: Draft | RollbackSettled | ChangeSettled = self._drafts.rollback(request, head, head=head)
                case Change():
                    draft = self._drafts.change(request, head)
            if not isinstance(draft, Draft):
                return draft
            if draft.newer_version:
                return Superseded(draft.newer_version, None)
            there, mark = standing(self._clone, branch, head), Mark.of(request)
            if there.holds(mark, difference(self._clone, head, draft.commit)):
                return Proposed(branch, there.tip, there.fork)
        if not there.only(mark, draft.file):
            return Refused(_foreign(branch))
        self._branch.push(draft.commit, Lease(branch, there.tip))
        return Proposed(branch, draft.commit, head)

    def _withdraw(self, branch: str) -> None:
        head = self._branch.fetch()
        with self._branch.mended():
            there = standing(self._clone, branch, head)
        if there.tip and not there.proposed:
            raise GitRefused(_foreign(branch))
        if there.tip:
            self._branch.push("", Lease(branch, there.tip))


def _ours_or_known(step: T, tried: set[str]) -> T | Committed:
    """Tell a commit that an attempt of this call has made from one that was there before."""
    if isinstance(step, AlreadyDone) and step.commit in tried:
        return Committed(step.commit, datetime.now(UTC))
    return step


def _pushed(draft: Draft) -> RollbackOutcome:
    if draft.newer_version:
        return Superseded(draft.newer_version, draft.commit)
    return Committed(draft.commit, datetime.now(UTC))


def _refused(draft: Draft, error: GitRefused) -> RollbackOutcome:
    if draft.newer_version:
        return Superseded(draft.newer_version, None)
    return Refused(str(error), protected=isinstance(error, GitProtected))


def _foreign(branch: str) -> str:
    return (
        f"The branch {branch} holds commits of others, so it was left alone; rename it, or delete it if nobody needs it"
    )
