"""What the watches have shown: snapshots and children by ModelDeployment, with our own writes seen at once."""

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

from backstay.adapters.kubernetes.client import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    HTTP_ROUTE,
    MODEL_DEPLOYMENT,
    SERVICE,
    Kind,
    Object,
)
from backstay.adapters.kubernetes.manifests import others, owner_of
from backstay.controller.runtime.packed import pack, unpack
from backstay.controller.runtime.queue import Wake
from backstay.domain.depth import too_deep
from backstay.domain.resource import Claim, Key, ModelDeployment
from backstay.domain.rollout import aborted
from backstay.domain.status import RollbackState, Status

_LOG = logging.getLogger(__name__)

_GONE_KEPT = 1000
# Those that are worked on now are looked at several times.
_PARSED_KEPT = 64
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
CHILDREN = (DEPLOYMENT, SERVICE, CONTROLLER_REVISION, HTTP_ROUTE)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One ModelDeployment as last seen; ``problem`` is a sentence where its spec could not be read."""

    resource_version: int
    desired: ModelDeployment | None
    status: Status
    conditions: tuple[Mapping[str, Any], ...]
    observed_generation: int
    generation: int
    uid: str
    deleting: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """A ModelDeployment at rest: what is asked of all of them at once, and the rest packed.

    ``status`` is without what the judge remembers. ``problem`` is a sentence where the spec could not even be kept.
    """

    version: int
    uid: str
    status: Status
    claims: frozenset[Claim]
    packed: bytes
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Child:
    """An object that a ModelDeployment owns, as last seen."""

    version: int
    uid: str
    owner: str
    packed: bytes


@dataclass(slots=True)
class Children:
    """What a ModelDeployment owns, by kind and name. The objects must not be changed."""

    objects: dict[tuple[str, str], Child] = field(default_factory=dict)

    def of(self, kind: Kind) -> Iterator[Object]:
        """Go through the objects of one kind."""
        return (unpack(kind, child.packed) for (name, _), child in self.objects.items() if name == kind.kind)

    def get(self, kind: Kind, name: str) -> Object | None:
        """Find one object."""
        child = self.objects.get((kind.kind, name))
        return unpack(kind, child.packed) if child is not None else None


class Store:
    """Snapshots and children; an older version of an object never replaces a newer one."""

    def __init__(self, changed: Wake) -> None:
        self._changed = changed
        self._models: dict[Key, Model] = {}
        self._parsed: OrderedDict[Key, Snapshot] = OrderedDict()
        self.children: dict[Key, Children] = {}
        # The versions at which objects were deleted, by uid.
        self._gone: dict[str, int] = {}
        # Who declares to take the same requests.
        self._claims: dict[Claim, set[Key]] = {}
        self._listed: set[Kind] = set()

    def statuses(self) -> dict[Key, Status]:
        """Return the status of every ModelDeployment, less the judge's memory; may be called from another thread."""
        return {key: model.status for key, model in list(self._models.items())}

    def at_stake(self) -> list[Key]:
        """Return those of which a version is tried or still drained: while no worker looks, requests may fail."""
        return [key for key, model in self._models.items() if _at_stake(model.status)]

    def snapshot(self, key: Key) -> Snapshot | None:
        """Return a ModelDeployment as last seen."""
        model = self._models.get(key)
        if model is None:
            return None
        found = self._parsed.get(key)
        if found is None:
            found = _snapshot(unpack(MODEL_DEPLOYMENT, model.packed), model.version)
            if model.problem:
                found = replace(found, desired=None, problem=model.problem)
        self._keep(key, found)
        return found

    def _keep(self, key: Key, snapshot: Snapshot) -> None:
        self._parsed[key] = snapshot
        self._parsed.move_to_end(key)
        if len(self._parsed) > _PARSED_KEPT:
            self._parsed.popitem(last=False)

    def put(self, body: Mapping[str, Any]) -> None:
        """Take in a ModelDeployment."""
        meta = body["metadata"]
        key = Key(meta["namespace"], meta["name"])
        version = int(meta["resourceVersion"])
        known = self._models.get(key)
        if known is not None and known.version >= version:
            return
        found = _snapshot(body, version)
        claims = found.desired.traffic.claims() if found.desired else frozenset()
        self._claim(key, known.claims if known else frozenset(), claims)
        kept, problem = {**body, "metadata": _unmanaged(meta)}, ""
        # What nests too deeply is not packed, which would need as deep a stack.
        if found.desired is None and too_deep({"spec": body.get("spec")}):
            kept["spec"], problem = {}, found.problem
        if too_deep(body.get("status")):
            kept["status"] = {}
        packed = pack(MODEL_DEPLOYMENT, kept)
        self._models[key] = Model(version, found.uid, replace(found.status, analysis={}), claims, packed, problem)
        self._keep(key, found)
        rollout = found.status.rollout
        self._changed(key, urgent=bool(found.desired and rollout and aborted(found.desired, rollout)))

    def _claim(self, key: Key, old: frozenset[Claim], new: frozenset[Claim]) -> None:
        for claim in old - new:
            self._claims[claim].discard(key)
            if not self._claims[claim]:
                del self._claims[claim]
        for claim in new - old:
            self._claims.setdefault(claim, set()).add(key)

    def rivals(self, desired: ModelDeployment) -> list[ModelDeployment]:
        """Return the other ModelDeployments that take some of the same requests."""
        keys = {key for claim in desired.traffic.claims() for key in self._claims.get(claim, ())} - {desired.key}
        return [found.desired for key in keys if (found := self.snapshot(key)) is not None and found.desired]

    def drop(self, namespace: str, name: str, uid: str) -> None:
        """Forget a deleted ModelDeployment; its children are collected by the API server."""
        key = Key(namespace, name)
        known = self._models.get(key)
        if known is not None and known.uid == uid:
            self._claim(key, known.claims, frozenset())
            del self._models[key]
            self._parsed.pop(key, None)
            self._changed(key)

    def put_child(self, kind: Kind, body: Object) -> None:
        """Take in an object that one of ours owns; the late answer to a write does not bring a deleted one back."""
        meta = body["metadata"]
        found, version = owner_of(meta), int(meta["resourceVersion"])
        if found is None or version <= self._gone.get(meta["uid"], 0):
            return
        key, owner = found
        slot = (kind.kind, meta["name"])
        children = self.children.setdefault(key, Children()).objects
        known = children.get(slot)
        if known is not None and known.version >= version:
            return
        foreign, kept = others(meta), _unmanaged(meta)
        if foreign:
            kept["managedFields"] = foreign
        children[slot] = Child(version, meta["uid"], owner, pack(kind, {**body, "metadata": kept}))
        self._changed(key)

    def drop_child(self, kind: Kind, body: Mapping[str, Any]) -> None:
        """Forget an object that was deleted, or has lost the label that it is watched by."""
        meta = body["metadata"]
        found = owner_of(meta)
        if found is not None:
            self._remove(found[0], (kind.kind, meta["name"]), meta["uid"], int(meta["resourceVersion"]))

    def _remove(self, key: Key, slot: tuple[str, str], uid: str, version: int) -> None:
        self._gone[uid] = version
        if len(self._gone) > _GONE_KEPT:
            del self._gone[next(iter(self._gone))]
        children = self.children.get(key)
        known = children.objects.get(slot) if children else None
        if children is None or known is None or known.uid != uid or known.version > version:
            return
        del children.objects[slot]
        if not children.objects:
            del self.children[key]
        self._changed(key)

    def take(self, kind: Kind, bodies: Iterable[Object]) -> None:
        """Take in objects of a listing; one that cannot be read is left out, and told in the log."""
        for body in bodies:
            try:
                if kind is MODEL_DEPLOYMENT:
                    self.put(body)
                else:
                    self.put_child(kind, body)
            except Exception:  # noqa: BLE001 - one object must not keep the others out
                meta = body["metadata"]
                _LOG.exception("%s %s/%s cannot be read", kind.kind, meta.get("namespace"), meta.get("name"))

    def keep_only(self, kind: Kind, uids: AbstractSet[str], version: int) -> None:
        """End a full listing: drop the objects of its kind that it does not have, unless they are newer than it."""
        self._listed.add(kind)
        if kind is MODEL_DEPLOYMENT:
            for key, model in list(self._models.items()):
                if model.uid not in uids and model.version <= version:
                    self.drop(key.namespace, key.name, model.uid)
            return
        for key, children in list(self.children.items()):
            for slot, child in list(children.objects.items()):
                if slot[0] == kind.kind and child.uid not in uids:
                    self._remove(key, slot, child.uid, version)

    def has_listed(self, kind: Kind) -> bool:
        """Tell whether there was a full listing of a kind."""
        return kind in self._listed

    def owned(self, key: Key, uid: str) -> Children:
        """Return the children that belong to this very ModelDeployment, not to a former one of its name."""
        children = self.children.get(key, Children())
        return Children({slot: child for slot, child in children.objects.items() if child.owner == uid})


