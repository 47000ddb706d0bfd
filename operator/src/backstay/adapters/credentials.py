"""Credentials for Git servers, from a mounted Secret.

Nothing secret is kept: each use reads the files again, so a rotated token needs no restart. Git asks for user and
password through a credential helper that reads the same files, so that they stand in no argument list, environment,
URL or reflog.
"""

import shlex
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from backstay.adapters.giturl import GitUrlError, normalise_url

_DEFAULT_USER = "git"


class CredentialError(Exception):
    """A credential cannot be used; the message is a sentence that names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Credential:
    """The files of one credential; ``prefix`` is the normalised URL that it is for."""

    name: str
    prefix: str
    username: Path
    password: Path

    def part(self, key: str) -> Path:
        """Return the file of another key of this credential, such as ``sshKey``; it need not exist."""
        return self.password.with_suffix(f".{key}")

    def helper(self) -> str:
        """Return git's ``credential.helper`` that answers with this credential."""
        user = f'"$(cat {shlex.quote(str(self.username))})"' if self.username.exists() else _DEFAULT_USER
        password = f'"$(cat {shlex.quote(str(self.password))})"'
        return f"!f() {{ test \"$1\" != get || printf 'username=%s\\npassword=%s\\n' {user} {password}; }}; f"

    def secrets(self) -> tuple[str, ...]:
        """Return the password in every form that may turn up in a text, for taking it out again."""
        password = _text(self.password) if self.password.exists() else ""
        if not password:
            return ()
        user = _text(self.username) if self.username.exists() else _DEFAULT_USER
        forms = (password, quote(password, safe=""), b64encode(f"{user}:{password}".encode()).decode())
        return tuple(dict.fromkeys(form for form in forms if form))


class Credentials:
    """The folder with ``<name>.url`` (a URL prefix), ``<name>.username`` and ``<name>.password`` for each credential.

    An SSH URL takes ``<name>.sshKey`` and ``<name>.knownHosts`` instead (see `gitkeys`), and ``<name>.signingKey`` with
    ``<name>.signingFormat`` signs the commits (see `gitsigning`).

    A prefix holds for whole path segments, and the longest one wins. A folder that is absent holds none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, url: str) -> Credential | None:
        """Return the credential for a repository, or None where it is to be reached without one.

        Raises:
            CredentialError: the one that fits has no password, or none fits and one has a prefix that is no URL.
            GitUrlError: the repository's URL is not one that Backstay uses.
        """
        wanted = normalise_url(url)
        fitting, problems = [], []
        for file in sorted(self._folder.glob("*.url")):
            try:
                known = self._read(file)
            except GitUrlError as error:
                problems.append(f"The Git credential {file.stem} is unusable: {error}")
                continue
            if f"{wanted}/".startswith(f"{known.prefix}/"):
                fitting.append(known)
        if not fitting:
            if problems:
                raise CredentialError(problems[0])
            return None
        best = max(fitting, key=lambda known: len(known.prefix))
        # Over SSH a key takes the password's place, and a folder of this machine needs neither.
        by_password = wanted.startswith("http")
        if by_password and not (best.password.is_file() and _text(best.password)):
            raise CredentialError(
                f"The Git credential for {best.prefix} has no password; add {best.name}.password to the Secret"
            )
        return best

    def _read(self, file: Path) -> Credential:
        prefix = normalise_url(_text(file))
        return Credential(file.stem, prefix, file.with_suffix(".username"), file.with_suffix(".password"))


def _text(file: Path) -> str:
    return file.read_bytes().decode(errors="replace").strip()
