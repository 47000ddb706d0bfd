"""Gitea, and Forgejo, which speaks the same."""

from collections.abc import Iterator, Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed
from urllib3.util import Retry

from backstay.adapters.forge import (
    AwaitingMerge,
    Merged,
    MergeOutcome,
    Proposal,
    PullRequest,
    PullRequestState,
    Report,
)
from backstay.adapters.forge.place import CONNECT_SECONDS, READ_SECONDS, Place

_PAGE, _MOST_PAGES = 50, 10
_COLOUR = "#1d76db"
# What Gitea says while it has not looked for conflicts yet, which it does in the background.
_STILL_CHECKING = "please try again later"
# What git says there of a conflict that Gitea did not look for before; the status is that of a fault.
_CONFLICTS = "CONFLICT ("
_PATIENCE, _PAUSE = 10.0, 0.3
_NOT_FOUND, _NOT_ALLOWED, _CONFLICT = 404, 405, 409
_STYLES = (
    ("squash", "allow_squash_merge"),
    ("rebase", "allow_rebase"),
    ("fast-forward-only", "allow_fast_forward_only_merge"),
    ("merge", "allow_merge_commits"),
)


class Gitea:
    """A repository at a Gitea server."""

    def __init__(self, place: Place, token: str) -> None:
        self._place = place
        self._session = requests.Session()
        # A proxy or a .netrc of the machine has no say in where the token goes.
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"token {token}"
        again = Retry(total=2, backoff_factor=0.2, status_forcelist=(502, 503, 504), raise_on_status=False)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=again))

    def find(self, branch: str) -> PullRequest | None:
        """Return the newest pull request from a branch, whatever became of it."""
        found = [pull for pull in self._recent() if _is_from(pull, branch)]
        return _pull(max(found, key=lambda pull: int(pull["number"]))) if found else None

    def get(self, number: int) -> PullRequest:
        """Return a pull request."""
        return _pull(self._ask("GET", f"/pulls/{number}", f"show pull request {number}"))

    def open(self, proposal: Proposal) -> PullRequest:
        """Open a pull request, or bring the one that is open for this branch up to date."""
        body = {"title": proposal.title, "body": proposal.body, "head": proposal.branch, "base": proposal.base}
        what = f"open a pull request for {proposal.branch}"
        known = self.find(proposal.branch)
        if known is None or known.state is not PullRequestState.OPEN:
            answer = self._call("POST", "/pulls", what, body)
            if answer.ok:
                known = _pull(answer.json())
            elif answer.status_code == _CONFLICT:
                # Somebody, or an earlier call whose answer was lost, has opened it meanwhile.
                known = self.find(proposal.branch)
            if known is None or known.state is not PullRequestState.OPEN:
                raise self._place.problem(what, answer.status_code, _said(answer))
        return self.update(known.number, proposal)

    def update(self, number: int, proposal: Proposal) -> PullRequest:
        """Give a pull request another title, body and labels, where they differ."""
        known = self.get(number)
        if (known.title, known.body) != (proposal.title, proposal.body):
            change = {"title": proposal.title, "body": proposal.body}
            known = _pull(self._ask("PATCH", f"/pulls/{number}", f"change pull request {number}", change))
        missing = set(proposal.labels) - set(known.labels)
        if missing and self._label(number, sorted(missing)):
            known = self.get(number)
        return known

    def merge(self, number: int, *, head: str, message: str) -> MergeOutcome:
        """Merge a pull request if its branch is still at ``head``; ``message`` is the whole commit message."""
        attempts = Retrying(
            retry=retry_if_result(lambda answer: _STILL_CHECKING in _said(answer).lower()),
            stop=stop_after_delay(_PATIENCE),
            wait=wait_fixed(_PAUSE),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        body = self._merging(head, message)
        answer: requests.Response = attempts(
            self._call, "POST", f"/pulls/{number}/merge", f"merge pull request {number}", body
        )
        known = self.get(number)
        if known.state is PullRequestState.MERGED:
            return Merged(known.merge_commit)
        if _CONFLICTS in _said(answer):
            return AwaitingMerge(f"it conflicts with {known.base}")
        if answer.status_code not in (_NOT_ALLOWED, _CONFLICT):
            raise self._place.problem(f"merge pull request {number}", answer.status_code, _said(answer))
        if known.head != head:
            return AwaitingMerge("its branch has moved on meanwhile")
        said = self._place.clean(_said(answer))
        return AwaitingMerge(said or "Gitea does not allow the merge yet")

    def close(self, number: int, *, comment: str) -> PullRequest:
        """Close a pull request without merging it, and say why."""
        known = self.get(number)
        if known.state is not PullRequestState.OPEN:
            return known
        self._ask("POST", f"/issues/{number}/comments", f"comment on pull request {number}", {"body": comment})
        what = f"close pull request {number}"
        return _pull(self._ask("PATCH", f"/pulls/{number}", what, {"state": "closed"}))

    def comment(self, number: int, *, marker: str, body: str) -> None:
        """Write a comment, or another text into the one with the same marker."""
        text = f"<!-- {marker} -->\n{body}"
        comments = self._ask("GET", f"/issues/{number}/comments", f"show the comments of {number}")
        same = [one for one in comments if str(one["body"]).startswith(f"<!-- {marker} -->")]
        what = f"comment on pull request {number}"
        if not same:
            self._ask("POST", f"/issues/{number}/comments", what, {"body": text})
        elif same[0]["body"] != text:
            self._ask("PATCH", f"/issues/comments/{same[0]['id']}", what, {"body": text})

    def report(self, report: Report) -> str:
        """Open an issue, unless one of the newest has its marker, and return the address."""
        recent = self._ask("GET", f"/issues?type=issues&state=all&limit={_PAGE}", "list issues")
        known = next((one for one in recent if report.mark in str(one.get("body") or "")), None)
        if known is None:
            content = {"title": report.title, "body": report.text}
            known = self._ask("POST", "/issues", "open an issue", content)
            self._label(int(known["number"]), sorted(report.labels))
        return str(known["html_url"])

    def _recent(self) -> Iterator[Mapping[str, Any]]:
        for page in range(1, _MOST_PAGES + 1):
            path = f"/pulls?state=all&sort=recentupdate&limit={_PAGE}&page={page}"
            pulls = self._ask("GET", path, "list pull requests")
            yield from pulls
            if len(pulls) < _PAGE:
                return

    def _merging(self, head: str, message: str) -> dict[str, Any]:
        """Choose a style that the repository allows: first those after which one commit carries the message."""
        settings = self._ask("GET", "", "show its settings")
        style = next((style for style, setting in _STYLES if settings.get(setting)), "merge")
        subject, _, rest = message.partition("\n")
        body = {"Do": style, "head_commit_id": head, "delete_branch_after_merge": True}
        if style == "squash":
            body |= {"MergeTitleField": subject, "MergeMessageField": rest.strip()}
        return body

    def _label(self, number: int, names: list[str]) -> bool:
        """Put labels on a pull request, made where they are missing; want of a label is no reason to fail."""
        known = self._call("GET", f"/labels?limit={_PAGE}", "list labels")
        ids = {str(label["name"]): label["id"] for label in known.json()} if known.ok else {}
        for name in names:
            if name not in ids:
                made = self._call("POST", "/labels", "make a label", {"name": name, "color": _COLOUR})
                ids |= {name: made.json()["id"]} if made.ok else {}
        wanted = [ids[name] for name in names if name in ids]
        if not wanted:
            return False
        answer = self._call("POST", f"/issues/{number}/labels", "label", {"labels": wanted})
        return answer.ok

    def _ask(self, method: str, path: str, what: str, body: Mapping[str, Any] | None = None) -> Any:
        answer = self._call(method, path, what, body)
        if not answer.ok:
            raise self._place.problem(what, answer.status_code, _said(answer))
        return answer.json()

    def _call(self, method: str, path: str, what: str, body: Mapping[str, Any] | None = None) -> requests.Response:
        url = f"{self._place.api}/repos/{self._place.path}{path}"
        with self._place.reached(what):
            return self._session.request(method, url, json=body, timeout=(CONNECT_SECONDS, READ_SECONDS))


def _is_from(pull: Mapping[str, Any], branch: str) -> bool:
    """Tell whether a pull request comes from a branch of the repository itself, also when that is deleted by now."""
    head, base = pull["head"], pull["base"]
    return bool(head.get("label") == branch and head.get("repo_id", base.get("repo_id")) == base.get("repo_id"))


def _pull(pull: Mapping[str, Any]) -> PullRequest:
    state = PullRequestState.MERGED if pull.get("merged") else PullRequestState(pull["state"])
    return PullRequest(
        number=int(pull["number"]),
        url=str(pull["html_url"]),
        branch=str(pull["head"]["label"]),
        base=str(pull["base"]["ref"]),
        state=state,
        head=str(pull["head"]["sha"]),
        merge_commit=str(pull.get("merge_commit_sha") or "") if state is PullRequestState.MERGED else "",
        title=str(pull["title"]),
        body=str(pull.get("body") or ""),
        labels=tuple(sorted(str(label["name"]) for label in pull.get("labels") or ())),
    )


def _said(answer: requests.Response) -> str:
    try:
        return str(answer.json().get("message", ""))
    except (ValueError, AttributeError):
        return ""
