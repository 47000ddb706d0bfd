"""Traffic by the weights of a Gateway API HTTPRoute."""

import json
from collections.abc import Mapping
from typing import Any

from backstay.adapters.kubernetes.client import HTTP_ROUTE, Object
from backstay.adapters.kubernetes.manifests import SERVICE_PORT, metadata, workload_name
from backstay.domain.observed import Backend, Mark, Route, Track, Weights
from backstay.domain.resource import GROUP, ModelDeployment
from backstay.domain.units import timestamp, unix

REJECTED = f"{GROUP}/rejected"
_ALL = 100


class GatewayApi:
    """One HTTPRoute for each ModelDeployment, named like it."""

    kind = HTTP_ROUTE

    def build(self, desired: ModelDeployment, weights: Weights, copies: Weights, marks: tuple[Mark, ...]) -> Object:
        """Make the route. Weight 0 is written out, so that everyone can see what is drained.

        Copies are sent by RequestMirror filters: the gateway does not wait for their answers and throws them away.
        """
        traffic = desired.traffic
        parent = {"name": traffic.gateway, "namespace": traffic.namespace}
        if traffic.section:
            parent["sectionName"] = traffic.section
        meta = metadata(desired, desired.key.name)
        if marks:
            meta["annotations"] |= {REJECTED: json.dumps([_written(mark) for mark in marks])}

        def target(backend: Backend) -> Object:
            return {"name": workload_name(desired.key.name, backend), "port": SERVICE_PORT}

        rule: Object = {
            "matches": [{"path": {"type": "PathPrefix", "value": traffic.path_prefix}}],
            "backendRefs": [{**target(backend), "weight": weights[backend]} for backend in sorted(weights)],
        }
        if copies:
            rule["filters"] = [
                {
                    "type": "RequestMirror",
                    "requestMirror": {"backendRef": target(backend), "percent": copies[backend]},
                }
                for backend in sorted(copies)
            ]
        spec: Object = {"parentRefs": [parent], "rules": [rule]}
        if traffic.hostnames:
            spec["hostnames"] = list(traffic.hostnames)
        return {"apiVersion": self.kind.api_version, "kind": self.kind.kind, "metadata": meta, "spec": spec}

    def read(self, live: Object) -> Route:
        """Read weights, copies, marks, and whether the gateway has accepted this generation."""
        name, rules = live["metadata"]["name"], live["spec"].get("rules", ())
        refs = [ref for rule in rules for ref in rule.get("backendRefs", ())]
        filters = [one for rule in rules for one in rule.get("filters", ()) if one["type"] == "RequestMirror"]
        mirrors = [one["requestMirror"] for one in filters]
        return Route(
            weights={_backend(name, ref["name"]): ref.get("weight", 1) for ref in refs},
            copies={_backend(name, one["backendRef"]["name"]): one.get("percent", _ALL) for one in mirrors},
            marks=_marks(live["metadata"]),
            accepted=_accepted(live),
        )

    def problem(self, live: Object) -> str:
        """Say why the route is not served, in the gateway's own words."""
        for parent in live.get("status", {}).get("parents", ()):
            for condition in parent.get("conditions", ()):
                if condition["type"] == "Accepted" and condition["status"] == "False":
                    return f"The gateway does not accept the route: {condition.get('message') or condition['reason']}"
        return ""


def _backend(name: str, service: str) -> Backend:
    """Read a backend from its Service's name; a name that is not ours is kept as it is, to be written over."""
    rest = service.removeprefix(f"{name}-")
    revision = rest.removesuffix(f"-{Track.BASELINE}")
    return Backend(revision, Track.PRIMARY if revision == rest else Track.BASELINE)


def _written(mark: Mark) -> dict[str, Any]:
    document: dict[str, Any] = {
        "revision": mark.revision,
        "version": mark.version,
        "digest": mark.digest,
        "reason": mark.reason,
        "at": timestamp(mark.at) if mark.at else "",
        "rollbackID": mark.rollback_id,
        "inconclusive": mark.inconclusive,
        "evidence": list(mark.evidence),
    }
    return {name: value for name, value in document.items() if value}


def _marks(meta: Mapping[str, Any]) -> tuple[Mark, ...]:
    """Read the marks; an annotation that people have spoilt counts as none (status still has them)."""
    try:
        entries = json.loads((meta.get("annotations") or {}).get(REJECTED, "[]"))
        return tuple(
            Mark(
                revision=entry["revision"],
                version=entry.get("version", ""),
                digest=entry.get("digest", ""),
                reason=entry.get("reason", ""),
                at=unix(entry["at"]) if entry.get("at") else 0.0,
                rollback_id=entry.get("rollbackID", ""),
                inconclusive=entry.get("inconclusive", False),
                evidence=tuple(entry.get("evidence", ())),
            )
            for entry in entries
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()


def _accepted(live: Object) -> bool:
    generation = live["metadata"].get("generation", 0)
    return any(
        condition["type"] == "Accepted"
        and condition["status"] == "True"
        and condition.get("observedGeneration", 0) >= generation
        for parent in live.get("status", {}).get("parents", ())
        for condition in parent.get("conditions", ())
    )
