"""Read YAML of others that a program reads too, and write it so that the program cannot read anything else.

Parsers of YAML differ in details, so a text that is checked with one of them may mean something else to another one.
Here only plain documents are read, and the program is given what `write` makes of them.
"""

from collections.abc import Iterator

import yaml

_DEEPEST = 50
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


class StrictYamlError(Exception):
    """A text is not plain; the message goes on after the name of its file, ``line`` is 0 where none is to blame."""

    def __init__(self, sentence: str, line: int = 0) -> None:
        super().__init__(sentence)
        self.line = line


def compose(content: bytes) -> yaml.Node:
    """Read one document whose scalars are all texts, without anchors and tags.

    Raises:
        StrictYamlError: it is no UTF-8, no YAML, or not plain.
    """
    try:
        text = content.decode()
        _refuse_odd(text)
        node = yaml.compose(text, Loader=yaml.CBaseLoader)
    except UnicodeDecodeError:
        raise StrictYamlError("is not UTF-8 text; save it as UTF-8") from None
    except (yaml.YAMLError, ValueError) as problem:
        mark = getattr(problem, "problem_mark", None)
        what = getattr(problem, "problem", None) or "it cannot be read"
        raise StrictYamlError(f"is not YAML: {what}; correct it", mark.line + 1 if mark else 0) from None
    if node is None:
        raise StrictYamlError("is empty; write its fields")
    return node


def write(top: yaml.Node) -> bytes:
    """Write a document as ASCII, with one way of writing for each value.

    What is plain stays plain, because whether that is a text or a number is for the program to say.
    """
    for node in _all(top):
        if isinstance(node, yaml.CollectionNode):
            node.flow_style = False
        elif isinstance(node, yaml.ScalarNode):
            node.style = '"' if node.style or "\n" in node.value else None
    text: bytes = yaml.serialize(top, Dumper=yaml.CBaseDumper, encoding="ascii", allow_unicode=False, width=2**31 - 1)
    return text


def is_null(node: yaml.Node) -> bool:
    """Tell whether nothing is written in a place, or a word for nothing."""
    return isinstance(node, yaml.ScalarNode) and not node.style and node.value in _NULLS


def _all(top: yaml.Node) -> Iterator[yaml.Node]:
    pending = [top]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, yaml.SequenceNode):
            pending.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            pending.extend(part for pair in node.value for part in pair)


def _refuse_odd(text: str) -> None:
    """Look at the events alone, which need no stack."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.CBaseLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        complaint = ""
        if getattr(event, "anchor", None) is not None:
            complaint = "has an anchor or alias; write its fields out without anchors"
        elif getattr(event, "tag", None) is not None:
            complaint = "has a tag; write its fields without tags"
        elif depth > _DEEPEST:
            complaint = f"nests more than {_DEEPEST} levels; write one field a line"
        elif documents > 1:
            complaint = "has several documents; keep one of them"
        if complaint:
            raise StrictYamlError(complaint, event.start_mark.line + 1 if event.start_mark else 0)
