"""GitHub, and GitHub Enterprise Server."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from github import Auth, Github, GithubException
from github.PullRequest import PullRequest as Pull

from backstay.adapters.forge import (
    AwaitingMerge,
    Merged,
    MergeOutcome,
    Proposal,
    PullRequest,
    PullRequestState,
    Report,
)
from backstay.adapters.forge.place import READ_SECONDS, Place

_NOT_ALLOWED, _CONFLICT, _UNPROCESSABLE = 405, 409, 422
_STYLES = (("squash", "allow_squash_merge"), ("rebase", "allow_rebase_merge"), ("merge", "allow_merge_commit"))

# It logs whole requests.
logging.getLogger("github.Requester").setLevel(logging.WARNING)


class GitHub:
    """A repository at GitHub."""

    def __init__(self, place: Place, token: str) -> None:
        self._place = place
        # Its own retries wait for minutes where the rate limit is used up; the caller asks again anyway.
        client = Github(auth=Auth.Token(token), base_url=place.api, timeout=int(READ_SECONDS), retry=None, lazy=True)
        self._repository = client.get_repo(place.path)
        self._owner = place.path.partition("/")[0]

    def find(self, branch: str) -> PullRequest | None:
        """Return the newest pull request from a branch, whatever became of it."""
        with self._asking("list pull requests"):
            found = self._newest(branch)
            return _pull(found) if found else None

    def get(self, number: int) -> PullRequest:
        """Return a pull request."""
        with self._asking(f"show pull request {number}"):
            return _pull(self._repository.get_pull(number))

    def open(self, proposal: Proposal) -> PullRequest:
        """Open a pull request, or bring the one that is open for this branch up to date."""
        with self._asking(f"open a pull request for {proposal.branch}"):
            pull = self._newest(proposal.branch)
            if pull is None or pull.state != "open":
                pull = self._opened(proposal)
            return self._updated(pull, proposal)

    def update(self, number: int, proposal: Proposal) -> PullRequest:
        """Give a pull request another title, body and labels, where they differ."""
        with self._asking(f"change pull request {number}"):
            return self._updated(self._repository.get_pull(number), proposal)

    def merge(self, number: int, *, head: str, message: str) -> MergeOutcome:
        """Merge a pull request if its branch is still at ``head``; ``message`` is the whole commit message."""
        subject, _, rest = message.partition("\n")
        with self._asking(f"merge pull request {number}"):
            style = self._style()
            # Only a squash makes one commit that carries the message; a merge of that one repeats it in no trailer.
            text = rest.strip() if style == "squash" else ""
            pull = self._repository.get_pull(number)
            if not pull.merged:
                try:
                    merged = pull.merge(commit_title=subject, commit_message=text, merge_method=style, sha=head)
                except GithubException as error:
                    return self._refused(number, head, error)
                return Merged(str(merged.sha))
            return Merged(str(pull.merge_commit_sha))

    def close(self, number: int, *, comment: str) -> PullRequest:
        """Close a pull request without merging it, and say why."""
        with self._asking(f"close pull request {number}"):
            pull = self._repository.get_pull(number)
            if pull.state == "open":
                pull.create_issue_comment(comment)
                pull.edit(state="closed")
            return _pull(self._repository.get_pull(number))

    def comment(self, number: int, *, marker: str, body: str) -> None:
        """Write a comment, or another text into the one with the same marker."""
        text = f"<!-- {marker} -->\n{body}"
        with self._asking(f"comment on pull request {number}"):
            pull = self._repository.get_pull(number)
            for known in pull.get_issue_comments():
                if known.body.startswith(f"<!-- {marker} -->"):
                    if known.body != text:
                        known.edit(text)
                    return
            pull.create_issue_comment(text)

    def report(self, report: Report) -> str:
        """Open an issue, unless one of the newest has its marker, and return the address."""
        with self._asking("open an issue"):
            recent = self._repository.get_issues(state="all", sort="created", direction="desc").get_page(0)
            known = next((one for one in recent if report.mark in (one.body or "")), None)
            if known is None:
                known = self._repository.create_issue(report.title, body=report.text, labels=list(report.labels))
            return known.html_url

    def _newest(self, branch: str) -> Pull | None:
        pulls = self._repository.get_pulls(
            state="all", head=f"{self._owner}:{branch}", sort="created", direction="desc"
        )
        # What the server does not understand it leaves out, and then lists the pull requests of all branches.
        return next((pull for pull in pulls.get_page(0) if pull.head.ref == branch), None)

    def _opened(self, proposal: Proposal) -> Pull:
        try:
            return self._repository.create_pull(
                base=proposal.base, head=proposal.branch, title=proposal.title, body=proposal.body
            )
        except GithubException as error:
            # Somebody, or an earlier call whose answer was lost, may have opened it meanwhile.
            pull = self._newest(proposal.branch) if error.status == _UNPROCESSABLE else None
            if pull is None or pull.state != "open":
                raise
            return pull

    def _updated(self, pull: Pull, proposal: Proposal) -> PullRequest:
        if (pull.title, pull.body or "") != (proposal.title, proposal.body):
            pull.edit(title=proposal.title, body=proposal.body)
        missing = set(proposal.labels) - {label.name for label in pull.labels}
        if missing:
            try:
                # A label that the repository does not have is made by this.
                pull.add_to_labels(*sorted(missing))
            except GithubException:
                logging.getLogger(__name__).info("%s: no label on pull request %s", self._place.path, pull.number)
        return _pull(self._repository.get_pull(pull.number))

    def _style(self) -> str:
        repository: Any = self._repository
        return next((style for style, setting in _STYLES if getattr(repository, setting, False)), "merge")

    def _refused(self, number: int, head: str, error: GithubException) -> MergeOutcome:
        known = self._repository.get_pull(number)
        if known.merged:
            return Merged(str(known.merge_commit_sha))
        if error.status not in (_NOT_ALLOWED, _CONFLICT):
            raise error
        if known.head.sha != head:
            return AwaitingMerge("its branch has moved on meanwhile")
        return AwaitingMerge(self._place.clean(_said(error)) or "GitHub does not allow the merge yet")

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        with self._place.reached(what):
            try:
                yield
            except GithubException as error:
                raise self._place.problem(what, error.status, _said(error)) from None
            except requests.RequestException:
                raise


def _said(error: GithubException) -> str:
    """Return the server's message, with the reasons that it gives field by field."""
    data: Any = error.data
    if not isinstance(data, dict):
        return str(error.message or "")
    reasons = [str(one.get("message", "")) for one in data.get("errors") or () if isinstance(one, dict)]
    return "; ".join(part for part in (str(data.get("message", "")), *reasons) if part)


def _pull(pull: Pull) -> PullRequest:
    state = PullRequestState.MERGED if pull.merged_at else PullRequestState(pull.state)
    return PullRequest(
        number=pull.number,
        url=pull.html_url,
        branch=pull.head.ref,
        base=pull.base.ref,
        state=state,
        head=pull.head.sha,
        merge_commit=(pull.merge_commit_sha or "") if state is PullRequestState.MERGED else "",
        title=pull.title,
        body=pull.body or "",
        labels=tuple(sorted(label.name for label in pull.labels)),
    )
