"""GitHub and GitLab as far as the adapters use them, on loopback: what their API documentation says, and no more.

An address that the documentation does not have, or a request without the token, is noted as wrong use.
"""

import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import jwt

OWNER, NAME = "models", "gitops"
Answer = tuple[int, Any]


def sha() -> str:
    return secrets.token_hex(20)


@dataclass
class Request:
    """A pull request as a server keeps it."""

    number: int
    branch: str
    base: str
    title: str
    body: str
    head: str
    state: str = "open"
    merge_commit: str = ""
    labels: list[str] = field(default_factory=list)
    comments: list[dict[str, Any]] = field(default_factory=list)


class Server:
    """The state of one repository, and the rules for merging that a test sets."""

    token_header = ("", "")

    def __init__(self, token: str) -> None:
        self.token = token
        self.branches: dict[str, str] = {"main": sha()}
        self.requests: list[Request] = []
        self.approvals_missing = False
        self.conflict = False
        self.labels_refused = False
        self.wrong_use: list[str] = []
        self.answers_lost = 0
        self.messages: list[str] = []
        self.issues: list[dict[str, Any]] = []
        self.url = ""

    def handle(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> Answer:
        for verb, pattern, function in self.routes():
            found = re.fullmatch(pattern, path)
            if verb == method and found:
                return function(query, body, *found.groups())
        self.wrong_use.append(f"{method} {path}")
        return 500, {"message": "no such route"}

    def knows(self, headers: dict[str, str], path: str) -> bool:
        """Tell whether a request comes with the token; ``path`` matters where some addresses want another one."""
        del path
        name, value = self.token_header
        return headers.get(name) == value

    def routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        raise NotImplementedError

    def opened(self, branch: str, base: str, title: str, body: str) -> Request | None:
        """Open one unless there is one for the branch."""
        if any(one.branch == branch and one.state == "open" for one in self.requests):
            return None
        made = Request(len(self.requests) + 1, branch, base, title, body, self.branches[branch])
        self.requests.append(made)
        return made

    def _newest_issues(self, query: dict[str, str], usual: str) -> list[dict[str, Any]]:
        return self.issues[::-1][: int(query.get("per_page", usual))]

    def request(self, number: str) -> Request:
        found = self.requests[int(number) - 1]
        found.head = self.branches.get(found.branch, found.head) if found.state == "open" else found.head
        return found

    def merge(self, one: Request, message: str) -> None:
        one.state, one.merge_commit = "merged", sha()
        self.branches["main"] = one.merge_commit
        self.messages.append(message)

    def comment(self, one: Request, text: str) -> dict[str, Any]:
        made = {"id": 1000 * one.number + len(one.comments) + 1, "body": text}
        one.comments.append(made)
        return made


class GitHubServer(Server):
    """https://docs.github.com/rest, below /api/v3 as on an Enterprise server."""

    prefix = f"/api/v3/repos/{OWNER}/{NAME}"

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.token_header = ("Authorization", f"token {token}")

    def routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        base = re.escape(self.prefix)
        return [
            ("GET", base, lambda *_: (200, self._settings())),
            ("GET", f"{base}/pulls", self._list),
            ("POST", f"{base}/pulls", self._open),
            ("GET", rf"{base}/pulls/(\d+)", self._one),
            ("PATCH", rf"{base}/pulls/(\d+)", self._edit),
            ("PUT", rf"{base}/pulls/(\d+)/merge", self._merge),
            ("POST", rf"{base}/issues/(\d+)/labels", self._label),
            ("GET", f"{base}/issues", lambda query, _: (200, self._newest_issues(query, "30"))),
            ("POST", f"{base}/issues", self._open_issue),
            ("GET", rf"{base}/issues/(\d+)/comments", self._list_comments),
            ("POST", rf"{base}/issues/(\d+)/comments", self._comment),
            ("PATCH", rf"{base}/issues/comments/(\d+)", self._edit_comment),
        ]

    def _settings(self) -> dict[str, Any]:
        return {
            "url": f"{self.url}{self.prefix}",
            "full_name": f"{OWNER}/{NAME}",
            "allow_squash_merge": True,
            "allow_rebase_merge": True,
            "allow_merge_commit": True,
        }

    def _list(self, query: dict[str, str], _: dict[str, Any]) -> Answer:
        owner, _separator, branch = query.get("head", "").partition(":")
        found = [one for one in self.requests if owner == OWNER and one.branch == branch]
        if query.get("state", "open") != "all":
            found = [one for one in found if one.state == "open"]
        size = int(query.get("per_page", "30"))
        return 200, [self._shown(self.request(str(one.number))) for one in reversed(found)][:size]

    def _open(self, _: dict[str, str], body: dict[str, Any]) -> Answer:
        if body["head"] not in self.branches:
            errors = [{"resource": "PullRequest", "field": "head", "code": "invalid"}]
            return 422, {"message": "Validation Failed", "errors": errors}
        made = self.opened(body["head"], body["base"], body["title"], body.get("body", ""))
        if made is None:
            said = f"A pull request already exists for {OWNER}:{body['head']}."
            return 422, {"message": "Validation Failed", "errors": [{"resource": "PullRequest", "message": said}]}
        return 201, self._shown(made)

    def _edit(self, _: dict[str, str], body: dict[str, Any], number: str) -> Answer:
        one = self.request(number)
        one.title, one.body = body.get("title", one.title), body.get("body", one.body)
        one.state = body.get("state", one.state)
        return 200, self._shown(one)

    def _merge(self, _: dict[str, str], body: dict[str, Any], number: str) -> Answer:
        one = self.request(number)
        if body.get("sha") != one.head:
            return 409, {"message": "Head branch was modified. Review and try the merge again."}
        if one.state != "open":
            return 405, {"message": "Pull Request is not mergeable"}
        if self.approvals_missing:
            return 405, {"message": "At least 1 approving review is required by reviewers with write access."}
        if self.conflict:
            return 405, {"message": "Pull Request is not mergeable"}
        self.merge(one, f"{body['commit_title']}\n\n{body['commit_message']}".strip())
        return 200, {"sha": one.merge_commit, "merged": True, "message": "Pull Request successfully merged"}

    def _label(self, _: dict[str, str], body: Any, number: str) -> Answer:
        if self.labels_refused:
            return 403, {"message": "Resource not accessible by personal access token"}
        names = body["labels"] if isinstance(body, dict) else body
        one = self.request(number)
        one.labels = sorted({*one.labels, *names})
        return 200, [{"name": name} for name in one.labels]

    def _comments(self, one: Request) -> list[dict[str, Any]]:
        place = f"{self.url}{self.prefix}/issues/comments"
        return [{**comment, "url": f"{place}/{comment['id']}"} for comment in one.comments]

    def _comment(self, _: dict[str, str], body: dict[str, Any], number: str) -> Answer:
        return 201, self.comment(self.request(number), body["body"])

    def _edit_comment(self, _: dict[str, str], body: dict[str, Any], identity: str) -> Answer:
        found = next(c for one in self.requests for c in one.comments if c["id"] == int(identity))
        found["body"] = body["body"]
        return 200, found

    def _one(self, _: dict[str, str], __: dict[str, Any], number: str) -> Answer:
        return 200, self._shown(self.request(number))

    def _open_issue(self, _: dict[str, str], body: dict[str, Any]) -> Answer:
        number = len(self.issues) + 1
        page = f"{self.url}/{OWNER}/{NAME}/issues/{number}"
        made = {"number": number, "html_url": page, "title": body["title"], "body": body.get("body", "")}
        self.issues.append({**made, "labels": [{"name": name} for name in body.get("labels", ())]})
        return 201, self.issues[-1]

    def _list_comments(self, _: dict[str, str], __: dict[str, Any], number: str) -> Answer:
        return 200, self._comments(self.request(number))

    def _shown(self, one: Request) -> dict[str, Any]:
        place = f"{self.url}{self.prefix}"
        return {
            "url": f"{place}/pulls/{one.number}",
            "issue_url": f"{place}/issues/{one.number}",
            "html_url": f"{self.url}/{OWNER}/{NAME}/pull/{one.number}",
            "number": one.number,
            "state": "open" if one.state == "open" else "closed",
            "merged": one.state == "merged",
            "merged_at": "2026-03-01T09:30:00Z" if one.state == "merged" else None,
            "merge_commit_sha": one.merge_commit or sha(),
            "title": one.title,
            "body": one.body,
            "head": {"ref": one.branch, "sha": one.head, "label": f"{OWNER}:{one.branch}"},
            "base": {"ref": one.base},
            "labels": [{"name": name} for name in one.labels],
        }


class AppServer(GitHubServer):
    """GitHub for an App: tokens are given for a signed claim, and end."""

    def __init__(self, public_key: str, *, app: str, lifetime: float) -> None:
        super().__init__("")
        self.public_key, self.app, self.lifetime = public_key, app, lifetime
        self.given: list[str] = []

    def knows(self, headers: dict[str, str], path: str) -> bool:
        scheme, _, claim = headers.get("Authorization", "").partition(" ")
        if path.endswith(("/installation", "/access_tokens")):
            try:
                claims = jwt.decode(claim, self.public_key, algorithms=["RS256"])
            except jwt.InvalidTokenError:
                return False
            return scheme == "Bearer" and str(claims["iss"]) == self.app
        return scheme == "token" and bool(self.given) and claim == self.given[-1]

    def routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        return [
            ("GET", f"{re.escape(self.prefix)}/installation", lambda *_: (200, {"id": 42})),
            ("POST", "/api/v3/app/installations/42/access_tokens", lambda *_: self._give()),
            *super().routes(),
        ]

    def _give(self) -> Answer:
        self.given.append(f"ghs_{secrets.token_hex(12)}")
        ends = datetime.now(UTC) + timedelta(seconds=self.lifetime)
        return 201, {"token": self.given[-1], "expires_at": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}


class GitLabServer(Server):
    """https://docs.gitlab.com/api/merge_requests."""

    prefix = f"/api/v4/projects/{OWNER}/{NAME}"

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.token_header = ("PRIVATE-TOKEN", token)

    def routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        base = f"{re.escape(self.prefix)}/merge_requests"
        return [
            ("GET", base, self._list),
            ("POST", base, self._open),
            ("GET", rf"{base}/(\d+)", self._one),
            ("PUT", rf"{base}/(\d+)", self._edit),
            ("PUT", rf"{base}/(\d+)/merge", self._merge),
            ("GET", rf"{base}/(\d+)/notes", self._notes),
            ("POST", rf"{base}/(\d+)/notes", self._note),
            ("PUT", rf"{base}/(\d+)/notes/(\d+)", self._edit_note),
            ("GET", f"{re.escape(self.prefix)}/issues", lambda query, _: (200, self._newest_issues(query, "20"))),
            ("POST", f"{re.escape(self.prefix)}/issues", self._open_issue),
        ]

    def _list(self, query: dict[str, str], _: dict[str, Any]) -> Answer:
        found = [one for one in self.requests if one.branch == query.get("source_branch")]
        size = int(query.get("per_page", "20"))
        return 200, [self._shown(self.request(str(one.number))) for one in reversed(found)][:size]

    def _open(self, _: dict[str, str], body: dict[str, Any]) -> Answer:
        if body["source_branch"] not in self.branches:
            return 400, {"message": {"source_branch": ["does not exist"]}}
        made = self.opened(body["source_branch"], body["target_branch"], body["title"], body.get("description", ""))
        if made is None:
            return 409, {"message": ["Another open merge request already exists for this source branch: !1"]}
        if not self.labels_refused:
            made.labels = [name for name in body.get("labels", "").split(",") if name]
        return 201, self._shown(made)

    def _edit(self, _: dict[str, str], body: dict[str, Any], number: str) -> Answer:
        one = self.request(number)
        one.title, one.body = body.get("title", one.title), body.get("description", one.body)
        if "labels" in body and not self.labels_refused:
            one.labels = sorted(body["labels"] if isinstance(body["labels"], list) else body["labels"].split(","))
        if body.get("state_event") == "close":
            one.state = "closed"
        return 200, self._shown(one)

    def _merge(self, query: dict[str, str], body: dict[str, Any], number: str) -> Answer:
        one = self.request(number)
        # GitLab takes a parameter from the address as well.
        if body.get("sha", query.get("sha")) != one.head:
            return 409, {"message": "SHA does not match HEAD of source branch: " + one.head}
        if one.state != "open" or self.approvals_missing:
            return 405, {"message": "405 Method Not Allowed"}
        if self.conflict:
            return 422, {"message": "Branch cannot be merged"}
        self.merge(one, body.get("merge_commit_message", ""))
        return 200, self._shown(one)

    def _edit_note(self, _: dict[str, str], body: dict[str, Any], number: str, identity: str) -> Answer:
        found = next(c for c in self.request(number).comments if c["id"] == int(identity))
        found["body"] = body["body"]
        return 200, found

    def _one(self, _: dict[str, str], __: dict[str, Any], number: str) -> Answer:
        return 200, self._shown(self.request(number))

    def _open_issue(self, _: dict[str, str], body: dict[str, Any]) -> Answer:
        number = len(self.issues) + 1
        page = f"{self.url}/{OWNER}/{NAME}/-/issues/{number}"
        labels = [name for name in body.get("labels", "").split(",") if name]
        self.issues.append(
            {
                "iid": number,
                "web_url": page,
                "title": body["title"],
                "description": body.get("description", ""),
                "labels": labels,
            }
        )
        return 201, self.issues[-1]

    def _notes(self, _: dict[str, str], __: dict[str, Any], number: str) -> Answer:
        return 200, self.request(number).comments

    def _note(self, _: dict[str, str], body: dict[str, Any], number: str) -> Answer:
        return 201, self.comment(self.request(number), body["body"])

    def _shown(self, one: Request) -> dict[str, Any]:
        status = "not_approved" if self.approvals_missing else "conflict" if self.conflict else "mergeable"
        return {
            "id": 100 + one.number,
            "iid": one.number,
            "web_url": f"{self.url}/{OWNER}/{NAME}/-/merge_requests/{one.number}",
            "state": {"open": "opened"}.get(one.state, one.state),
            "title": one.title,
            "description": one.body,
            "source_branch": one.branch,
            "target_branch": one.base,
            "sha": one.head,
            "merge_commit_sha": one.merge_commit or None,
            "squash_commit_sha": None,
            "labels": one.labels,
            "detailed_merge_status": status,
        }


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Serve it on a free port of loopback."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            with lock:
                if not server.knows(dict(self.headers), parts.path):
                    status, said = 401, {"message": "Bad credentials"}
                else:
                    status, said = server.handle(self.command, unquote(parts.path), query, body)
                lost = server.answers_lost > 0 and self.command in ("PUT", "POST") and status < 300
                server.answers_lost -= lost
            if lost:
                self.close_connection = True
                return
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_PATCH = answer  # noqa: N815 - the base's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
