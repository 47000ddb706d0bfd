"""The hosts file that stands in for cluster DNS: every Service under the names that in-cluster URLs use."""

import socket
from collections.abc import Iterable
from pathlib import Path

from backstay_playground.node.api import Json


def cluster_ip(service: Json) -> str:
    """Return the Service's address; empty for headless and external ones."""
    address: str = service["spec"].get("clusterIP", "")
    return "" if address == "None" else address


def render(services: Iterable[Json], *, hostname: str) -> str:
    """Return the text of a hosts file; `hostname` is the machine's own name."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback", f"127.0.0.1 {hostname}"]
    for service in sorted(services, key=lambda each: (each["metadata"]["namespace"], each["metadata"]["name"])):
        if address := cluster_ip(service):
            name = f"{service['metadata']['name']}.{service['metadata']['namespace']}"
            lines.append(f"{address} {name} {name}.svc {name}.svc.cluster.local")
    return "\n".join(lines) + "\n"


def write_in_place(path: Path, services: Iterable[Json]) -> None:
    """Write the hosts file without replacing it: the running processes have this very inode mounted."""
    text = render(services, hostname=socket.gethostname()).encode()
    path.touch(mode=0o644)
    with path.open("r+b", buffering=0) as file:
        if file.read() != text:
            file.seek(0)
            file.write(text)
            file.truncate()
