"""From a container's spec to a process: the command for its image, its environment, and its view of the file system."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backstay_playground.node.api import Json
from backstay_playground.node.environment import ImageError, Objects, build, expand
from backstay_playground.node.process import Launch


def command_of_image(images: Path, image: str) -> list[str]:
    """Return the argv prefix that stands for an image.

    Raises:
        ImageError: the images file does not name it, or cannot be read.
    """
    try:
        known = json.loads(images.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read the images file {images}: {error}") from error
    if image not in known:
        raise ImageError(
            f'image "{image}" is not in {images}: add it there (image name -> list of command words), or give the '
            "container a command"
        )
    return [str(word) for word in known[image]]


@dataclass(frozen=True)
class Surroundings:
    """What the node gives to every container.

    Args:
        images: The images file.
        hosts: The hosts file, mounted in place of /etc/hosts.
        logs: The folder of the log files.
        objects: ConfigMaps and Secrets.
        api_server: Host and port where pods reach the API server.
    """

    images: Path
    hosts: Path
    logs: Path
    objects: Objects
    api_server: tuple[str, int]


def log_file(logs: Path, pod: Json, container: str) -> Path:
    """Return where a container's output goes."""
    return logs / f"{pod['metadata']['namespace']}_{pod['metadata']['name']}_{container}.log"


@dataclass(frozen=True)
class Place:
    """Where a container of a pod runs.

    Args:
        address: The pod's own address.
        home: The pod's home folder, also the working folder.
        mounts: Path inside -> path on the host.
    """

    address: str
    home: Path
    mounts: Mapping[str, Path]


def prepare(container: Json, pod: Json, *, place: Place, node: Surroundings) -> Launch:
    """Work out how to start a container.

    Raises:
        ConfigError: something it names does not exist or is not offered.
    """
    host, port = node.api_server
    base = {
        "PATH": os.environ.get("PATH", os.defpath),
        # The caller's own home may hold credentials of real clusters.
        "HOME": str(place.home),
        "HOSTNAME": pod["metadata"]["name"],
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": str(port),
        "KUBERNETES_SERVICE_PORT_HTTPS": str(port),
    }
    env = build(container, pod, address=place.address, objects=node.objects, base=base)
    if container.get("command"):
        argv = [expand(word, env) for word in container["command"]]
    else:
        argv = command_of_image(node.images, container.get("image", ""))
    argv += [expand(word, env) for word in container.get("args") or []]
    if container.get("workingDir"):
        # The folder may exist only inside.
        argv = ["env", f"--chdir={container['workingDir']}", *argv]
    log = log_file(node.logs, pod, container["name"])
    return Launch(argv, env, place.home, log, place.mounts, entered=_runs_commands(container))


def _runs_commands(container: Json) -> bool:
    probes = (container.get(probe) or {} for probe in ("startupProbe", "readinessProbe", "livenessProbe"))
    hooks = (container.get("lifecycle") or {}).values()
    return any("exec" in action for action in (*probes, *hooks))
