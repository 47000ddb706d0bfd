"""From snapshots to what ``decide`` reads."""

import logging
from collections.abc import Iterable
from dataclasses import replace

from backstay.adapters.kubernetes.client import CONTROLLER_REVISION, DEPLOYMENT, SERVICE, Object
from backstay.adapters.kubernetes.manifests import REVISION, backend_of, covers, others
from backstay.adapters.messages.plain import one_line
from backstay.adapters.traffic import TrafficProvider
from backstay.controller.runtime.store import Children
from backstay.domain.observed import Backend, Blocked, Route, Workload
from backstay.domain.resource import ModelDeployment, Plan, plan_of

_LOG = logging.getLogger(__name__)

_LONGEST_WORDS = 300


def workloads(children: Children) -> dict[Backend, Workload]:
    """Read the pods' state from the Deployments."""
    found = {}
    for body in children.of(DEPLOYMENT):
        backend = backend_of(body["metadata"])
        if backend is not None and "deletionTimestamp" not in body["metadata"]:
            found[backend] = _workload(body)
    return found


def _workload(body: Object) -> Workload:
    status = body.get("status", {})
    current = status.get("observedGeneration", 0) >= body["metadata"].get("generation", 0)
    refusal = next(
        (
            condition.get("message", "")
            for condition in status.get("conditions", ())
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True"
        ),
        "",
    )
    return Workload(
        replicas=body["spec"].get("replicas", 1) if current else 0,
        ready=status.get("readyReplicas", 0),
        blocked=Blocked("Unschedulable", one_line(refusal, _LONGEST_WORDS)) if refusal else None,
    )


def served(children: Children, desired: ModelDeployment) -> str:
    """Read which revision the stable Service selects; empty where there is none."""
    service = children.get(SERVICE, desired.key.name)
    return str(service["spec"].get("selector", {}).get(REVISION, "")) if service is not None else ""


def plans(children: Children) -> dict[str, Plan]:
    """Read the plans that are kept; a ControllerRevision that holds none, as people may make one, is left out."""
    kept = {}
    for body in children.of(CONTROLLER_REVISION):
        try:
            plan = plan_of(body["data"])
            kept[plan.revision] = plan
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            meta = body["metadata"]
            _LOG.warning("ControllerRevision %s/%s holds no plan (%r)", meta["namespace"], meta["name"], problem)
    return kept


def route(children: Children, provider: TrafficProvider, desired: ModelDeployment) -> Route | None:
    """Read the route, and whether it is still the one that the spec asks for, with nothing put beside that."""
    live = children.get(provider.kind, desired.key.name)
    if live is None or "deletionTimestamp" in live["metadata"]:
        return None
    found = provider.read(live)
    spec = provider.build(desired, found.weights, found.copies, ())["spec"]
    return replace(found, as_declared=covers(spec, live["spec"]) and not others(live["metadata"]))


def older_rival(desired: ModelDeployment, rivals: Iterable[ModelDeployment]) -> str:
    """Name the oldest of those that take some of the same requests, if it is older than this one, or nothing."""
    first = min((desired, *rivals), key=lambda one: (one.created_at, str(one.key)))
    return "" if first is desired else str(first.key)
