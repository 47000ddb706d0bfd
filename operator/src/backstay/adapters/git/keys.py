"""SSH keys for reaching a Git server, from the mounted Secret.

A Secret is mounted with modes at which ssh takes no private key. So key and known hosts are copied into a private
folder for one command, and ssh is told to use these two and nothing of the machine or the user besides.
"""

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backstay.adapters.forge.credentials import Credential
from backstay.adapters.secrets import CredentialError

FOLDERS = "keys-"
_SSH = ("BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=10", "ServerAliveInterval=10")
_PINNED = (
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "PreferredAuthentications=publickey",
    "GlobalKnownHostsFile=/dev/null",
    "UpdateHostKeys=no",
    "ForwardAgent=no",
    "ClearAllForwardings=yes",
)


@contextmanager
def private_folder(home: Path) -> Iterator[Path]:
    """Make a folder that only we can read, and remove it in the end; a killed process may leave one."""
    folder = Path(tempfile.mkdtemp(prefix=FOLDERS, dir=home))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def private_file(file: Path, content: bytes) -> Path:
    """Write a file that only we can read; the folder must be private, and the file new."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(content)
    return file


def key_of(file: Path) -> bytes:
    """Read a key with the line ends and the last newline that ssh insists on, and that a Secret easily loses."""
    return b"\n".join(file.read_bytes().strip().splitlines()) + b"\n"


@contextmanager
def ssh_command(credential: Credential | None, home: Path) -> Iterator[str]:
    """Return git's ``GIT_SSH_COMMAND``, good for as long as the context lasts; without a credential, the machine's own.

    Raises:
        CredentialError: key or known hosts are missing.
        OSError: they cannot be read or copied.
    """
    if credential is None:
        yield _command([])
        return
    key, hosts = credential.part("sshKey"), credential.part("knownHosts")
    if not key.is_file() or not hosts.is_file():
        lacking = hosts if key.is_file() else key
        raise CredentialError(
            f"The Git credential for {credential.prefix} has no {lacking.suffix.removeprefix('.')}; "
            f"add {credential.name}.sshKey, and as {credential.name}.knownHosts the server's keys (what ssh-keyscan "
            "prints, compared with what the server's owner publishes), to the Secret"
        )
    with private_folder(home) as folder:
        private = private_file(folder / "key", key_of(key))
        known = private_file(folder / "known_hosts", key_of(hosts))
        yield _command([*_PINNED, f"IdentityFile={_quoted(private)}", f"UserKnownHostsFile={_quoted(known)}"])


def _command(options: list[str]) -> str:
    config = ["-F", os.devnull] if options else []
    settings = [part for option in (*_SSH, *options) for part in ("-o", option)]
    return shlex.join(["ssh", *config, *settings])


def _quoted(file: Path) -> str:
    """Write a path as ssh's configuration reads it: with spaces, and with % for itself."""
    return '"' + str(file).replace("%", "%%") + '"'
