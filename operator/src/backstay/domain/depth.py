"""How deep data may nest. People nest a dozen levels; what nests a thousand ends the programs that read it."""

from collections.abc import Iterable, Mapping
from typing import Any

DEEPEST = 100
"""The most levels of lists and mappings in one document, itself included."""

# So many of the names on the way are told.
_NAMED = 3


def too_deep(document: Any) -> str:
    """Return the first names on the way to what nests too deeply, joined by dots; empty where nothing does.

    Nothing here recurses: it is asked before anything does.
    """
    level = [document]
    for _ in range(DEEPEST):
        level = [part for value in level for part in _inside(value)]
        if not level:
            return ""
    return _way(document)


def _inside(value: Any) -> Iterable[Any]:
    # To look for a mapping by its abstract class is most of the time, and nearly all are these.
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list):
        return value
    if value is None or isinstance(value, str | int | float):
        return ()
    return value.values() if isinstance(value, Mapping) else ()


def _way(document: Any) -> str:
    pending: list[tuple[Any, int, tuple[str, ...]]] = [(document, 1, ())]
    while pending:
        value, level, way = pending.pop()
        if not isinstance(value, Mapping | list):
            continue
        if level > DEEPEST:
            return ".".join(way)
        for name, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            pending.append((part, level + 1, way if len(way) == _NAMED else (*way, str(name))))
    return ""
