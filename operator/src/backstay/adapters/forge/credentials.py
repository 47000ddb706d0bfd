"""Credentials for Git servers, from a mounted Secret; and which credential of such a folder a URL gets.

Nothing secret is kept: each use reads the files again, so a rotated token needs no restart. Git asks for user and
password through a credential helper that reads the same files, so that they stand in no argument list, environment,
URL or reflog.
"""

import hashlib
import os
import shlex
import shutil
import tempfile
import weakref
from base64 import b64encode
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from backstay.adapters.forge import ForgeError
from backstay.adapters.forge.place import host_and_path, usual_api
from backstay.adapters.git_url import normalise_url
from backstay.adapters.secrets import CredentialError, best_fit, secret_text

_DEFAULT_USER = "git"


@dataclass(frozen=True, slots=True)
class Credential:
    """The files of one credential; ``prefix`` is the normalised URL that it is for."""

    name: str
    prefix: str
    file: Path
    username: Path
    password: Path

    def part(self, key: str) -> Path:
        """Return the file of another key of this credential, such as ``sshKey``; it need not exist."""
        return self.file.with_suffix(f".{key}")

    def text(self, key: str) -> str:
        """Return what another key of this credential says; empty where it is absent."""
        return secret_text(self.part(key))

    def token(self) -> str:
        """Return the token for the API of the repository's forge; the same as git's password."""
        return secret_text(self.password)

    def helper(self) -> str:
        """Return git's ``credential.helper`` that answers with this credential."""
        user = f'"$(cat {shlex.quote(str(self.username))})"' if self.username.exists() else _DEFAULT_USER
        password = f'"$(cat {shlex.quote(str(self.password))})"'
        return f"!f() {{ test \"$1\" != get || printf 'username=%s\\npassword=%s\\n' {user} {password}; }}; f"

    def secrets(self) -> tuple[str, ...]:
        """Return the password in every form that may turn up in a text, for taking it out again."""
        password = secret_text(self.password) if self.password.exists() else ""
        if not password:
            return ()
        user = secret_text(self.username) if self.username.exists() else _DEFAULT_USER
        forms = (password, quote(password, safe=""), b64encode(f"{user}:{password}".encode()).decode())
        return tuple(dict.fromkeys(form for form in forms if form))


class Credentials:
    """The folder with ``<name>.url`` (a URL prefix), ``<name>.username`` and ``<name>.password`` for each credential.

    A GitHub App has ``<name>.appID`` and ``<name>.privateKey`` (and ``<name>.installationID``) instead of a password:
    the token that it is given lies in a private folder of this process, as the file that git's helper reads.

    An SSH URL takes ``<name>.sshKey`` and ``<name>.knownHosts`` instead (see `gitkeys`), and ``<name>.signingKey`` with
    ``<name>.signingFormat`` signs the commits (see `gitsigning`).

    A prefix holds for whole path segments, and the longest one wins. A folder that is absent holds none.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._minted: Path | None = None

    def find(self, url: str) -> Credential | None:
        """Return the credential for a repository, or None where it is to be reached without one.

        Raises:
            CredentialError: the one that fits has no password, or none fits and one has a prefix that is no URL.
            GitUrlError: the repository's URL is not one that Backstay uses.
        """
        wanted = normalise_url(url)
        found = best_fit(self._folder, wanted, normalise_url, "Git")
        if found is None:
            return None
        file, prefix = found
        best = Credential(file.stem, prefix, file, file.with_suffix(".username"), file.with_suffix(".password"))
        # Over SSH a key takes the password's place, and a folder of this machine needs neither.
        by_password = wanted.startswith("http")
        if by_password and best.part("privateKey").is_file() and not best.password.is_file():
            return self._as_app(best, wanted)
        if by_password and not (best.password.is_file() and secret_text(best.password)):
            raise CredentialError(
                f"The Git credential for {best.prefix} has no password; add {best.name}.password to the Secret"
            )
        return best

    def _as_app(self, app: Credential, url: str) -> Credential:
        """Return the credential with a token of its GitHub App, written anew where it is another one by now."""
        # Imported here, as it is slow to import and only some credentials are Apps.
        from backstay.adapters.forge.github_app import App, installation_token  # noqa: PLC0415 - as above

        web, host, path = host_and_path(url)
        api = app.text("api") or usual_api("github", web, host)
        try:
            found = App(
                app.text("appID"), app.part("privateKey").read_text(encoding="utf-8"), app.text("installationID")
            )
            token = installation_token(found, api=api.rstrip("/"), path=path)
        except ForgeError as error:
            raise CredentialError(str(error)) from None
        name = hashlib.sha256(f"{app.name}\0{url}".encode()).hexdigest()[:16]
        files = {"password": token, "username": "x-access-token"}
        for key, text in files.items():
            _write(self._private() / f"{name}.{key}", text)
        return replace(
            app, username=self._private() / f"{name}.username", password=self._private() / f"{name}.password"
        )

    def _private(self) -> Path:
        """Return a folder that only this process's user can read; it goes with this object."""
        if self._minted is None:
            self._minted = Path(tempfile.mkdtemp(prefix="backstay-tokens-"))
            weakref.finalize(self, shutil.rmtree, self._minted, ignore_errors=True)
        return self._minted


def _write(file: Path, text: str) -> None:
    """Write a file that only its owner can read, in one step: git may read it at any moment."""
    if file.is_file() and secret_text(file) == text:
        return
    new = file.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as opened:
        opened.write(text)
    new.replace(file)
