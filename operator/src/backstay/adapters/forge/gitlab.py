"""GitLab, on gitlab.com or self-managed. Its pull requests are called merge requests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from gitlab import Gitlab, GitlabError

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

_UNAUTHORISED, _NOT_ALLOWED, _NOT_ACCEPTABLE, _CONFLICT, _UNPROCESSABLE = 401, 405, 406, 409, 422
_WAITING = {
    "not_approved": "it needs an approval",
    "checking": "GitLab is still looking for conflicts",
    "unchecked": "GitLab is still looking for conflicts",
    "preparing": "GitLab is still preparing it",
    "ci_must_pass": "its pipeline has to pass",
    "ci_still_running": "its pipeline is still running",
    "conflict": "it conflicts with its target branch",
    "discussions_not_resolved": "a discussion on it is not resolved",
    "draft_status": "it is a draft",
    "need_rebase": "it has to be rebased",
    "requested_changes": "a reviewer asks for changes",
    "blocked_status": "another merge request has to be merged first",
}
_STATES = {"opened": PullRequestState.OPEN, "locked": PullRequestState.OPEN}


class _Gitlab(Gitlab):
    """The library's client, which does not wait in the middle of a call until a rate limit allows another."""

    def http_request(self, *arguments: Any, **options: Any) -> requests.Response:
        return super().http_request(*arguments, **{"obey_rate_limit": False, **options})


