"""A forge in memory: pull requests and issues of one repository."""

from dataclasses import dataclass, field, replace

from backstay.adapters.forge import (
    AwaitingMerge,
    Forge,
    ForgeUnavailable,
    Merged,
    MergeOutcome,
    Proposal,
    PullRequest,
    PullRequestState,
    Report,
)
from backstay_world.git import GitServer
from backstay_world.looptime import SimulatedLoop

_TAKES = 0.1
_URL = "https://git.example.com/ml/models"


@dataclass(slots=True)
class SimulatedForge(Forge):
    """Keeps pull requests and issues.

    It answers nothing before ``hangs_until``, a time of the loop: a call gives up after ``patience`` seconds.
    ``waits_for`` says what a merge waits for, where it waits.
    """

    git: GitServer
    loop: SimulatedLoop
    hangs_until: float = 0.0
    patience: float = 30.0
    waits_for: str = ""
    pulls: dict[int, PullRequest] = field(default_factory=dict)
    issues: dict[str, Report] = field(default_factory=dict)

    def reach(self) -> None:
        """Spend a call's time.

        Raises:
            ForgeUnavailable: it hangs.
        """
        left = self.hangs_until - self.loop.time()
        if left > 0:
            self.loop.spend(min(left, self.patience))
            raise ForgeUnavailable(f"The forge at {_URL} does not answer")
        self.loop.spend(_TAKES)

    def find(self, branch: str) -> PullRequest | None:
        """Return the newest pull request from a branch."""
        self.reach()
        return next((pull for pull in reversed(self.pulls.values()) if pull.branch == branch), None)

    def get(self, number: int) -> PullRequest:
        """Return a pull request."""
        self.reach()
        return self.pulls[number]

    def open(self, proposal: Proposal) -> PullRequest:
        """Open a pull request, or bring the open one up to date."""
        known = self.find(proposal.branch)
        if known is not None and known.state is PullRequestState.OPEN:
            return self.update(known.number, proposal)
        number = len(self.pulls) + 1
        made = PullRequest(
            number=number,
            url=f"{_URL}/pulls/{number}",
            branch=proposal.branch,
            base=proposal.base,
            state=PullRequestState.OPEN,
            head=self.git.branches[proposal.branch],
            merge_commit="",
            title=proposal.title,
            body=proposal.body,
            labels=proposal.labels,
        )
        self.pulls[number] = made
        return made

    def update(self, number: int, proposal: Proposal) -> PullRequest:
        """Give a pull request another text."""
        self.reach()
        head = self.git.branches.get(proposal.branch, "")
        texts = {"title": proposal.title, "body": proposal.body, "labels": proposal.labels}
        self.pulls[number] = replace(self.pulls[number], head=head, **texts)  # type: ignore[arg-type]  # texts and labels
        return self.pulls[number]

    def merge(self, number: int, *, head: str, message: str) -> MergeOutcome:
        """Merge a pull request that is at ``head``, as a squash with this message."""
        self.reach()
        pull = self.pulls[number]
        if self.waits_for or self.git.branches.get(pull.branch) != head:
            return AwaitingMerge(self.waits_for or "its branch has moved")
        before = self.git.commits[self.git.commits[head].parent].files
        files = {path: text for path, text in self.git.commits[head].files.items() if before.get(path) != text}
        commit = self.git.commit(files, message, "forge")
        self.pulls[number] = replace(pull, state=PullRequestState.MERGED, merge_commit=commit)
        return Merged(commit)

    def close(self, number: int, *, comment: str) -> PullRequest:
        """Close a pull request."""
        del comment
        self.reach()
        self.pulls[number] = replace(self.pulls[number], state=PullRequestState.CLOSED)
        return self.pulls[number]

    def comment(self, number: int, *, marker: str, body: str) -> None:
        """Take a comment and forget it."""
        del number, marker, body
        self.reach()

    def report(self, report: Report) -> str:
        """Open an issue once."""
        self.reach()
        self.issues.setdefault(report.marker, report)
        return f"{_URL}/issues/{list(self.issues).index(report.marker) + 1}"