def _at_stake(status: Status) -> bool:
    draining = status.rollback is not None and status.rollback.state is RollbackState.DRAINING
    return status.rollout is not None or draining


def _unmanaged(meta: Mapping[str, Any]) -> Object:
    """Copy an object's metadata without who manages which of its fields, which is most of its text."""
    return {name: value for name, value in meta.items() if name != "managedFields"}


def _snapshot(body: Mapping[str, Any], version: int) -> Snapshot:
    """Parse an object: a spec that cannot be read is a problem, and a status that cannot be read counts as lost."""
    meta, raw = body["metadata"], body.get("status") or {}
    desired, problem = None, ""
    try:
        desired = ModelDeployment.of(body)
    except _UNREADABLE as wrong:
        problem = str(wrong) if isinstance(wrong, ValueError) else f"Its spec cannot be read: {wrong!r}"
    status, conditions, observed = Status(), tuple[Mapping[str, Any], ...](), 0
    try:
        if too_deep(raw):
            raise ValueError("it nests too deeply")
        status, conditions = Status.of(raw), tuple(raw.get("conditions", ()))
        observed = int(raw.get("observedGeneration", 0))
    except _UNREADABLE as wrong:
        _LOG.warning("The status of %s/%s cannot be read: %r", meta["namespace"], meta["name"], wrong)
    return Snapshot(
        resource_version=version,
        desired=desired,
        status=status,
        conditions=conditions,
        observed_generation=observed,
        generation=meta["generation"],
        uid=meta["uid"],
        deleting="deletionTimestamp" in meta,
        problem=problem,
    )
