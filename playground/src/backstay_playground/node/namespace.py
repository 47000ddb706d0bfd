"""A private view of the file system for one process: host files and folders appear at the paths it expects.

`wrap` returns an argv; the file itself, run as a script, does the work with `enter`. That has to happen in the very
process that becomes the program, so that its pid, parent, signals and exit code are the program's own. The script uses
nothing but built-in parts of the standard library: starting costs about 20 ms.

The user namespace maps the caller to itself: an ordinary user stays that user (without capabilities once the program
runs), root stays root inside. A mount point that does not exist is made on a tmpfs that takes the place of its parent
folder and shows everything the parent holds; the host's own file system is never written.
"""

from __future__ import annotations

import ctypes
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_BIND = 0x1000
_MS_MOVE = 0x2000
_MS_REC = 0x4000
_MS_PRIVATE = 0x40000
_MNT_DETACH = 2
_STAGE = "/tmp"  # noqa: S108 - covered by a tmpfs for a moment, inside the private namespace only
CANNOT_START = 125
_NOT_FOUND = 127


def wrap(argv: Sequence[str], *, mounts: Mapping[str, Path]) -> list[str]:
    """Return an argv that runs `argv` where the host's files and folders appear at the given paths.

    Args:
        argv: The program and its arguments; a program without a slash is looked up on PATH.
        mounts: Absolute path inside -> existing file or folder on the host.

    Returns:
        The command to run. It keeps the working folder and the environment, replaces itself by the program, and ends
        with 125 (and a sentence on stderr) when the view cannot be made, 127 when the program does not exist.
    """
    pairs = [part for target, source in mounts.items() for part in (target, str(source))]
    return [sys.executable, "-I", "-S", __file__, *pairs, "--", *argv]


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


class _View:
    """The mounts of the current process's own namespace."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._made: set[str] = set()

    def enter(self) -> None:
        """Leave the host's user and mount namespaces."""
        user, group = os.geteuid(), os.getegid()
        _check(self._libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "no private user and mount namespace")
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib takes 5 ms to import
                file.write(text)
        self._mount("none", "/", flags=_MS_REC | _MS_PRIVATE)

    def _mount(self, source: str, target: str, *, flags: int, kind: str = "", options: str = "") -> None:
        result = self._libc.mount(
            os.fsencode(source), os.fsencode(target), os.fsencode(kind), ctypes.c_ulong(flags), os.fsencode(options)
        )
        _check(result, f"cannot mount {source} at {target}")

    def bind(self, source: str, target: str) -> None:
        """Show `source` at `target`, which exists and is of the same kind."""
        self._mount(source, target, flags=_MS_BIND | _MS_REC)

    def attach(self, source: str, target: str) -> None:
        """Show `source` at `target`, which is made when it does not exist."""
        target = os.path.realpath(target)
        if not os.path.lexists(target):
            self._make(target, folder=os.path.isdir(source))  # noqa: PTH112 - no pathlib, as above
        self.bind(source, target)

    def _make(self, target: str, *, folder: bool) -> None:
        missing: list[str] = []
        parent = os.path.dirname(target)  # noqa: PTH120 - no pathlib, as above
        while not os.path.lexists(parent):
            missing.insert(0, parent)
            parent = os.path.dirname(parent)  # noqa: PTH120 - no pathlib, as above
        if parent not in self._made:
            self._mirror(parent)
        for path in missing:
            os.mkdir(path)  # noqa: PTH102 - no pathlib, as above
            self._made.add(path)
        if folder:
            os.mkdir(target)  # noqa: PTH102 - no pathlib, as above
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))

    def _mirror(self, folder: str) -> None:
        """Put a tmpfs that shows the same entries in the place of a folder."""
        root = folder == "/"
        stage = _STAGE if root else folder
        mode = os.stat(folder).st_mode & 0o7777  # noqa: PTH116 - no pathlib, as above
        # What the tmpfs covers stays reachable through this descriptor.
        covered = f"/proc/self/fd/{os.open(stage, os.O_PATH)}"
        self._mount("tmpfs", stage, flags=0, kind="tmpfs", options=f"mode={mode:o}")
        with os.scandir(folder if root else covered) as entries:
            for entry in entries:
                self._copy(entry, f"{stage}/{entry.name}", source=covered if entry.path == _STAGE else entry.path)
        if root:
            # The copy of what the stage covers came with a copy of the stage on top.
            _check(self._libc.umount2(os.fsencode(stage + _STAGE), _MNT_DETACH), "cannot uncover the stage")
            os.chdir(stage)
            self._mount(".", "/", flags=_MS_MOVE)
            os.chroot(".")
            os.chdir("/")
        self._made.add(folder)

    def _copy(self, entry: os.DirEntry[str], target: str, *, source: str) -> None:
        try:
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), target)  # noqa: PTH115, PTH211 - no pathlib, as above
                return
            if entry.is_dir():
                os.mkdir(target)  # noqa: PTH102 - no pathlib, as above
            else:
                os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
            self.bind(source, target)
        except OSError as error:
            # Gone meanwhile, or closed to this user on the host too: the program goes without it.
            print(f"namespace: {entry.path} is left out: {error}", file=sys.stderr)  # noqa: T201 - the program's log


class ViewError(Exception):
    """The view cannot be made; the text is a sentence with the remedy."""


def enter(mounts: Iterable[tuple[str, str]]) -> None:
    """Let this process, which must have one thread only, see the host's files and folders at the given paths.

    Args:
        mounts: Pairs of an absolute path inside and an existing file or folder on the host.

    Raises:
        ViewError: this machine does not let it, or a file is missing.
    """
    folder = os.getcwd()  # noqa: PTH109 - no pathlib, as above
    view = _View()
    try:
        view.enter()
        # Opened before anything is mounted: a mount may cover the place where a later source lies.
        opened = [(target, os.open(source, os.O_PATH | os.O_CLOEXEC)) for target, source in mounts]
        # Parents before what lies in them.
        for target, descriptor in sorted(opened):
            view.attach(f"/proc/self/fd/{descriptor}", target)
        os.chdir(folder)
    except OSError as error:
        hint = ""
        if error.errno in (1, 13, 28):
            hint = (
                " (allow unprivileged user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0 and"
                " user.max_user_namespaces above 0; in Docker, --security-opt seccomp=unconfined)"
            )
        raise ViewError(f"Cannot prepare the private file system view: {error}{hint}") from error


def _main(arguments: list[str]) -> int:
    split = arguments.index("--")
    argv = arguments[split + 1 :]
    try:
        enter(zip(arguments[0:split:2], arguments[1:split:2], strict=True))
    except ViewError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the program's log
        return CANNOT_START
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - becoming the program, without a shell, is the purpose
    except OSError as error:
        print(f"Cannot run {argv[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201 - the program's log
        return _NOT_FOUND


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
