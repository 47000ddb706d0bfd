"""A Python interpreter with a network of its own, in which nothing but loopback exists.

Two playgrounds need the same addresses and some of the same ports, so each has to have its own loopback interface. Run
as a script, this file takes the arguments that Python takes and becomes a Python process in new user and network
namespaces; its children share them. It needs no root: an ordinary user stays that user.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


def _leave() -> None:
    user, group = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib takes 5 ms to import
            file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _main() -> None:
    try:
        _leave()
    except OSError as error:
        sys.exit(
            f"No network of its own for Python: {error.strerror}. Allow unprivileged user namespaces: "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0 and user.max_user_namespaces above 0; "
            "in Docker, --security-opt seccomp=unconfined"
        )
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])  # noqa: S606 - becoming Python is the purpose


if __name__ == "__main__":
    _main()
