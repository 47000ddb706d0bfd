"""The objects that a ModelDeployment owns, as the API server is asked to keep them."""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from backstay.adapters.kubernetes.client import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    FIELD_MANAGER,
    SERVICE,
    Kind,
    Object,
)
from backstay.domain.observed import Backend, Track
from backstay.domain.resource import GROUP, KIND, VERSION, Key, ModelDeployment, Plan
from backstay.domain.status import RolloutState
from backstay_contract import environment

MANAGED_BY = "app.kubernetes.io/managed-by"
NAME = f"{GROUP}/name"
REVISION = f"{GROUP}/revision"
TRACK = f"{GROUP}/track"
FACTS = f"{GROUP}/facts"
SELECTOR = f"{MANAGED_BY}=backstay"
PORT_NAME = "http"
_TRACKS = frozenset(str(track) for track in Track)
# The same for every revision, so that a route may point at revisions that listen on different ports.
SERVICE_PORT = 8080


def workload_name(name: str, backend: Backend) -> str:
    """Name the Deployment and the Service of a backend; at most 61 characters."""
    suffix = "" if backend.track is Track.PRIMARY else f"-{backend.track}"
    return f"{name}-{backend.revision}{suffix}"


def backend_of(meta: Mapping[str, Any]) -> Backend | None:
    """Read from an object's labels which backend it belongs to; None where they name none."""
    labels = meta.get("labels") or {}
    if REVISION not in labels or labels.get(TRACK) not in _TRACKS:
        return None
    return Backend(labels[REVISION], Track(labels[TRACK]))


def owner_of(meta: Mapping[str, Any]) -> tuple[Key, str] | None:
    """Read which ModelDeployment an object belongs to, and that one's UID."""
    for owner in meta.get("ownerReferences") or ():
        if owner["kind"] == KIND and owner["apiVersion"].startswith(f"{GROUP}/"):
            return Key(meta["namespace"], owner["name"]), owner["uid"]
    return None


def metadata(desired: ModelDeployment, name: str, labels: Mapping[str, str] | None = None) -> Object:
    """Build the metadata of a child; labels are made from scratch, so that no tool takes it for its own."""
    return {
        "name": name,
        "namespace": desired.key.namespace,
        "labels": {
            "app.kubernetes.io/name": desired.key.name,
            MANAGED_BY: "backstay",
            NAME: desired.key.name,
            **(labels or {}),
        },
        # Our children change with every step; none of that is news for Argo CD.
        "annotations": {"argocd.argoproj.io/ignore-resource-updates": "true"},
        "ownerReferences": [
            {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "name": desired.key.name,
                "uid": desired.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }


def _of(kind: Kind, meta: Object, **content: Any) -> Object:
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **content}


def deployment(desired: ModelDeployment, backend: Backend, plan: Plan, replicas: int) -> Object:
    """Build the Deployment of a backend from the plan's pod template."""
    selector = {NAME: desired.key.name, REVISION: backend.revision, TRACK: str(backend.track)}
    template = plan.serving.template
    user = template.get("metadata") or {}
    first, *others = template["spec"]["containers"]
    server = {
        **first,
        "ports": first.get("ports") or [{"name": PORT_NAME, "containerPort": plan.serving.port, "protocol": "TCP"}],
        "env": list(_environment(desired, backend, plan, first.get("env") or ())),
    }
    return _of(
        DEPLOYMENT,
        metadata(desired, workload_name(desired.key.name, backend), selector),
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": selector},
            "revisionHistoryLimit": 0,
            "template": {
                "metadata": {
                    "labels": {
                        **(user.get("labels") or {}),
                        "app.kubernetes.io/name": desired.key.name,
                        MANAGED_BY: "backstay",
                        **selector,
                    },
                    **({"annotations": user["annotations"]} if user.get("annotations") else {}),
                },
                "spec": {**template["spec"], "containers": [server, *others]},
            },
        },
    )


