"""What no environment shows by itself: two that are in each other's way."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from backstay.cli.verifying.environments import Checked, Environment
from backstay.cli.verifying.findings import Finding


def collisions(checked: Iterable[Checked]) -> Iterator[Finding]:
    """Find environments that are one and the same object, or take the same requests from one Gateway."""
    objects: dict[tuple[str, str], list[Environment]] = defaultdict(list)
    requests: dict[tuple[str, str, str], list[Environment]] = defaultdict(list)
    for one in checked:
        # What does not keep the schema has been told of, and may have any shape.
        if one.body is None or not one.sound:
            continue
        metadata, spec = one.body["metadata"], one.body["spec"]
        objects[metadata["namespace"], metadata["name"]].append(one.environment)
        gateway = ((spec.get("traffic") or {}).get("gatewayAPI")) or {}
        name = gateway.get("gateway") or {}
        at = f"{name.get('namespace')}/{name.get('name')}/{name.get('sectionName', '')}"
        for hostname in gateway.get("hostnames") or [""]:
            requests[at, hostname, gateway.get("pathPrefix", "/")].append(one.environment)
    for (namespace, name), sharing in objects.items():
        for other in sharing[1:]:
            sentence = f"{namespace}/{name} is also declared by {sharing[0].path}; give it a namespace of its own"
            yield Finding(other.path, 0, sentence)
    for (_, hostname, prefix), sharing in requests.items():
        for other in sharing[1:]:
            what = f"requests for {hostname or 'any host'}{prefix}"
            yield Finding(other.path, 0, f"{what} already go to {sharing[0].path}; change hostnames or pathPrefix")
