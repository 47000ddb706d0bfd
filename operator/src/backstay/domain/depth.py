"""How deep data may nest. People nest a dozen levels; what nests a thousand ends the programs that read it."""

from collections.abc import Mapping
from typing import Any

DEEPEST = 100
"""The most levels of lists and mappings in one document, itself included."""

# So many of the names on the way are told.
_NAMED = 3


def too_deep(document: Any) -> str:
    """Return the first names on the way to what nests too deeply, joined by dots; empty where nothing does.

    Nothing here recurses: it is asked before anything does.
    """
    pending: list[tuple[Any, int, tuple[str, ...]]] = [(document, 1, ())]
    while pending:
        value, level, way = pending.pop()
        if isinstance(value, Mapping):
            parts = [(str(name), part) for name, part in value.items()]
        elif isinstance(value, list):
            parts = [(str(index), part) for index, part in enumerate(value)]
        else:
            continue
        if level > DEEPEST:
            return ".".join(way)
        pending += [(part, level + 1, way if len(way) == _NAMED else (*way, name)) for name, part in parts]
    return ""
