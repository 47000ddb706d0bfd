"""Who asked the API server for what, from its audit log."""

import json
from collections import Counter
from pathlib import Path

_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
# How the clients call themselves that are no part of what is measured: the stand-ins, and the cluster's own.
_OTHERS = ("Python/", "kube-controller-manager", "kube-apiserver", "kubectl", "Go-http-client/", "python-httpx/")


class Audit:
    """Counts requests by verb.

    Args:
        folder: for policy and log.
    """

    def __init__(self, folder: Path) -> None:
        self._log = folder / "audit.log"
        self._policy = folder / "audit-policy.json"
        self._policy.write_text(json.dumps(_POLICY), encoding="utf-8")
        self._read = 0

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the API server has to be started with."""
        return (
            f"--audit-policy-file={self._policy}",
            f"--audit-log-path={self._log}",
            "--audit-log-maxsize=100000",
            "--audit-log-format=json",
        )

    def since_last_time(self) -> Counter[str]:
        """Count what the measured controller has asked for since this was called last, by verb and resource."""
        found: Counter[str] = Counter()
        with self._log.open("rb") as log:
            log.seek(self._read)
            events = log.read()
        whole = events.rfind(b"\n") + 1
        self._read += whole
        for line in events[:whole].splitlines():
            event = json.loads(line)
            if event["stage"] == "ResponseComplete" and not event.get("userAgent", "").startswith(_OTHERS):
                what = event.get("objectRef", {})
                name = "/".join(part for part in (what.get("resource"), what.get("subresource")) if part)
                found[f"{event['verb']} {name}"] += 1
        return found
