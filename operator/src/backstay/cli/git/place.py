"""Which repository a command works on, and its clone of it: a person's checkout is only asked where it came from."""

import fcntl
import hashlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backstay.adapters.forge.credentials import Credentials
from backstay.adapters.git.command import GitUnavailable
from backstay.adapters.git_url import normalise_url, without_user
from backstay.adapters.gitops.repository import Repository
from backstay.cli.trouble import refuse

NOBODY = "Backstay <backstay@localhost>"
_PERSON = re.compile(r"[^<>\x00-\x1f\x7f]{1,120} <[^<>\s]{1,120}>")
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Place:
    """A repository to change.

    ``url`` may hold a password, as a checkout's remote can: show `shown` instead. ``branch`` is empty for the default
    one. ``author`` is who runs the command, as git knows them.
    """

    url: str
    branch: str
    author: str
    checkout: Path | None

    @property
    def shown(self) -> str:
        """The URL for people."""
        return without_user(self.url)


def place_of(repository: str, branch: str) -> Place:
    """Find the repository: a URL, a local checkout's ``origin``, a bare repository, or the checkout of this folder."""
    if "://" in repository or (repository and not Path(repository).is_dir()):
        normalise_url(repository)
        return Place(repository, branch, _author(None), None)
    folder = Path(repository or ".").resolve()
    top = _git(folder, "rev-parse", "--show-toplevel")
    if not top and _git(folder, "rev-parse", "--is-bare-repository") == "true":
        return Place(f"file://{folder}", branch, _author(folder), None)
    if not top:
        refuse(
            f"{folder} is no checkout of a Git repository: run this in one, or name a URL or a checkout with "
            "--repository"
        )
    url = _git(folder, "remote", "get-url", "origin")
    if not url:
        refuse(f"{top} has no remote called origin: name the repository's URL with --repository")
    local = Path(top, url)
    if "://" not in url and local.is_dir():
        url = f"file://{local.resolve()}"
    normalise_url(url)
    return Place(url, branch, _author(folder), Path(top))


@contextmanager
def opened(place: Place, credentials: Credentials | None) -> Iterator[Repository]:
    """Open the clone that all commands of this user share for a repository; one command at a time.

    Raises:
        GitUnavailable: another command has it for too long, or it cannot be made.
    """
    key = hashlib.sha256("\0".join((normalise_url(place.url), place.branch)).encode()).hexdigest()[:16]
    folder = _cache() / "repositories" / key
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        turn = os.open(folder / "turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise GitUnavailable(
            f"The folder {folder} for the clone cannot be used: {problem.strerror}; free it, or set XDG_CACHE_HOME"
        ) from None
    try:
        _wait(turn, place)
        with Repository(
            place.url, place.branch, workdir=folder / "work", credentials=credentials, author=place.author
        ) as repository:
            yield repository
    finally:
        os.close(turn)


def _wait(turn: int, place: Place) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > end:
                raise GitUnavailable(
                    f"Another backstay command has worked on {place.shown} for {_PATIENCE:.0f} s; let it end first"
                ) from None
            time.sleep(0.1)
        else:
            return


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if Path(home).is_absolute() else Path.home() / ".cache") / "backstay"


def _author(folder: Path | None) -> str:
    """Return who git would name as the author here, or nobody in particular."""
    folder = folder or Path.cwd()
    name = os.environ.get("GIT_AUTHOR_NAME") or _git(folder, "config", "--get", "user.name")
    mail = os.environ.get("GIT_AUTHOR_EMAIL") or _git(folder, "config", "--get", "user.email")
    person = f"{name.strip()} <{mail.strip()}>"
    return person if name.strip() and _PERSON.fullmatch(person) else NOBODY


def _git(folder: Path, *arguments: str) -> str:
    """Ask git about a checkout; whatever it cannot tell is empty."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