def _environment(
    desired: ModelDeployment, backend: Backend, plan: Plan, own: Iterator[Mapping[str, Any]] | Any
) -> Iterator[Mapping[str, Any]]:
    """Give the server the version's facts; what the template sets itself stays."""
    facts = {
        environment.MODEL_NAME: plan.model.name,
        environment.MODEL_VERSION: plan.model.version,
        environment.MODEL_URI: f"models:/{plan.model.name}/{plan.model.version}",
        environment.MODEL_DIGEST: plan.model.digest,
        environment.MODEL_REVISION: backend.revision,
        environment.TRACKING_URI: desired.registry_uri,
        environment.FEATURE_SCHEMA_VERSION: plan.model.feature_schema_version,
        environment.PORT: str(plan.serving.port),
        **{_upper_snake(name): value for name, value in plan.serving.config.items()},
    }
    own = list(own)
    named = {entry["name"] for entry in own}
    for name, value in facts.items():
        if value and name not in named:
            yield {"name": name, "value": value}
    for name, path in ((environment.POD_NAME, "metadata.name"), (environment.POD_IP, "status.podIP")):
        if name not in named:
            yield {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
    yield from own


def _upper_snake(name: str) -> str:
    """Turn ``servingThreshold`` into ``SERVING_THRESHOLD``, and leave ``LOG_LEVEL`` as it is."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper()


def service(desired: ModelDeployment, backend: Backend, plan: Plan) -> Object:
    """Build the Service of one backend."""
    selector = {NAME: desired.key.name, REVISION: backend.revision, TRACK: str(backend.track)}
    return _of(
        SERVICE,
        metadata(desired, workload_name(desired.key.name, backend), selector),
        spec={"selector": selector, "ports": [_port(plan)]},
    )


def stable_service(desired: ModelDeployment, revision: str, plan: Plan) -> Object:
    """Build the Service named after the ModelDeployment, for callers inside the cluster.

    It bears the digest of the stable version's facts, so that it tells whether their ConfigMap was applied.
    """
    selector = {NAME: desired.key.name, REVISION: revision, TRACK: str(Track.PRIMARY)}
    meta = metadata(desired, desired.key.name)
    meta["annotations"] |= {FACTS: digest(facts(desired, plan))}
    return _of(SERVICE, meta, spec={"selector": selector, "ports": [_port(plan)]})


def _port(plan: Plan) -> Object:
    return {"name": PORT_NAME, "port": SERVICE_PORT, "targetPort": plan.serving.port, "protocol": "TCP"}


def facts(desired: ModelDeployment, plan: Plan) -> Object:
    """Build the ConfigMap with the facts of the stable version, under the keys that teams know."""
    model = plan.model
    data = {
        "model_name": model.name,
        "model_version": model.version,
        "model_stage": desired.key.namespace,
        "registry_uri": desired.registry_uri,
        "serving_threshold": plan.serving.config.get("servingThreshold", ""),
        "feature_schema_version": model.feature_schema_version,
        "deployed_at": model.promoted_at,
        "deployed_by": model.promoted_by,
        "training_run_id": model.run_id,
    }
    return _of(
        CONFIG_MAP,
        metadata(desired, f"{desired.key.name}-model-config"),
        data={name: value for name, value in data.items() if value},
    )


def evidence(desired: ModelDeployment, rollout: RolloutState, document: Mapping[str, Any]) -> Object:
    """Build the ConfigMap with the evidence of the last rollout, packed: a long one would not fit otherwise."""
    packed = gzip.compress(json.dumps(document, separators=(",", ":")).encode(), mtime=0)
    meta = metadata(desired, f"{desired.key.name}-evidence")
    meta["annotations"] |= {f"{GROUP}/rollout": rollout.id}
    return _of(CONFIG_MAP, meta, binaryData={"evidence.json.gz": base64.b64encode(packed).decode()})


def stored_plan(desired: ModelDeployment, plan: Plan) -> Object:
    """Build the ControllerRevision that keeps a plan."""
    labels = {REVISION: plan.revision}
    return _of(
        CONTROLLER_REVISION,
        metadata(desired, f"{desired.key.name}-{plan.revision}", labels),
        data=dict(plan.document),
        revision=1,
    )


def others(meta: Mapping[str, Any]) -> list[Object]:
    """Return the managed fields by which somebody else holds a part of an object's spec."""
    return [
        entry
        for entry in meta.get("managedFields") or ()
        if entry["manager"] != FIELD_MANAGER
        and entry.get("subresource") != "status"
        and "f:spec" in entry.get("fieldsV1", {})
    ]


def digest(body: Object) -> str:
    """Return what two objects have in common only if they are the same."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def is_as_wanted(wanted: Object, live: Object) -> bool:
    """Tell whether a live object holds everything wanted of it, and nothing that somebody else has put beside it."""
    return covers(wanted, live) and not others(live["metadata"])


def covers(wanted: Any, live: Any) -> bool:
    """Tell whether a live object holds everything wanted of it; defaults that the API server adds do not matter."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            name in live and covers(value, live[name]) for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(wanted) == len(live)
            and all(covers(one, other) for one, other in zip(wanted, live, strict=True))
        )
    return bool(wanted == live)
