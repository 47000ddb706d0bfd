"""Where a person's or a pipeline's token for a repository comes from, and how it is kept while a command runs.

It goes from where it is found into a private folder, in the form that `Credentials` reads, and nowhere else: no
argument list, no output. The folder is gone when the command ends.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from backstay.adapters.forge.credentials import Credentials
from backstay.adapters.git_url import normalise_url
from backstay.cli.trouble import refuse

_SECONDS = 20.0
# A token named after a forge is sent to that forge only.
_VARIABLES = {"github": "GITHUB_TOKEN", "gitlab": "GITLAB_TOKEN", "gitea": "GITEA_TOKEN"}
_KNOWN_HOSTS = {"github.com": "github", "gitlab.com": "gitlab"}
# What GitHub and GitLab call the user of a token; Gitea takes any.
_USERS = {"github": "x-access-token", "gitlab": "oauth2"}


@dataclass(frozen=True, slots=True, repr=False)
class _Token:
    user: str
    secret: str


@contextmanager
def credentials_for(
    url: str, *, token_file: Path | None, forge: str, checkout: Path | None
) -> Iterator[Credentials | None]:
    """Find the token for a repository and lend it for the time of a command; None where there is none.

    Looked at, in this order: ``token_file``, the environment (``BACKSTAY_TOKEN``, then the variable of the forge), the
    URL itself, and git's own credential helpers.
    """
    token = _found(url, token_file, forge, checkout)
    if token is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="backstay-") as name:
        folder = Path(name)
        for suffix, text in (("url", normalise_url(url)), ("username", token.user), ("password", token.secret)):
            descriptor = os.open(folder / f"repository.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
        yield Credentials(folder)


def forge_kind(url: str, named: str) -> str:
    """Return what kind of forge a repository is at: what an option names, or what its host is known for; else empty."""
    return named or _KNOWN_HOSTS.get(_host(url), "")


def _found(url: str, token_file: Path | None, forge: str, checkout: Path | None) -> _Token | None:
    kind = forge_kind(url, forge)
    user = os.environ.get("BACKSTAY_USERNAME") or _USERS.get(kind, "git")
    if token_file is not None:
        return _Token(user, _read(token_file))
    named = os.environ.get("BACKSTAY_TOKEN") or os.environ.get(_VARIABLES.get(kind, ""), "")
    if named:
        return _Token(user, named.strip())
    parts = urlsplit(url)
    if parts.scheme in {"http", "https"} and parts.password:
        return _Token(unquote(parts.username or user), unquote(parts.password))
    return _asked(url, checkout)


def _read(file: Path) -> str:
    try:
        secret = file.read_text(encoding="utf-8").strip()
    except OSError as problem:
        refuse(f"the token file {file} cannot be read ({problem.strerror}): name a file that holds the token alone")
    except UnicodeDecodeError:
        refuse(f"the token file {file} is no text: name a file that holds the token alone")
    if not secret or not secret.isprintable():
        refuse(f"the token file {file} does not hold one line with a token: write the token into it, and nothing else")
    return secret


def _asked(url: str, checkout: Path | None) -> _Token | None:
    """Ask git's credential helpers, as git itself would; they must not ask a person."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2] if parts.scheme in {"http", "https"} else _host(url)
    scheme = parts.scheme if parts.scheme in {"http", "https"} else "https"
    if not host or parts.scheme == "file":
        return None
    asked = f"protocol={scheme}\nhost={host}\npath={parts.path.lstrip('/')}\n\n"
    quiet: Mapping[str, str] = {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS": "",
        "GCM_INTERACTIVE": "0",
    }
    try:
        done = subprocess.run(
            ["git", "credential", "fill"],
            input=asked,
            cwd=checkout,
            env={**os.environ, **quiet},
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    answer = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if done.returncode or not answer.get("password"):
        return None
    return _Token(answer.get("username", "git"), answer["password"])


def _host(url: str) -> str:
    """Return the host of a URL, or of ssh's short form."""
    identity = normalise_url(url)
    return urlsplit(identity).hostname or ""
