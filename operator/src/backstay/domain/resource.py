"""The ModelDeployment as the user declared it, parsed once into frozen values."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from backstay.domain.depth import DEEPEST, too_deep
from backstay.domain.rules import Incident, Merge, OnGateFailure, OnInconclusive, Promotion, RollbackPolicy, WriteBack
from backstay.domain.signals import DEFAULT_SIGNAL, Profile, Signal, signal_of
from backstay.domain.units import seconds

GROUP = "backstay.dev"
VERSION = "v1alpha1"
KIND = "ModelDeployment"
PLURAL = "modeldeployments"

PAUSE = f"{GROUP}/pause"
APPROVE = f"{GROUP}/approve"
ABORT = f"{GROUP}/abort"
SKIP = f"{GROUP}/skip"
TRACKING_ID = "argocd.argoproj.io/tracking-id"
_ANNOTATIONS_WE_READ = (PAUSE, APPROVE, ABORT, SKIP, TRACKING_ID)


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """The name of one ModelDeployment in the cluster."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What ``spec.model`` says of one version; an absent field is the empty string."""

    name: str
    version: str
    digest: str = ""
    code_commit: str = ""
    data_checksum: str = ""
    run_id: str = ""
    feature_schema_version: str = ""
    promoted_by: str = ""
    promoted_at: str = ""

    @staticmethod
    def of(model: Mapping[str, Any]) -> "ModelIdentity":
        """Read the ``spec.model`` block."""
        return ModelIdentity(**{ours: str(model.get(theirs, "")) for ours, theirs in IDENTITY_FIELDS.items()})

    def is_meant_by(self, wanted: "ModelIdentity") -> bool:
        """Tell whether a file that says this declares a version; what either leaves open does not matter."""
        same = not self.digest or not wanted.digest or self.digest == wanted.digest
        return self.version == wanted.version and self.name in {"", wanted.name} and same

    def to_dict(self) -> dict[str, str]:
        """Write the ``spec.model`` block, without what is absent."""
        return {theirs: getattr(self, ours) for ours, theirs in IDENTITY_FIELDS.items() if getattr(self, ours)}


IDENTITY_FIELDS = {
    "name": "name",
    "version": "version",
    "digest": "digest",
    "code_commit": "codeCommit",
    "data_checksum": "dataChecksum",
    "run_id": "runID",
    "feature_schema_version": "featureSchemaVersion",
    "promoted_by": "promotedBy",
    "promoted_at": "promotedAt",
}


@dataclass(frozen=True, slots=True)
class Rejection:
    """A version, or one revision of it, that must never get traffic again.

    ``revision`` is empty where the whole version is rejected (as in Git), ``version`` where only a revision is.
    """

    version: str = ""
    digest: str = ""
    rollback_id: str = ""
    revision: str = ""

    def covers(self, identity: ModelIdentity, revision: str) -> bool:
        """Tell whether this rejection bars the revision of that identity."""
        if self.revision and self.revision == revision:
            return True
        same_digest = not self.digest or not identity.digest or self.digest == identity.digest
        return bool(self.version) and self.version == identity.version and same_digest


@dataclass(frozen=True, slots=True)
class WeightStep:
    """Hold the canary at a share of the traffic, in percent, for a time in seconds and a number of its requests."""

    weight: int
    min_duration: float = 0.0
    min_requests: int = 0


@dataclass(frozen=True, slots=True)
class ShadowStep:
    """Send the canary copies of a part of the requests, in percent, and none that it answers for a client."""

    percent: int = 100
    min_duration: float = 0.0
    min_requests: int = 0


@dataclass(frozen=True, slots=True)
class ApprovalStep:
    """Wait at the weight reached until a person approves."""


Step = WeightStep | ShadowStep | ApprovalStep


@dataclass(frozen=True, slots=True)
class Rollout:
    """How a version is taken to full traffic; times in seconds.

    ``rescue_after`` is how long no pod of the stable version may be ready before a ready canary takes all traffic.
    ``max_restarts`` is how many more restarts the canary's containers may have than those of the baseline.
    """

    steps: tuple[Step, ...]
    baseline: bool = True
    warmup: float = 180.0
    deadline: float = 43200.0
    progress_deadline: float = 600.0
    on_inconclusive: OnInconclusive = OnInconclusive.HOLD
    rescue_after: float = 120.0
    max_restarts: int = 0