class GitLab:
    """A project at GitLab."""

    def __init__(self, place: Place, token: str) -> None:
        self._place = place
        session = requests.Session()
        # A proxy or a .netrc of the machine has no say in where the token goes.
        session.trust_env = False
        client = _Gitlab(place.api, private_token=token, timeout=READ_SECONDS, session=session, per_page=50)
        self._project: Any = client.projects.get(place.path, lazy=True)

    def find(self, branch: str) -> PullRequest | None:
        """Return the newest merge request from a branch, whatever became of it."""
        with self._asking("list merge requests"):
            found = self._newest(branch)
            return _pull(found) if found else None

    def get(self, number: int) -> PullRequest:
        """Return a merge request."""
        with self._asking(f"show merge request {number}"):
            return _pull(self._project.mergerequests.get(number))

    def open(self, proposal: Proposal) -> PullRequest:
        """Open a merge request, or bring the one that is open for this branch up to date."""
        with self._asking(f"open a merge request for {proposal.branch}"):
            known = self._newest(proposal.branch)
            if known is None or known.state not in _STATES:
                known = self._opened(proposal)
            return self._updated(known, proposal)

    def update(self, number: int, proposal: Proposal) -> PullRequest:
        """Give a merge request another title, body and labels, where they differ."""
        with self._asking(f"change merge request {number}"):
            return self._updated(self._project.mergerequests.get(number), proposal)

    def merge(self, number: int, *, head: str, message: str) -> MergeOutcome:
        """Merge a merge request if its branch is still at ``head``; ``message`` is the whole commit message."""
        with self._asking(f"merge merge request {number}"):
            known = self._project.mergerequests.get(number)
            if known.state != "merged":
                try:
                    # The branch holds one commit with the message; the merge of it repeats no trailer.
                    subject = message.partition("\n")[0]
                    known.merge(sha=head, merge_commit_message=subject, should_remove_source_branch=True)
                except GitlabError as error:
                    return self._refused(number, head, error)
                known = self._project.mergerequests.get(number)
            if known.state != "merged":
                return AwaitingMerge(_waiting(known))
            return Merged(_merge_commit(known))

    def close(self, number: int, *, comment: str) -> PullRequest:
        """Close a merge request without merging it, and say why."""
        with self._asking(f"close merge request {number}"):
            known = self._project.mergerequests.get(number)
            if known.state in _STATES:
                known.notes.create({"body": comment})
                known.state_event = "close"
                known.save()
            return _pull(self._project.mergerequests.get(number))

    def comment(self, number: int, *, marker: str, body: str) -> None:
        """Write a comment, or another text into the one with the same marker."""
        text = f"<!-- {marker} -->\n{body}"
        with self._asking(f"comment on merge request {number}"):
            known = self._project.mergerequests.get(number, lazy=True)
            for note in known.notes.list(iterator=True):
                if note.body.startswith(f"<!-- {marker} -->"):
                    if note.body != text:
                        note.body = text
                        note.save()
                    return
            known.notes.create({"body": text})

    def report(self, report: Report) -> str:
        """Open an issue, unless one of the newest has its marker, and return the address."""
        with self._asking("open an issue"):
            recent = self._project.issues.list(scope="all", order_by="created_at", sort="desc", get_all=False)
            known = next((one for one in recent if report.mark in (one.description or "")), None)
            if known is None:
                labels = ",".join(report.labels)
                known = self._project.issues.create(
                    {"title": report.title, "description": report.text, "labels": labels}
                )
            return str(known.web_url)

    def _newest(self, branch: str) -> Any:
        found = self._project.mergerequests.list(
            source_branch=branch, state="all", order_by="created_at", sort="desc", get_all=False
        )
        return next((one for one in found if one.source_branch == branch), None)

    def _opened(self, proposal: Proposal) -> Any:
        wanted = {
            "source_branch": proposal.branch,
            "target_branch": proposal.base,
            "title": proposal.title,
            "description": proposal.body,
            # Labels that the project does not have are made by this.
            "labels": ",".join(proposal.labels),
            "remove_source_branch": True,
        }
        try:
            return self._project.mergerequests.create(wanted)
        except GitlabError as error:
            # Somebody, or an earlier call whose answer was lost, may have opened it meanwhile.
            known = self._newest(proposal.branch) if error.response_code == _CONFLICT else None
            if known is None or known.state not in _STATES:
                raise
            return known

    def _updated(self, known: Any, proposal: Proposal) -> PullRequest:
        wanted = sorted({*known.labels, *proposal.labels})
        if (known.title, known.description or "", sorted(known.labels)) != (proposal.title, proposal.body, wanted):
            known.title, known.description, known.labels = proposal.title, proposal.body, wanted
            known.save()
        return _pull(self._project.mergerequests.get(known.iid))

    def _refused(self, number: int, head: str, error: GitlabError) -> MergeOutcome:
        known = self._project.mergerequests.get(number)
        if known.state == "merged":
            return Merged(_merge_commit(known))
        if error.response_code == _UNAUTHORISED:
            return AwaitingMerge("the token's account may not merge it, so a person has to")
        if error.response_code not in (_NOT_ALLOWED, _NOT_ACCEPTABLE, _CONFLICT, _UNPROCESSABLE):
            raise error
        if known.sha != head:
            return AwaitingMerge("its branch has moved on meanwhile")
        return AwaitingMerge(_waiting(known))

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        with self._place.reached(what):
            try:
                yield
            except GitlabError as error:
                raise self._place.problem(what, error.response_code or 0, str(error.error_message)) from None


def _waiting(known: Any) -> str:
    status = str(getattr(known, "detailed_merge_status", ""))
    return _WAITING.get(status, f"GitLab does not allow the merge yet ({status or 'no reason given'})")


def _merge_commit(known: Any) -> str:
    """Return the commit on the target branch; after a fast-forward that is the branch's own."""
    return str(known.merge_commit_sha or getattr(known, "squash_commit_sha", None) or known.sha)


def _pull(known: Any) -> PullRequest:
    state = _STATES.get(known.state, PullRequestState.CLOSED)
    if known.state == "merged":
        state = PullRequestState.MERGED
    return PullRequest(
        number=int(known.iid),
        url=str(known.web_url),
        branch=str(known.source_branch),
        base=str(known.target_branch),
        state=state,
        head=str(known.sha or ""),
        merge_commit=_merge_commit(known) if state is PullRequestState.MERGED else "",
        title=str(known.title),
        body=str(known.description or ""),
        labels=tuple(sorted(known.labels)),
    )
