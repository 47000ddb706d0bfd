"""Where in a repository's files a field of the result was written."""

import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from backstay.adapters.yaml_text.plain import Document, PlainYamlError, child, read
from backstay.domain.resource import KIND

_PART = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def place_of(root: Path, files: Iterable[Path], field: str) -> tuple[str, int]:
    """Return the file, from the root, and the line that set a field such as ``spec.rollout.steps[1].weight``.

    The files are asked in their order, which is that of an overlay before its base; where none has the whole field, the
    one that has most of it counts. The last file is named without a line where nothing is found.
    """
    path = [int(number) if number else name for number, name in _PART.findall(field)]
    best, found = 0, ("", 0)
    for file in files:
        where = file.relative_to(root).as_posix()
        found = found if found[0] else (where, 0)
        for document in _deployments(file):
            depth, line = _follow(document.node, path)
            if depth > best:
                best, found = depth, (where, line)
    return found


def _deployments(file: Path) -> list[Document]:
    if file.suffix not in {".yaml", ".yml"}:
        return []
    try:
        return [one for one in read(file) if isinstance(one.value, dict) and one.value.get("kind") == KIND]
    except (PlainYamlError, OSError):
        return []


def _follow(node: yaml.Node, path: list[int | str]) -> tuple[int, int]:
    """Go down a path as far as it exists: how far, and the line there."""
    line = 0
    for depth, key in enumerate(path):
        below = child(node, key)
        if below is None:
            return depth, line
        node, line = below, _line(node, key, below)
    return len(path), line


def _line(parent: yaml.Node, key: int | str, value: yaml.Node) -> int:
    """Name the line of a field's key, which is the one that people look for."""
    if isinstance(parent, yaml.MappingNode):
        return next(int(name.start_mark.line) + 1 for name, _ in parent.value if name.value == str(key))
    return int(value.start_mark.line) + 1