@dataclass(frozen=True, slots=True)
class Dependence:
    """What the stable version's past teaches of requests that are not independent.

    ``history`` is how far back it is read, in seconds; 0 learns nothing. ``pods`` asks how far its pods differ for
    good, too.
    """

    history: float = 3600.0
    pods: bool = False


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is judged, how often (seconds), and the chance of rolling back a harmless version over a whole rollout.

    ``split_tolerance`` is the factor by which the odds of the traffic's split may differ from the route's weights; 0
    leaves the split unjudged.
    """

    interval: float
    alpha: float
    signals: tuple[Signal, ...]
    profile: Profile = Profile.BACKSTAY
    dependence: Dependence = Dependence()
    split_tolerance: float = 0.0


Claim: TypeAlias = tuple[str, str, str, str, str]
"""Requests of which only one model may have all: gateway, its namespace, section, path prefix, host name (or none)."""


@dataclass(frozen=True, slots=True)
class GatewayTraffic:
    """Where in the Gateway API the model's requests come from."""

    gateway: str
    namespace: str
    section: str = ""
    hostnames: tuple[str, ...] = ()
    path_prefix: str = "/"

    def claims(self) -> frozenset[Claim]:
        """Return which requests these are."""
        place = (self.gateway, self.namespace, self.section, self.path_prefix)
        return frozenset((*place, hostname) for hostname in self.hostnames or ("",))


