"""Git over real HTTP with a password: what is sent to whom, and what is seen of it."""

from __future__ import annotations

import base64
import logging
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from tests.component.git.bare import FILE, Remote

from backstay.adapters.forge.credentials import Credentials
from backstay.adapters.git.command import GitRefused, GitRunner, GitUnavailable
from backstay.adapters.git_url import parse_url
from backstay.adapters.gitops.changes import Proposed
from backstay.adapters.gitops.outcomes import AlreadyDone, Committed, Refused, Unavailable
from backstay.adapters.gitops.repository import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from backstay.adapters.messages.rollback_commit import RollbackRequest

pytestmark = pytest.mark.component

TOKEN = "t0ken-that-nobody-may-see"  # noqa: S105 - what must never turn up in an output


class Forge:
    """A Git server that asks for a password, and looks at who is asking."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.password = TOKEN
        self.status = 0
        self.redirect = ""
        self.hang = threading.Event()
        self.hang.set()
        self.passwords: list[str] = []
        self.processes: list[str] = []
        forge = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                forge.answer(self)

            def do_POST(self) -> None:
                forge.answer(self)

            def log_message(self, *_: Any) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=[0.05])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.hang.wait(30)
        self._look_around()
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        given = handler.headers.get("Authorization", "")
        if given:
            self.passwords.append(base64.b64decode(given.removeprefix("Basic ")).decode())
        if self.redirect:
            self._send(handler, 302, {"Location": f"{self.redirect}{handler.path}"})
        elif self.status:
            self._send(handler, self.status, {})
        elif not given or self.passwords[-1] != f"bot:{self.password}":
            self._send(handler, 401, {"WWW-Authenticate": 'Basic realm="forge"'})
        else:
            self._backend(handler, body)

    def _look_around(self) -> None:
        """Note what anybody on the machine sees of the git processes at this moment."""
        for process in psutil.Process().children(recursive=True):
            try:
                self.processes.append(" ".join([*process.cmdline(), *map(str, process.environ().items())]))
            except psutil.Error:
                continue

    def _backend(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        path, _, query = handler.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": handler.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "bot",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": handler.command,
            "CONTENT_TYPE": handler.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": handler.headers.get("Content-Encoding", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self._send(handler, int(headers.pop("Status", "200").split()[0]), headers, content)

    def _send(
        self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes = b""
    ) -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)


@pytest.fixture
def start() -> Iterator[Callable[[Path], Forge]]:
    forges: list[Forge] = []

    def started(folder: Path) -> Forge:
        forge = Forge(folder)
        forge.thread.start()
        forges.append(forge)
        return forge

    yield started
    for forge in forges:
        forge.hang.set()
        forge.server.shutdown()
        forge.thread.join()
        forge.server.server_close()


@pytest.fixture
def forge(start: Callable[[Path], Forge], remote: Remote) -> Forge:
    remote.git("config", "uploadpack.allowFilter", "true")
    return start(remote.bare.parent)


@pytest.fixture
def secret(tmp_path: Path, forge: Forge) -> Path:
    folder = tmp_path / "secret"
    folder.mkdir()
    (folder / "forge.url").write_text(forge.url)
    (folder / "forge.username").write_text("bot\n")
    (folder / "forge.password").write_text(f"{TOKEN}\n")
    return folder


@pytest.fixture
def private(tmp_path: Path, forge: Forge, secret: Path) -> Iterator[Repository]:
    url = f"{forge.url}/remote.git"
    with Repository(url, "main", workdir=tmp_path / "work", credentials=Credentials(secret)) as repository:
        yield repository


def test_the_password_is_seen_by_the_server_alone(  # noqa: PLR0913, PLR0917 - fixtures
    remote: Remote,
    forge: Forge,
    private: Repository,
    tmp_path: Path,
    request_for: Callable[..., RollbackRequest],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    [outcome] = private.rollback([request_for()])
    assert isinstance(outcome, Committed)
    assert outcome.commit == remote.head()
    assert set(forge.passwords) == {f"bot:{TOKEN}"}
    encoded = base64.b64encode(f"bot:{TOKEN}".encode()).decode()
    seen = [*forge.processes, caplog.text, str(vars(private))]
    seen += [file.read_bytes().decode(errors="replace") for file in (tmp_path / "work").rglob("*") if file.is_file()]
    assert any("git-remote-http" in process for process in forge.processes)
    assert not [text for text in seen if TOKEN in text or encoded in text]


def test_a_wrong_password_is_refused_and_a_new_one_works_at_once(
    forge: Forge, private: Repository, secret: Path, request_for: Callable[..., RollbackRequest]
) -> None:
    (secret / "forge.password").write_text("old-t0ken")
    [outcome] = private.rollback([request_for()])
    assert isinstance(outcome, Refused)
    assert "Authentication failed" in outcome.reason
    assert "give the Git credential the right to push" in outcome.reason
    assert "old-t0ken" not in outcome.reason
    forge.password = "rotated"  # noqa: S105 - not one
    (secret / "forge.password").write_text("rotated")
    [outcome] = private.rollback([request_for()])
    assert isinstance(outcome, Committed)


def test_without_a_credential_git_does_not_ask_anybody(forge: Forge, tmp_path: Path) -> None:
    with (
        Repository(f"{forge.url}/remote.git", "main", workdir=tmp_path / "work") as repository,
        pytest.raises(GitRefused, match="could not read Username"),
    ):
        repository.fetch()
    assert forge.passwords == []


def test_a_credential_does_not_follow_a_redirect_to_another_host(
    forge: Forge, start: Callable[[Path], Forge], private: Repository, tmp_path: Path
) -> None:
    other = start(tmp_path)
    forge.redirect = other.url
    with pytest.raises(GitRefused):
        private.fetch()
    assert other.passwords == []


def test_a_server_with_a_fault_of_its_own_is_worth_another_try(
    forge: Forge, private: Repository, request_for: Callable[..., RollbackRequest]
) -> None:
    forge.status = 503
    [outcome] = private.rollback([request_for()])
    assert isinstance(outcome, Unavailable)
    assert "503" in outcome.reason
    forge.status = 0
    [outcome] = private.rollback([request_for()])
    assert isinstance(outcome, Committed)


def test_a_server_that_hangs_does_not_hold_us_for_ever(forge: Forge, tmp_path: Path) -> None:
    forge.hang.clear()
    url = parse_url(f"{forge.url}/remote.git")
    with pytest.raises(GitUnavailable, match=r"git ls-remote .* did not finish within 1 s"):
        GitRunner(url, tmp_path, None).talk(tmp_path, "ls-remote", url.connect, seconds=1)
    commands = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert [command for command in commands if forge.url in command] == []


def test_a_dead_server_is_unavailable(
    forge: Forge, private: Repository, request_for: Callable[..., RollbackRequest]
) -> None:
    forge.server.shutdown()
    forge.server.server_close()
    [outcome] = private.rollback([request_for()])
    assert isinstance(outcome, Unavailable)
    assert "cannot be reached" in outcome.reason


def test_a_clone_without_old_contents_finds_an_earlier_rollback(
    remote: Remote, forge: Forge, secret: Path, tmp_path: Path, request_for: Callable[..., RollbackRequest]
) -> None:
    request, url = request_for(), f"{forge.url}/remote.git"
    with Repository(url, "main", workdir=tmp_path / "first", credentials=Credentials(secret)) as repository:
        [first] = repository.rollback([request])
    assert isinstance(first, Committed)
    remote.commit({FILE: remote.text("8")}, "version 8")
    with Repository(url, "main", workdir=tmp_path / "second", credentials=Credentials(secret)) as repository:
        assert repository.rollback([request]) == [AlreadyDone(first.commit)]
        assert "blob:none" in (tmp_path / "second/clone/.git/config").read_text()


def test_a_clone_without_old_contents_proposes_and_carries_over(
    remote: Remote, forge: Forge, secret: Path, tmp_path: Path, request_for: Callable[..., RollbackRequest]
) -> None:
    request = request_for()
    # The first two pushes: of the proposal, and of the rollback that loses a race.
    pushes = iter([{}, {"README.md": "Once more\n"}])

    def checkpoint(point: str) -> None:
        if point == "before:push" and (files := next(pushes, None)):
            remote.commit(files, "a person")

    url, work = f"{forge.url}/remote.git", tmp_path / "work"
    with Repository(url, "main", workdir=work, credentials=Credentials(secret), checkpoint=checkpoint) as repository:
        proposed = repository.propose(request, branch="backstay/one")
        assert isinstance(proposed, Proposed)
        assert "blob:none" in (work / "clone/.git/config").read_text()
        remote.commit({"README.md": "Other\n"}, "a person")
        assert repository.propose(request, branch="backstay/one") == proposed
        [outcome] = repository.rollback([request])
    assert isinstance(outcome, Committed)
    assert remote.show("README.md") == b"Once more\n"
    assert remote.git("log", "-4", "--format=%s").splitlines()[1:] == ["a person", "a person", "version 7"]
