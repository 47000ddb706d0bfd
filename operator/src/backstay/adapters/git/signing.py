"""Sign commits with a key from the mounted Secret, by ssh-keygen or GnuPG."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from backstay.adapters.forge.credentials import Credential
from backstay.adapters.git.keys import FOLDERS, key_of, private_file
from backstay.adapters.secrets import CredentialError

_SECONDS = 30.0
_KEPT = ("PATH",)
_GPG_CONF = b"no-tty\nbatch\npinentry-mode error\n"
# GnuPG puts its sockets there, and the path of a socket has at most 107 bytes.
_LONGEST_FOLDER = 107 - len("/S.gpg-agent.browser")


class Format(StrEnum):
    """What signs: the word in ``<name>.signingFormat``."""

    SSH = "ssh"
    OPENPGP = "openpgp"


@dataclass(frozen=True, slots=True)
class Signature:
    """How git is told to sign: its settings and environment. ``key`` is the name of the key in the Secret."""

    key: str
    settings: tuple[str, ...]
    environment: Mapping[str, str]


class Signer:
    """Keeps the signing key of one repository's credential ready for git, until the key changes or this is closed.

    Args:
        home: a private folder. What a killed process leaves there begins with ``gitkeys.FOLDERS``.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._folder: Path | None = None
        self._fingerprint = ""
        self._signature: Signature | None = None

    def close(self) -> None:
        """Remove the key, and end the agent that GnuPG keeps for it."""
        folder, self._folder, self._signature, self._fingerprint = self._folder, None, None, ""
        if folder is None:
            return
        if (folder / "gpg.conf").exists() and shutil.which("gpgconf"):
            _run(["gpgconf", "--kill", "all"], folder)
        shutil.rmtree(folder, ignore_errors=True)

    def signature(self, credential: Credential | None) -> Signature | None:
        """Return how to sign with a credential's key; None if it has none.

        Raises:
            CredentialError: the key, its format or the program for it does not serve; the sentence says which.
            OSError: the key cannot be read or copied.
        """
        if credential is None or not credential.part("signingKey").is_file():
            self.close()
            return None
        key, form = key_of(credential.part("signingKey")), _format(credential)
        fingerprint = hashlib.sha256(form.encode() + key).hexdigest()
        if fingerprint != self._fingerprint:
            self.close()
            named = f"{credential.name}.signingKey"
            match form:
                case Format.SSH:
                    self._folder = Path(tempfile.mkdtemp(prefix=FOLDERS, dir=self._home))
                    self._signature = _ssh(key, self._folder, named)
                case Format.OPENPGP:
                    self._folder = _short_folder(self._home)
                    self._signature = _openpgp(key, self._folder, named)
            self._fingerprint = fingerprint
        return self._signature


def _format(credential: Credential) -> Format:
    file = credential.part("signingFormat")
    word = file.read_text(errors="replace").strip() if file.is_file() else ""
    if word not in set(Format):
        said = repr(word[:20]) if word else "absent"
        raise CredentialError(
            f"{credential.name}.signingFormat is {said}, so commits cannot be signed; "
            f"add it to the Secret as one of {', '.join(Format)}"
        )
    return Format(word)


def _short_folder(home: Path) -> Path:
    """Make a private folder whose path leaves room for a socket's name."""
    folder = Path(tempfile.mkdtemp(prefix=FOLDERS, dir=home))
    if len(os.fsencode(folder)) <= _LONGEST_FOLDER:
        return folder
    folder.rmdir()
    # The same name each time, so that the next process removes what a killed one has left.
    folder = Path(tempfile.gettempdir(), f"backstay-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


def _ssh(key: bytes, folder: Path, named: str) -> Signature:
    _refuse_without("ssh-keygen", "OpenSSH's client", named)
    file = private_file(folder / "signing", key)
    if _run(["ssh-keygen", "-y", "-P", "", "-f", str(file)], folder).returncode:
        raise CredentialError(
            f"Commits cannot be signed: {named} is no private SSH key, or has a passphrase; "
            "put one into the Secret that ssh-keygen made without a passphrase"
        )
    settings = (f"gpg.format={Format.SSH}", f"user.signingKey={file}", "gpg.ssh.program=ssh-keygen")
    return Signature(named, settings, {"TMPDIR": str(folder), "SSH_AUTH_SOCK": ""})


def _openpgp(key: bytes, folder: Path, named: str) -> Signature:
    _refuse_without("gpg", "GnuPG", named)
    private_file(folder / "gpg.conf", _GPG_CONF)
    _run(["gpg", "--import"], folder, stdin=key)
    listed = _run(["gpg", "--with-colons", "--list-secret-keys"], folder).stdout.decode(errors="replace")
    prints = [line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")]
    if not prints:
        raise CredentialError(
            f"Commits cannot be signed: {named} is no private OpenPGP key; "
            "put what gpg --armor --export-secret-keys prints into the Secret"
        )
    if _run(["gpg", "--local-user", prints[0], "--detach-sign"], folder, stdin=b"a try").returncode:
        raise CredentialError(
            f"Commits cannot be signed: {named} has a passphrase, has expired, or may not sign; "
            "put a signing key without a passphrase into the Secret"
        )
    settings = (f"gpg.format={Format.OPENPGP}", f"user.signingKey={prints[0]}", "gpg.program=gpg")
    return Signature(named, settings, {"TMPDIR": str(folder), "GNUPGHOME": str(folder)})


def _refuse_without(program: str, package: str, named: str) -> None:
    if shutil.which(program) is None:
        raise CredentialError(
            f"Commits cannot be signed with {named} without {program}; install {package} beside Backstay"
        )


def _run(command: list[str], folder: Path, *, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a program that knows this folder alone.

    Raises:
        CredentialError: it did not end in time.
    """
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= {"HOME": str(folder), "GNUPGHOME": str(folder), "LC_ALL": "C"}
    try:
        return subprocess.run(
            command,
            input=stdin,
            env=environment,
            capture_output=True,
            check=False,
            timeout=_SECONDS,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise CredentialError(
            f"Commits cannot be signed: {command[0]} did not end within {_SECONDS:.0f} s; try again, or check it"
        ) from None
