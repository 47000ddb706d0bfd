"""Who holds which fields of an object: server-side apply and updates, as far as the controller's objects need it.

Lists that the API server merges by a key are known by their field's name; all others are replaced as a whole.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
Path = tuple[str, ...]

# By the name of the field: the members that tell the entries of a list apart.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "ownerReferences": ("uid",),
}
_PORTS = {"containerPort": ("containerPort", "protocol"), "port": ("port", "protocol")}
_NOT_HELD = frozenset(
    {"name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"}
)


@dataclass(frozen=True, slots=True)
class Manager:
    """One entry of ``metadata.managedFields``."""

    name: str
    operation: str
    subresource: str = ""


Held = dict[Manager, frozenset[Path]]


def content(body: Mapping[str, Any]) -> Object:
    """Return what of an object can be held by somebody: its metadata without what names it, and all else."""
    meta = {name: value for name, value in body.get("metadata", {}).items() if name not in _NOT_HELD}
    rest = {name: value for name, value in body.items() if name not in ("apiVersion", "kind", "metadata")}
    return {"metadata": meta, **rest}


def leaves(value: Any, path: Path = ()) -> dict[Path, Any]:
    """Return the values that a manager may hold, by their paths in the notation of ``fieldsV1``."""
    return dict(_leaves(value, path))


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*path, f"f:{name}"))
    elif isinstance(value, list) and (keys := _keys(path, value)):
        for entry in value:
            yield from _leaves(entry, (*path, _named(entry, keys)))
    elif path:
        yield path, value


def _keys(path: Path, *lists: Any) -> tuple[str, ...]:
    """Return what tells the entries of a list apart; nothing for one that is replaced as a whole."""
    name = path[-1].removeprefix("f:") if path else ""
    keys = _KEYS.get(name, ())
    entries = [entry for one in lists for entry in one]
    if name == "ports" and entries and isinstance(entries[0], dict):
        keys = _PORTS["containerPort" if "containerPort" in entries[0] else "port"]
    return keys if keys and all(isinstance(entry, dict) for entry in entries) else ()


def _named(entry: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    return "k:" + ",".join(f"{key}={entry.get(key, 'TCP')}" for key in keys)


def merged(live: Any, wanted: Any, path: Path = ()) -> Any:
    """Put what is wanted into what is live, entry by entry where the API server does so."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        return live | {
            name: merged(live[name], value, (*path, f"f:{name}")) if name in live else value
            for name, value in wanted.items()
        }
    if isinstance(live, list) and isinstance(wanted, list) and (keys := _keys(path, live, wanted)):
        ours = {_named(entry, keys): entry for entry in wanted}
        theirs = {_named(entry, keys): entry for entry in live}
        order = [*ours, *(name for name in theirs if name not in ours)]
        return [
            merged(theirs[name], ours[name], (*path, name))
            if name in ours and name in theirs
            else (ours | theirs)[name]
            for name in order
        ]
    return wanted


def without(value: Any, path: Path, at: Path = ()) -> Any:
    """Take the value at a path out of a tree, and what is left empty above it."""
    head, *rest = path
    if isinstance(value, dict):
        name = head.removeprefix("f:")
        if name not in value:
            return value
        inner = without(value[name], tuple(rest), (*at, head)) if rest else None
        kept = {key: entry for key, entry in value.items() if key != name}
        return {**kept, name: inner} if inner else kept
    keys = _keys(at, value) if isinstance(value, list) else ()
    if not keys:
        return value
    after = []
    for entry in value:
        # What tells entries apart goes with the last of the others.
        asked = rest and _named(entry, keys) == head and rest[0].removeprefix("f:") not in keys
        found = without(entry, tuple(rest), (*at, head)) if asked else entry
        if set(found) - set(keys):
            after.append(found)
    return after


def changed(before: Object, after: Object, held: Held, manager: Manager) -> Held:
    """Return who holds what after an update: what is new or different is the writer's, what is gone nobody's."""
    if manager.subresource:
        old, new = (leaves({"status": body.get("status", {})}) for body in (before, after))
        apart = {who: frozenset(path for path in paths if path[0] != "f:status") for who, paths in held.items()}
    else:
        old, new, apart = leaves(content(before)), leaves(content(after)), {}
    own = {path for path, value in new.items() if path not in old or old[path] != value}
    kept = {
        who: frozenset(path for path in paths if path in new and path not in own) | apart.get(who, frozenset())
        for who, paths in held.items()
    }
    kept[manager] = kept.get(manager, frozenset()) | own
    return {who: paths for who, paths in kept.items() if paths}


def applied(live: Object | None, wanted: Object, held: Held, manager: Manager) -> tuple[Object, Held]:
    """Apply by force: what the manager applied before and leaves out now goes, unless somebody else holds it too."""
    asked = leaves(content(wanted))
    base = live if live is not None else {}
    result: Object = merged(base, wanted)
    mine = held.get(manager, frozenset())
    others = {who: paths for who, paths in held.items() if who != manager}
    elsewhere = frozenset[Path]().union(*others.values())
    for path in mine - asked.keys() - elsewhere:
        result = without(result, path)
    before = leaves(content(base))
    taken = {path for path, value in asked.items() if path in before and before[path] != value}
    # A list or mapping that is held as a whole gives way to what is now held inside it, and the other way round.
    after = leaves(content(result))
    kept = {who: frozenset(p for p in paths if p not in taken and p in after) for who, paths in others.items()}
    return result, {who: paths for who, paths in {**kept, manager: frozenset(asked)}.items() if paths}


def written(held: Held, api_version: str) -> list[Object]:
    """Write ``metadata.managedFields``."""
    entries = []
    for who, paths in held.items():
        tree: Object = {}
        for path in sorted(paths):
            node = tree
            for part in path:
                node = node.setdefault(part, {})
        entry = {
            "manager": who.name,
            "operation": who.operation,
            "apiVersion": api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": tree,
        }
        entries.append(entry | ({"subresource": who.subresource} if who.subresource else {}))
    return entries
