"""What an environment showed of the version that it runs: read from the cluster, where it can be reached from here."""

import asyncio
import base64
import binascii
import gzip
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from backstay.cli.git.overlays import Overlay
from backstay.cli.wording import span
from backstay.domain.resource import ModelIdentity
from backstay.domain.status import Status, Verdict
from backstay.judge.document import EvidenceError, evidence_of
from backstay.judge.replay import judge

Object = dict[str, Any]

_SECONDS = 15.0
_MOST_UNPACKED = 50_000_000


@dataclass(frozen=True, slots=True)
class Gathered:
    """Sentences about a version, or one that says why there are none. ``stable`` tells whether it serves as stable."""

    sentences: tuple[str, ...] = ()
    unsaid: str = ""
    stable: bool = False


def gather(overlay: Overlay, identity: ModelIdentity, now: float) -> Gathered:
    """Ask the cluster of the current context what it saw of a version; it is only read, and need not be there.

    Args:
        overlay: the environment.
        identity: the version that it declares.
        now: Unix seconds.
    """
    if not _is_configured():
        return Gathered(unsaid="The cluster was not asked: there is no kubeconfig here")
    if not overlay.namespace:
        return Gathered(unsaid=f"{overlay.path} says no namespace, so the cluster was not asked")
    from backstay.adapters.kubernetes.client import ApiError  # noqa: PLC0415 - slow to import, and often not needed

    try:
        found, evidence = asyncio.run(asyncio.wait_for(_read(overlay), _SECONDS))
    except (ApiError, TimeoutError) as problem:
        return Gathered(unsaid=f"The cluster was not asked: {str(problem) or 'it did not answer in time'}")
    status = Status.of(found.get("status") or {})
    sentences = list(_sentences(status, identity, now))
    stable = status.stable is not None and _same(status.stable.version, status.stable.digest, identity)
    if stable:
        sentences += _judged(evidence, status)
    return Gathered(tuple(sentences), stable=stable)


def _is_configured() -> bool:
    """Tell whether there is anything to connect with; the client would log that there is nothing."""
    named = os.environ.get("KUBECONFIG") or "~/.kube/config"
    files = [Path(name).expanduser() for name in named.split(os.pathsep) if name]
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(file.is_file() for file in files)


async def _read(overlay: Overlay) -> tuple[Object, Object]:
    from backstay.adapters.kubernetes.client import CONFIG_MAP, MODEL_DEPLOYMENT, Cluster, NotFoundError  # noqa: PLC0415

    cluster = await Cluster.connect()
    try:
        found = await cluster.get(MODEL_DEPLOYMENT, overlay.namespace, overlay.name)
        try:
            evidence = await cluster.get(CONFIG_MAP, overlay.namespace, f"{overlay.name}-evidence")
        except NotFoundError:
            evidence = {}
        return found, evidence
    finally:
        await cluster.close()


def _sentences(status: Status, identity: ModelIdentity, now: float) -> Iterator[str]:
    version = identity.version
    if status.stable is None or not _same(status.stable.version, status.stable.digest, identity):
        serves = f"version {status.stable.version}" if status.stable else "no version"
        yield f"It serves {serves} as stable, not version {version}: {_present(status)}"
        return
    if status.stable.since:
        yield f"Version {version} has been stable for {span(now - status.stable.since)}, phase {status.phase}"
    ended = [one for one in status.history if one.version == version]
    if ended:
        last = ended[-1]
        yield f"Its rollout took {span(last.ended_at - last.started_at)} and ended {last.outcome}"
        if last.reason:
            yield last.reason
    failed = sum(one.outcome == "Failed" for one in ended)
    if failed:
        yield f"It failed there {failed} times before"


def _present(status: Status) -> str:
    """Say what goes on, for a pull request: without the words of a container, which stand in the message."""
    record = status.rollback
    if record is not None and record.said and record.said in status.message:
        return f"version {record.from_version} failed: {record.reason}"
    return status.message or status.phase


def _same(version: str, digest: str, identity: ModelIdentity) -> bool:
    return version == identity.version and (not digest or not identity.digest or digest == identity.digest)


def _judged(evidence: Object, status: Status) -> Iterator[str]:
    """Judge the rollout's evidence again and say what it holds; evidence of another rollout is passed over."""
    rollout = ((evidence.get("metadata") or {}).get("annotations") or {}).get("backstay.dev/rollout", "")
    if status.stable is None or not str(rollout).startswith(f"{status.stable.version}-"):
        return
    document = _unpacked(evidence)
    signals = document.get("signals") or []
    try:
        answer = judge(evidence_of(dict(document)))
    except EvidenceError:
        return
    requests = {signal["name"]: int(sum(_requests(one["canary"]) for one in signal["intervals"])) for signal in signals}
    for signal in answer["signals"]:
        name = signal["name"]
        verdict = "no evidence of harm" if signal["verdict"] == Verdict.PASS else f"verdict {signal['verdict']}"
        yield f"Signal {name}: {verdict} in {requests.get(name, 0):,} of its requests during the rollout"


def _unpacked(evidence: Object) -> Mapping[str, Any]:
    packed = (evidence.get("binaryData") or {}).get("evidence.json.gz", "")
    try:
        with gzip.GzipFile(fileobj=BytesIO(base64.b64decode(packed, validate=True))) as file:
            document = json.loads(file.read(_MOST_UNPACKED))
    except (OSError, EOFError, ValueError, binascii.Error):
        return {}
    return document if isinstance(document, dict) else {}


def _requests(arm: Any) -> float:
    return float(arm["total"]) if isinstance(arm, dict) else float(sum(arm))
