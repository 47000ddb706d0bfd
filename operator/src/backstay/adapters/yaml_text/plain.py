"""Reading YAML that anybody may have written: what cannot be read, or is meant to harm, becomes a sentence."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backstay.adapters.yaml_text.edit import LARGEST_FILE
from backstay.domain.depth import DEEPEST

_MOST_NODES = 50_000
# What PyYAML raises where an explicit tag such as !!int or !!timestamp stands before something else.
_OF_A_TAG = (ValueError, IndexError, AttributeError, TypeError, OverflowError)


# What YAML 1.1 makes of a plain time and of a plain equals sign; to the API server and to Kustomize both are texts.
# PyYAML has a tag for the latter and nothing that reads it.
_TEXTS = frozenset({"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"})


class Loader(yaml.CSafeLoader):
    """Reads YAML as the API server gets it."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in _TEXTS]
    for first, known in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


class PlainYamlError(Exception):
    """A file cannot be read; the message goes on after its name, ``line`` is 0 where none is to blame."""

    def __init__(self, sentence: str, line: int = 0) -> None:
        super().__init__(sentence)
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: what it says, and the nodes that tell where."""

    value: Any
    node: yaml.Node


def read(file: Path) -> list[Document]:
    """Read a file's documents, the empty ones left out.

    Raises:
        PlainYamlError: it is too large, no UTF-8 or no YAML, has a key twice, or grows or nests without measure.
    """
    size = file.stat().st_size
    if size > LARGEST_FILE:
        raise PlainYamlError(f"has {size} bytes; it has at most {LARGEST_FILE}")
    return documents(file.read_bytes())


def documents(content: bytes) -> list[Document]:
    """Read documents from bytes; see `read`."""
    try:
        text = content.decode()
        _refuse_depth(text)
        nodes = list(yaml.compose_all(text, Loader=Loader))
        for node in nodes:
            _measure(node)
        values = list(yaml.load_all(text, Loader=Loader))
    except UnicodeDecodeError:
        raise PlainYamlError("is not UTF-8 text; save it as UTF-8") from None
    except (yaml.YAMLError, *_OF_A_TAG) as problem:
        mark = getattr(problem, "problem_mark", None)
        what = getattr(problem, "problem", None) or "it cannot be read"
        raise PlainYamlError(f"is not YAML: {what}; correct it", mark.line + 1 if mark else 0) from None
    return [Document(value, node) for value, node in zip(values, nodes, strict=True) if value is not None]


def values(content: bytes) -> list[Any]:
    """Return what documents say, the empty ones left out; see `read`."""
    return [document.value for document in documents(content)]


def child(node: yaml.Node | None, key: str | int) -> yaml.Node | None:
    """Return what stands under a key of a mapping or at a place of a sequence."""
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
        return node.value[key] if key < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next((value for name, value in node.value if name.value == str(key)), None)
    return None


def _refuse_depth(text: str) -> None:
    """Look at the events alone, which need no stack."""
    depth = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                line = event.start_mark.line + 1 if event.start_mark else 0
                raise PlainYamlError(f"nests more than {DEEPEST} levels; write one field a line", line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _measure(top: yaml.Node | None) -> None:
    """Refuse keys that stand there twice, of which readers take one, and aliases that multiply or hold themselves."""
    sizes: dict[int, int] = {}
    within: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in within:
            raise PlainYamlError("has an anchor that holds itself; write its fields out", node.start_mark.line + 1)
        if id(node) not in sizes:
            within.add(id(node))
            sizes[id(node)] = 1 + sum(size(part) for part in _parts(node))
            within.discard(id(node))
        return sizes[id(node)]

    if top is not None and size(top) > _MOST_NODES:
        raise PlainYamlError("grows without measure through its aliases; write its fields out without anchors")


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen and key.value != "<<":
                    raise PlainYamlError(f"says {key.value} twice; keep one of them", key.start_mark.line + 1)
                seen.add(key.value)
            yield key
            yield value
