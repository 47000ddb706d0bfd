"""The objects of the simulated API server: versions, conflicts, ownership, garbage collection and watches.

It keeps what the controller relies on, and is compared with a real API server by the contract tests.
"""

import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypeAlias

from backstay.adapters.kubernetes.client import (
    APPLICATION,
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    EVENT,
    GATEWAY,
    HTTP_ROUTE,
    MODEL_DEPLOYMENT,
    NAMESPACE,
    POD,
    SERVICE,
    Kind,
)
from backstay_world.fields import Held, Manager, Object, applied, changed, written

Slot: TypeAlias = tuple[str, str]
"""Namespace and name; the namespace of cluster-wide objects is empty."""


class RefusalError(Exception):
    """The API server says no, with a status and a reason as it words them."""

    def __init__(self, status: HTTPStatus, reason: str, message: str, name: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.name = name


@dataclass(frozen=True, slots=True)
class Nature:
    """How a kind behaves.

    ``counted`` kinds have a generation that counts the changes of their spec, ``reports`` a status of its own,
    ``custom`` ones come from a CustomResourceDefinition: they are replaced only with a resourceVersion. ``frozen`` are
    the fields that never change.
    """

    kind: Kind
    counted: bool = False
    reports: bool = False
    custom: bool = False
    frozen: tuple[str, ...] = ()


NATURES = {
    nature.kind: nature
    for nature in (
        Nature(MODEL_DEPLOYMENT, counted=True, reports=True, custom=True),
        Nature(HTTP_ROUTE, counted=True, reports=True, custom=True),
        Nature(APPLICATION, counted=True, custom=True),
        Nature(GATEWAY, counted=True, reports=True, custom=True),
        Nature(DEPLOYMENT, counted=True, reports=True),
        Nature(CONTROLLER_REVISION, frozen=("data",)),
        Nature(SERVICE, reports=True),
        Nature(POD, reports=True),
        Nature(CONFIG_MAP),
        Nature(EVENT),
        Nature(NAMESPACE),
    )
}


@dataclass(frozen=True, slots=True)
class Stored:
    """One object with who holds which of its fields. The body must not be changed."""

    body: Object
    held: Held


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to an object; ``before`` is None where it is new, ``after`` where it is gone."""

    kind: Kind
    before: Object | None
    after: Object | None
    manager: str


Listener: TypeAlias = Callable[[Change], None]


@dataclass(slots=True)
class Objects:
    """All objects of a cluster.

    Args:
        clock: returns Unix seconds.
    """

    clock: Callable[[], float]
    listeners: list[Listener] = field(default_factory=list)
    version: int = 1000
    _kept: dict[Kind, dict[Slot, Stored]] = field(default_factory=lambda: {kind: {} for kind in NATURES})
    _serial: Iterator[int] = field(default_factory=itertools.count)

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Return an object.

        Raises:
            RefusalError: it does not exist.
        """
        return self._stored(kind, (namespace, name)).body

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return an object, or nothing where it does not exist."""
        stored = self._kept[kind].get((namespace, name))
        return stored.body if stored is not None else None

    def all(self, kind: Kind, *, namespace: str | None = None, labels: str = "") -> list[Object]:
        """List the objects of a kind, by namespace and name."""
        return [
            stored.body
            for (place, _), stored in sorted(self._kept[kind].items(), key=lambda item: item[0])
            if namespace in (None, place) and selects(labels, stored.body)
        ]

    def create(self, kind: Kind, body: Object, manager: str) -> Object:
        """Create an object.

        Raises:
            RefusalError: there is one of that name.
        """
        slot = slot_of(body)
        if slot in self._kept[kind]:
            raise RefusalError(
                HTTPStatus.CONFLICT, "AlreadyExists", f'{kind.plural} "{slot[1]}" already exists', slot[1]
            )
        born = self._born(kind, body)
        return self._store(kind, Stored(born, changed({}, born, {}, Manager(manager, "Update"))), None, manager)

    def replace(self, kind: Kind, body: Object, manager: str) -> Object:
        """Replace an object but for its status, if it is still the one whose resourceVersion the body bears.

        Raises:
            RefusalError: it is not, or does not exist.
        """
        before = self._unchanged(kind, body)
        if NATURES[kind].custom and "resourceVersion" not in body["metadata"]:
            raise RefusalError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "Invalid",
                "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update",
                body["metadata"]["name"],
            )
        return self._update(kind, before, body, manager)

    def replace_status(self, kind: Kind, body: Object, manager: str) -> Object:
        """Replace an object's status alone."""
        before = self._unchanged(kind, body)
        after = {**before.body, "status": body.get("status", {})}
        return self._change(kind, before, after, Manager(manager, "Update", "status"))

    def patch(self, kind: Kind, slot: Slot, edit: Callable[[Object], Object], manager: str) -> Object:
        """Change an object by a patch."""
        before = self._stored(kind, slot)
        return self._update(kind, before, edit(before.body), manager)

    def apply(self, kind: Kind, body: Object, manager: str) -> Object:
        """Apply an object server-side, by force."""
        slot, who = slot_of(body), Manager(manager, "Apply")
        before = self._kept[kind].get(slot)
        if before is None:
            born = self._born(kind, body)
            return self._store(kind, Stored(born, applied(None, body, {}, who)[1]), None, manager)
        after, held = applied(before.body, body, before.held, who)
        return self._finish(kind, before, after, held, manager)

    def delete(self, kind: Kind, slot: Slot, manager: str) -> None:
        """Delete an object, and what it owns.

        Raises:
            RefusalError: it does not exist.
        """
        gone = self._stored(kind, slot)
        del self._kept[kind][slot]
        self.version += 1
        meta = {**gone.body["metadata"], "resourceVersion": str(self.version)}
        self._tell(Change(kind, {**gone.body, "metadata": meta}, None, manager))
        uid = gone.body["metadata"]["uid"]
        for other, kept in self._kept.items():
            for place, stored in list(kept.items()):
                owners = stored.body["metadata"].get("ownerReferences") or ()
                if any(owner["uid"] == uid for owner in owners):
                    self.delete(other, place, "garbage-collector")

    def _stored(self, kind: Kind, slot: Slot) -> Stored:
        stored = self._kept[kind].get(slot)
        if stored is None:
            raise RefusalError(HTTPStatus.NOT_FOUND, "NotFound", f'{kind.plural} "{slot[1]}" not found', slot[1])
        return stored

    def _unchanged(self, kind: Kind, body: Object) -> Stored:
        before, meta = self._stored(kind, slot_of(body)), body["metadata"]
        for name in ("resourceVersion", "uid"):
            if meta.get(name, before.body["metadata"][name]) != before.body["metadata"][name]:
                raise RefusalError(
                    HTTPStatus.CONFLICT,
                    "Conflict",
                    f'Operation cannot be fulfilled on {kind.plural} "{meta["name"]}": the object has been modified; '
                    "please apply your changes to the latest version and try again",
                    meta["name"],
                )
        return before

    def _born(self, kind: Kind, body: Object) -> Object:
        nature = NATURES[kind]
        number = next(self._serial)
        meta = {
            **body["metadata"],
            "uid": str(uuid.UUID(int=number + 1, version=4)),
            "creationTimestamp": datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if nature.counted:
            meta["generation"] = 1
        born = {"apiVersion": kind.api_version, "kind": kind.kind, **body, "metadata": meta}
        if nature.reports and nature.custom:
            born.pop("status", None)
        return born

    def _update(self, kind: Kind, before: Stored, body: Object, manager: str) -> Object:
        after = dict(body)
        if NATURES[kind].reports:
            after.pop("status", None)
            after |= {"status": before.body["status"]} if "status" in before.body else {}
        return self._change(kind, before, after, Manager(manager, "Update"))

    def _change(self, kind: Kind, before: Stored, after: Object, manager: Manager) -> Object:
        return self._finish(kind, before, after, changed(before.body, after, before.held, manager), manager.name)

    def _finish(self, kind: Kind, before: Stored, after: Object, held: Held, manager: str) -> Object:
        """Keep what the server itself sets, count a change, and store it where it is one."""
        nature, old = NATURES[kind], before.body
        for name in nature.frozen:
            if after.get(name) != old.get(name):
                raise RefusalError(
                    HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", f"{name}: field is immutable", old["metadata"]["name"]
                )
        own = ("uid", "creationTimestamp", "generation", "resourceVersion", "managedFields")
        meta = {name: value for name, value in after["metadata"].items() if name not in own}
        meta |= {name: old["metadata"][name] for name in own if name in old["metadata"]}
        after = {**after, "apiVersion": old["apiVersion"], "kind": old["kind"], "metadata": meta}
        if after == old and held == before.held:
            return old
        if nature.counted and _meaning(after, nature) != _meaning(old, nature):
            meta["generation"] = old["metadata"]["generation"] + 1
        return self._store(kind, Stored(after, held), before, manager)

    def _store(self, kind: Kind, stored: Stored, before: Stored | None, manager: str) -> Object:
        self.version += 1
        body = stored.body
        meta = {**body["metadata"], "resourceVersion": str(self.version)}
        meta["managedFields"] = written(stored.held, kind.api_version)
        stored = replace(stored, body={**body, "metadata": meta})
        self._kept[kind][slot_of(body)] = stored
        self._tell(Change(kind, before.body if before is not None else None, stored.body, manager))
        return stored.body

    def _tell(self, change: Change) -> None:
        for listener in list(self.listeners):
            listener(change)


def slot_of(body: Mapping[str, Any]) -> Slot:
    """Return under which namespace and name an object is kept."""
    return body["metadata"].get("namespace", ""), body["metadata"]["name"]


def selects(labels: str, body: Mapping[str, Any]) -> bool:
    """Tell whether a selector of the form ``name=value,name=value`` takes an object."""
    own = body["metadata"].get("labels") or {}
    pairs = (pair.split("=", 1) for pair in labels.split(",") if pair)
    return all(own.get(name) == value for name, value in pairs)


def _meaning(body: Object, nature: Nature) -> Object:
    """Return what of an object counts for its generation."""
    left_out = {"metadata", "status"} if nature.reports else {"metadata"}
    return {name: value for name, value in body.items() if name not in left_out}