@dataclass(frozen=True, slots=True)
class Serving:
    """How a version is served. ``template`` is the user's pod template as JSON data."""

    template: Mapping[str, Any]
    port: int = 8080
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one rollout runs by, copied at its start: later edits of steps or signals apply to the next one."""

    model: ModelIdentity
    serving: Serving
    rollout: Rollout
    analysis: Analysis
    document: Mapping[str, Any]

    def serving_version(self, model: ModelIdentity) -> "Plan":
        """Return the same plan for another version of the model."""
        return replace(self, model=model, document={**self.document, "model": model.to_dict()})

    @property
    def revision(self) -> str:
        """The hash that names this version served this way; ten hexadecimal digits, fixed across upgrades."""
        text = json.dumps(
            {
                "model": {"name": self.model.name, "version": self.model.version, "digest": self.model.digest},
                "serving": {
                    "port": self.serving.port,
                    "config": dict(self.serving.config),
                    "template": self.serving.template,
                },
            },
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:10]


@dataclass(frozen=True, slots=True)
class ModelDeployment:
    """One ModelDeployment: who it is, what it asks for."""

    key: Key
    uid: str
    generation: int
    created_at: str
    annotations: Mapping[str, str]
    plan: Plan
    rejected: tuple[Rejection, ...]
    retry_of: str
    registry_uri: str
    replicas: int
    traffic: GatewayTraffic
    rollback: RollbackPolicy
    promotion: Promotion | None = None
    on_gate_failure: OnGateFailure = OnGateFailure.HOLD
    feature_schemas: tuple[str, ...] = ()

    @staticmethod
    def of(body: Mapping[str, Any]) -> "ModelDeployment":
        """Parse an object as the API server stores it, defaults filled in.

        Raises:
            ValueError: naming what is wrong, when the object did not pass the CRD that this code belongs to, or nests
                too deeply.
        """
        meta, spec = body["metadata"], body["spec"]
        key = Key(meta["namespace"], meta["name"])
        deep = too_deep({"spec": spec})
        if deep:
            raise ValueError(f"ModelDeployment {key}: {deep} nests more than {DEEPEST} levels; write it with fewer")
        try:
            model, serving = spec["model"], spec["serving"]
            gateway = spec["traffic"]["gatewayAPI"]
            annotations = meta.get("annotations") or {}
            return ModelDeployment(
                key=key,
                uid=meta["uid"],
                generation=meta["generation"],
                created_at=meta.get("creationTimestamp", ""),
                annotations={name: annotations[name] for name in _ANNOTATIONS_WE_READ if name in annotations},
                plan=plan_of(spec),
                rejected=tuple(
                    Rejection(
                        version=entry["version"],
                        digest=entry.get("digest", ""),
                        rollback_id=entry.get("rollbackID", ""),
                    )
                    for entry in model.get("rejectedVersions", ())
                ),
                retry_of=model.get("retryOf", ""),
                registry_uri=spec["registry"]["uri"],
                on_gate_failure=OnGateFailure(spec["registry"].get("onGateFailure", OnGateFailure.HOLD)),
                feature_schemas=tuple(spec["registry"].get("featureSchemaVersions", ())),
                replicas=serving.get("replicas", 1),
                traffic=GatewayTraffic(
                    gateway=gateway["gateway"]["name"],
                    namespace=gateway["gateway"]["namespace"],
                    section=gateway["gateway"].get("sectionName", ""),
                    hostnames=tuple(gateway.get("hostnames", ())),
                    path_prefix=gateway.get("pathPrefix", "/"),
                ),
                rollback=_rollback(spec.get("rollback", {})),
                promotion=_promotion(spec.get("promotion")),
            )
        except KeyError as missing:
            raise ValueError(
                f"ModelDeployment {key} has no field {missing}: "
                "install the CustomResourceDefinition of this version of Backstay"
            ) from missing


def plan_of(spec: Mapping[str, Any]) -> Plan:
    """Read the parts of a spec (or of a stored plan) that one rollout runs by."""
    serving, rollout, analysis = spec["serving"], spec.get("rollout", {}), spec.get("analysis", {})
    baseline = rollout.get("baseline", {})
    return Plan(
        model=ModelIdentity.of(spec["model"]),
        serving=Serving(
            template=serving["template"], port=serving.get("port", 8080), config=dict(serving.get("config", {}))
        ),
        rollout=Rollout(
            steps=tuple(_step(step) for step in rollout.get("steps", ({"weight": 100},))),
            baseline=baseline.get("enabled", True),
            warmup=seconds(baseline.get("warmup", "3m")),
            deadline=seconds(rollout.get("deadline", "12h")),
            progress_deadline=seconds(rollout.get("progressDeadline", "10m")),
            on_inconclusive=OnInconclusive(rollout.get("onInconclusive", "hold")),
            rescue_after=seconds(rollout.get("rescueAfter", "2m")),
            max_restarts=rollout.get("maxRestarts", 0),
        ),
        analysis=Analysis(
            interval=seconds(analysis.get("interval", "15s")),
            alpha=float(analysis.get("alpha", 0.05)),
            signals=tuple(signal_of(signal) for signal in analysis.get("signals", (DEFAULT_SIGNAL,))),
            profile=Profile(analysis.get("profile", Profile.BACKSTAY)),
            dependence=_dependence(analysis.get("dependence", {})),
            split_tolerance=float(analysis["split"].get("tolerance", 1.1)) if "split" in analysis else 0.0,
        ),
        document=_document(spec),
    )


def _dependence(dependence: Mapping[str, Any]) -> Dependence:
    return Dependence(seconds(dependence.get("history", "1h")), pods=dependence.get("pods", False))


def _rollback(rollback: Mapping[str, Any]) -> RollbackPolicy:
    return RollbackPolicy(
        write_back=WriteBack(rollback.get("writeBack", "commit")),
        merge=Merge(rollback.get("merge", "automatic")),
        warm_for=seconds(rollback.get("warmFor", "24h")),
        incident=Incident(rollback.get("incident", "none")),
    )


def _promotion(promotion: Mapping[str, Any] | None) -> Promotion | None:
    return Promotion(promotion["to"], seconds(promotion.get("after", "24h"))) if promotion else None


def _document(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what a plan is made of, without what may change while it runs."""
    return {
        "model": ModelIdentity.of(spec["model"]).to_dict(),
        "serving": {name: value for name, value in spec["serving"].items() if name != "replicas"},
        "rollout": spec.get("rollout", {}),
        "analysis": spec.get("analysis", {}),
    }


def _step(step: Mapping[str, Any]) -> Step:
    if "approval" in step:
        return ApprovalStep()
    limits = seconds(step.get("minDuration", "0s")), step.get("minRequests", 0)
    if "shadow" in step:
        return ShadowStep(step["shadow"].get("percent", 100), *limits)
    return WeightStep(step["weight"], *limits)
