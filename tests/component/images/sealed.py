"""Run a program as a container of an image does: files of the image at their places, and nothing else writable.

A script, for a process of its own. Its one argument is JSON: `mounts` are pairs of an absolute path inside and a file
or folder of the host, `writable` the paths that stay writable (null: all of them), `environment` is the whole
environment of the program, `folder` where it starts, and `command` the program with its arguments.
"""

import ctypes
import json
import os
import sys

from backstay_playground.node.namespace import enter

_MOUNT_SETATTR = 442  # the same number on every architecture
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_RDONLY = 0x1


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _set(path: str, *, flags: int, attributes: _MountAttr) -> None:
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), flags, ctypes.byref(attributes), size) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{path} cannot be made read-only or writable: {os.strerror(number)} (Linux 5.12 can)")


def _main(given: str) -> None:
    asked = json.loads(given)
    enter([(target, source) for target, source in asked["mounts"]])
    if asked["writable"] is not None:
        _set("/", flags=_AT_RECURSIVE, attributes=_MountAttr(attr_set=_RDONLY))
        for path in asked["writable"]:
            _set(path, flags=0, attributes=_MountAttr(attr_clr=_RDONLY))
    os.chdir(asked["folder"])
    os.execvpe(asked["command"][0], asked["command"], asked["environment"])  # noqa: S606 - becoming it is the purpose


if __name__ == "__main__":
    _main(sys.argv[1])
