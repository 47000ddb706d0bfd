"""Ports that are found free once and kept, so that a restarted component answers where it did before."""

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from backstay_playground.errors import PlaygroundError
from backstay_playground.layout import write_private

PREFERRED: Mapping[str, int] = {
    "gateway": 18080,
    "kube-apiserver": 16443,
    "etcd": 12379,
    "etcd-peer": 12380,
    "kube-controller-manager": 10257,
    "node": 10248,
    "redis": 16379,
    "gitea": 13000,
    "mlflow": 15000,
    "prometheus": 19090,
    "envoy-gateway-admin": 19000,
    "argocd-repo-server": 18081,
    "argocd-repo-server-metrics": 18084,
    "argocd-application-controller": 18082,
}
"""The port each listener gets when it is free."""

_LAST_PORT = 65535
# Envoy and Argo CD's metrics listen on all addresses, and a pod's port on one address would then be in the way.
_ALL_ADDRESSES = frozenset({"gateway", "argocd-application-controller"})
# Ports that pods and Services commonly use on their own loopback addresses.
_OF_PODS = frozenset({3000, 5000, 8080, 9090})


def variable(name: str) -> str:
    """Return the environment variable that sets the port of `name`, such as BACKSTAY_PORT_GATEWAY."""
    return f"BACKSTAY_PORT_{name.upper().replace('-', '_')}"


def address_of(name: str) -> str:
    """Return the address on which listener `name` listens."""
    return "0.0.0.0" if name in _ALL_ADDRESSES else "127.0.0.1"


def is_free(address: str, port: int) -> bool:
    """Tell whether a listener could take `port` on `address` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError:
            return False
    return True


def parse_choices(words: list[str]) -> dict[str, int]:
    """Parse `name=port` words and the BACKSTAY_PORT_* variables; a word wins over a variable.

    Raises:
        PlaygroundError: an unknown name, or a port that is no port.
    """
    chosen = {name: os.environ[variable(name)] for name in PREFERRED if os.environ.get(variable(name))}
    for word in words:
        name, _, port = word.partition("=")
        if name not in PREFERRED:
            raise PlaygroundError(f"There is no port named {name!r}; known names: {', '.join(sorted(PREFERRED))}.")
        chosen[name] = port
    return {name: _parse_port(name, port) for name, port in chosen.items()}


def _parse_port(name: str, text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _LAST_PORT:
        raise PlaygroundError(f"Port {text!r} of {name} is not a number from 1 to {_LAST_PORT}.")
    if name in _ALL_ADDRESSES and int(text) in _OF_PODS:
        raise PlaygroundError(f"Port {text} of {name} would take that port from every pod; choose another one.")
    return int(text)


def remembered(path: Path) -> dict[str, int]:
    """Return the ports in the memory file; nothing when there is none."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise PlaygroundError(f"The port memory {path} is damaged: remove it, or run `down`, and try again.") from error
    return {name: int(port) for name, port in raw.items() if name in PREFERRED}


def assign(path: Path, chosen: Mapping[str, int]) -> dict[str, int]:
    """Return a port for every listener and remember them.

    A chosen port wins, then the remembered one, then the preferred one if it is free, then any free one.

    Raises:
        PlaygroundError: two listeners were given the same port.
    """
    ports = {**remembered(path), **chosen}
    for name, preferred in PREFERRED.items():
        if name not in ports:
            taken, address = set(ports.values()), address_of(name)
            free = preferred not in taken and is_free(address, preferred)
            ports[name] = preferred if free else _any_free(address, taken)
    for name, port in ports.items():
        twins = sorted(other for other in ports if ports[other] == port)
        if len(twins) > 1:
            raise PlaygroundError(f"Port {port} was given to {' and '.join(twins)}; {name} needs one of its own.")
    write_private(path, json.dumps(ports, indent=2))
    return ports


def _any_free(address: str, taken: set[int]) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind((address, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port
