"""Write rollbacks and changes into a Git repository: one commit each, once, and never over somebody else's change."""

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

from backstay.adapters.forge.credentials import Credentials
from backstay.adapters.git.clone import Clone, Lease
from backstay.adapters.git.command import GitAbsent, GitProtected, GitRefused, GitUnavailable
from backstay.adapters.git_url import parse_url
from backstay.adapters.gitops.branch import Branch
from backstay.adapters.gitops.changes import Change, ChangeOutcome, Mark, ProposalOutcome, Proposed
from backstay.adapters.gitops.drafts import ChangeSettled, Draft, Drafts, RollbackSettled
from backstay.adapters.gitops.locate import Located, locate
from backstay.adapters.gitops.outcomes import (
    AlreadyDone,
    Committed,
    Missing,
    Refused,
    RollbackOutcome,
    Superseded,
    Unavailable,
)
from backstay.adapters.gitops.proposals import difference, refuse_branch, standing
from backstay.adapters.gitops.renders import Renders
from backstay.adapters.messages.rollback_commit import RollbackRequest

_AUTHOR = re.compile(r"(?P<name>[^<>\n]+) <(?P<mail>[^<>\s]+)>")

T = TypeVar("T")
_Rolled = dict[str, RollbackOutcome]


@dataclass(slots=True)
class _Memory(Generic[T]):
    """What the attempts of one call have decided at ``head``, and the commits that they have ``tried`` to push."""

    tried: set[str] = field(default_factory=set)
    head: str = ""
    settled: dict[str, T | Committed] = field(default_factory=dict)
    drafts: dict[str, Draft] = field(default_factory=dict)

    @property
    def last(self) -> str:
        """The commit that brings all drafts."""
        return list(self.drafts.values())[-1].commit

    def forget(self, head: str) -> None:
        """Begin to decide again."""
        self.head, self.settled, self.drafts = head, {}, {}

    def note(self, name: str, step: Draft | T) -> str:
        """Keep a decision, and return its commit if it is a new one."""
        if isinstance(step, Draft):
            self.drafts[name] = step
            self.tried.add(step.commit)
            return step.commit
        if isinstance(step, AlreadyDone) and step.commit in self.tried:
            self.settled[name] = Committed(step.commit, datetime.now(UTC))
        else:
            self.settled[name] = step
        return ""

    def replace(self, head: str, drafts: list[Draft]) -> None:
        """Keep the same decisions with other commits, on top of ``head``."""
        self.head, self.drafts = head, dict(zip(self.drafts, drafts, strict=True))
        self.tried.update(draft.commit for draft in drafts)


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

    @property
    def branch(self) -> str:
        """The name of the branch; that of a repository's default branch is known after the first fetch."""
        return self._clone.branch

    @property
    def tree(self) -> Path:
        """The files of the commit fetched last, for reading; the next call of any method may change them."""
        return self._clone.tree

    def message(self, commit: str) -> str:
        """Return the message of a commit of the branch; empty for one that the clone does not have.

        Raises:
            GitUnavailable: it could not be read.
        """
        with self._turn:
            if not self._clone.knows(commit):
                return ""
            return self._branch.healed(lambda: self._clone.read("log", "--max-count=1", "--format=%B", commit))

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
        memory = _Memory[RollbackOutcome]()
        with self._turn:
            outcomes = self._branch.tried(lambda: self._roll_back(once, memory))
        if not isinstance(outcomes, dict):
            return [outcomes] * len(requests)
        return [outcomes[request.rollback_id] for request in requests]

    def change(self, change: Change) -> ChangeOutcome:
        """Commit a change to the branch, on top of whatever it is by then; as careful as `rollback`."""
        memory = _Memory[ChangeOutcome]()
        with self._turn:
            return self._branch.tried(lambda: self._change(change, memory))

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

    def _roll_back(self, requests: list[RollbackRequest], memory: "_Memory[RollbackOutcome]") -> _Rolled:
        """Decide, commit and push once, from a fresh fetch."""
        if not self._carry_over(memory):
            memory.forget(self._branch.fetch())
            tip = memory.head
            for request in requests:
                with self._branch.mended():
                    step = self._drafts.rollback(request, tip)
                tip = memory.note(request.rollback_id, step) or tip
        if not memory.drafts:
            return memory.settled
        try:
            self._branch.push(memory.last)
        except GitRefused as error:
            if len(requests) > 1:
                # The server refuses a push as a whole; one resource's protected file must not hold up the others.
                alone = [self._roll_back([request], _Memory(tried=memory.tried)) for request in requests]
                return {name: outcome for found in alone for name, outcome in found.items()}
            return {name: _refused(draft, error) for name, draft in memory.drafts.items()}
        return memory.settled | {name: _pushed(draft) for name, draft in memory.drafts.items()}

    def _change(self, change: Change, memory: "_Memory[ChangeOutcome]") -> ChangeOutcome:
        if not self._carry_over(memory):
            memory.forget(self._branch.fetch())
            with self._branch.mended():
                memory.note("", self._drafts.change(change, memory.head))
        if not memory.drafts:
            return memory.settled[""]
        try:
            self._branch.push(memory.last)
        except GitRefused as error:
            return Refused(str(error), protected=isinstance(error, GitProtected))
        return Committed(memory.last, datetime.now(UTC))

    def _carry_over(self, memory: "_Memory[T]") -> bool:
        """Have what an earlier attempt has decided on top of what others have pushed since, if it still holds."""
        if not memory.drafts:
            return False
        head = self._branch.fetch(files=False)
        with self._branch.mended():
            drafts = self._drafts.carried_over(list(memory.drafts.values()), memory.head, head)
        if drafts is None:
            return False
        memory.replace(head, drafts)
        return True

    def _propose(self, request: RollbackRequest | Change, branch: str) -> ProposalOutcome:
        head = self._branch.fetch()
        with self._branch.mended():
            match request:
                case RollbackRequest():
                    draft: Draft | RollbackSettled | ChangeSettled = self._drafts.rollback(request, head)
                case Change():
                    draft = self._drafts.change(request, head)
            if not isinstance(draft, Draft):
                return draft
            if draft.newer_version:
                return Superseded(draft.newer_version, None)
            there, mark = standing(self._clone, branch, head), Mark.of(request)
            if there.holds(mark, difference(self._clone, head, draft.commit)):
                return Proposed(branch, there.tip, there.fork)
        if not there.only(mark, draft.new.path):
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
