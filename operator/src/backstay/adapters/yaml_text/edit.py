"""Edit single values of a YAML text and leave every other byte as it was.

A library that loads and dumps YAML rewrites line ends, indentation and long lines, so a one-line change becomes a diff
that cannot be reviewed. Here PyYAML only says where things are; the edits are splices of the text. The caller compares
`YamlText.meaning` before and after, which shows whether a splice changed more than it should.
"""

import re
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import yaml

LARGEST_FILE = 262_144
"""The most bytes that are read of a YAML file which others write."""

STRING = "tag:yaml.org,2002:str"
NULL = "tag:yaml.org,2002:null"
MERGE = "tag:yaml.org,2002:merge"

# A value stays without quotes only if no YAML 1.1 or 1.2 reader takes it for a number, a date, a truth value or null.
# PyYAML and the Go readers disagree on some of these (1e5, 0o7), so a letter must come first.
_PLAIN = re.compile(r"[A-Za-z](?:[\w./@+<>()-]|[ :](?=[\w./@+<>()-]))*", re.ASCII)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_CLEAN_GAP = re.compile(r"\s*,\s*")
_LARGEST_MEANING = 20_000
_CONTENT = (
    yaml.ScalarToken,
    yaml.AliasToken,
    yaml.AnchorToken,
    yaml.TagToken,
    yaml.ValueToken,
    yaml.BlockEntryToken,
    yaml.FlowMappingStartToken,
    yaml.FlowMappingEndToken,
    yaml.FlowSequenceStartToken,
    yaml.FlowSequenceEndToken,
)

Meaning = object
"""What a node says, aliases written out: a dict with (tag, text) keys, a list, or a (tag, text) pair."""


class YamlEditError(Exception):
    """The text cannot be read or edited; the message completes a sentence that begins with the file's name."""


@dataclass(frozen=True, slots=True)
class Splice:
    """Replace the characters from ``start`` up to ``end`` of a text."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of a collection: a mapping's key and value, or a list's item as both.

    ``start`` is the index of the key, of the item or (in a block list) of its dash; ``end`` is that after its last
    character.
    """

    key: yaml.Node
    value: yaml.Node
    start: int
    end: int

    @property
    def aliased(self) -> bool:
        """Whether the value is written as an alias: an anchor always comes before its aliases."""
        return self.value.start_mark.index < self.start


class YamlText:
    """A YAML text whose values can be found, and spliced.

    Raises:
        YamlEditError: the text is no YAML.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self.documents: tuple[yaml.Node, ...] = tuple(yaml.compose_all(text, Loader=yaml.SafeLoader))
            tokens = tuple(yaml.scan(text, Loader=yaml.SafeLoader))
        except yaml.MarkedYAMLError as error:
            where = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise YamlEditError(f"is not valid YAML{where}: {error.problem or error.context}; correct it") from None
        except yaml.YAMLError as error:
            raise YamlEditError(f"is not valid YAML: {str(error).splitlines()[0]}; correct it") from None
        except (ValueError, OverflowError) as error:
            # A character's number that is none, which PyYAML does not look at itself.
            raise YamlEditError(f"is not valid YAML: {error}; correct it") from None
        except RecursionError:
            raise YamlEditError("is nested too deeply to be a version file; write it flat") from None
        self.shares = any(isinstance(token, yaml.AliasToken) for token in tokens)
        self._content = [token for token in tokens if isinstance(token, _CONTENT)]
        self._starts = [token.start_mark.index for token in self._content]
        self._breaks = [found.span() for found in _LINE_BREAK.finditer(text)]

    def meaning(self) -> list[Meaning]:
        """Return what the documents say, for comparing two texts.

        Raises:
            YamlEditError: a key is written twice, or aliases multiply into something huge or endless.
        """
        count = 0

        def say(node: yaml.Node) -> Meaning:
            nonlocal count
            count += 1
            if count > _LARGEST_MEANING:
                raise YamlEditError(
                    "says far more than a version file does once its aliases are written out; shorten it"
                )
            if isinstance(node, yaml.MappingNode):
                said: dict[object, Meaning] = {}
                for key, value in node.value:
                    name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else repr(say(key))
                    if name in said:
                        line = key.start_mark.line + 1
                        raise YamlEditError(f"writes the key '{key.value}' twice (again in line {line}); remove one")
                    said[name] = say(value)
                return said
            if isinstance(node, yaml.SequenceNode):
                return [say(item) for item in node.value]
            return (node.tag, node.value)

        try:
            return [say(document) for document in self.documents]
        except RecursionError:
            raise YamlEditError("has an anchor that contains its own alias; write it without") from None

    def members(self, node: yaml.MappingNode | yaml.SequenceNode) -> list[Member]:
        """List a collection's own entries in order, without what a merge key brings."""
        if isinstance(node, yaml.MappingNode):
            pairs = list(node.value)
            starts = [key.start_mark.index for key, _ in pairs]
        else:
            pairs = [(item, item) for item in node.value]
            starts = [item.start_mark.index for item in node.value] if node.flow_style else self._dashes(node)
        limits = [*starts[1:], node.end_mark.index - (1 if node.flow_style else 0)]
        if len(starts) != len(pairs) or any(start >= limit for start, limit in zip(starts, limits, strict=False)):
            raise YamlEditError("has an alias where a list of entries is to be edited; write the entries out")
        return [
            Member(key, value, start, self._content_end(limit))
            for (key, value), start, limit in zip(pairs, starts, limits, strict=False)
        ]

    def replace(self, member: Member, value: str) -> Splice:
        """Set a scalar value, keeping the kind of quotes it has, and its anchor and tag."""
        if not isinstance(member.value, yaml.ScalarNode):
            line = member.value.start_mark.line + 1
            raise YamlEditError(f"has more than a single value in line {line}; write one string there")
        first = bisect_left(self._starts, member.key.end_mark.index)
        for token in self._content[first : bisect_left(self._starts, member.end)]:
            if isinstance(token, yaml.AliasToken | yaml.ScalarToken):
                style = "" if member.aliased else member.value.style or ""
                return Splice(token.start_mark.index, self._token_end(token), scalar(value, style))
        return Splice(member.end, member.end, " " + scalar(value, ""))

    def drop(self, node: yaml.MappingNode | yaml.SequenceNode, which: Collection[int]) -> list[Splice]:
        """Take entries out: whole lines of a block, or the text up to the next entry in flow style."""
        members = self.members(node)
        if not node.flow_style:
            return [self._cut_lines(members[index]) for index in sorted(which)]
        runs: list[list[int]] = []
        for index in sorted(which):
            if runs and runs[-1][-1] == index - 1:
                runs[-1].append(index)
            else:
                runs.append([index])
        return [splice for run in runs for splice in self._cut_run(members, run[0], run[-1])]

    def insert_fields(self, node: yaml.MappingNode, after: int, fields: Mapping[str, str]) -> list[Splice]:
        """Add fields to a mapping after its entry number ``after``, laid out like that one."""
        member = self.members(node)[after]
        if node.flow_style:
            gap = self._gap(self.members(node))
            text = "".join(gap + flow_field(name, value, _quote_of(member)) for name, value in fields.items())
            return [Splice(member.end, member.end, text)] if fields else []
        indent = self._indent(member.start)
        return self._insert_lines(
            member.end, [f"{indent}{name}: {scalar(value, '')}" for name, value in fields.items()]
        )

    def insert_list(self, node: yaml.MappingNode, after: int, name: str, entry: Mapping[str, str]) -> list[Splice]:
        """Add a list of one mapping to a mapping after its entry number ``after``."""
        member = self.members(node)[after]
        if node.flow_style:
            quote = _quote_of(member)
            text = f"{self._gap(self.members(node))}{quote}{name}{quote}: [{flow_entry(entry, quote)}]"
            return [Splice(member.end, member.end, text)]
        indent = self._indent(member.start)
        return self._insert_lines(member.end, [f"{indent}{name}:", *_block_entry(entry, f"{indent}  ")])

    def append(
        self, node: yaml.MappingNode | yaml.SequenceNode, member: Member, entry: Mapping[str, str]
    ) -> list[Splice]:
        """Add a mapping to the list that ``member`` of the mapping ``node`` holds; it may be empty or null."""
        items = member.value
        if isinstance(items, yaml.SequenceNode) and items.value:
            return self._append_item(items, entry)
        if isinstance(items, yaml.ScalarNode) and items.tag != NULL:
            line = items.start_mark.line + 1
            raise YamlEditError(f"has a single value in line {line} where a list belongs; write a list")
        first = bisect_left(self._starts, member.key.end_mark.index)
        tokens = self._content[first : bisect_left(self._starts, member.end)]
        colon = next(token for token in tokens if isinstance(token, yaml.ValueToken)).end_mark.index
        if node.flow_style:
            return [Splice(colon, member.end, f" [{flow_entry(entry, _quote_of(member))}]")]
        indent = self._indent(member.start)
        return [Splice(colon, member.end, ""), *self._insert_lines(member.end, _block_entry(entry, f"{indent}  "))]

    def _append_item(self, items: yaml.SequenceNode, entry: Mapping[str, str]) -> list[Splice]:
        members = self.members(items)
        last = members[-1]
        json_like = isinstance(last.value, yaml.MappingNode) and any(key.style == '"' for key, _ in last.value.value)
        flow = flow_entry(entry, '"' if json_like else "")
        if items.flow_style:
            return [Splice(last.end, last.end, self._gap(members) + flow)]
        indent = self._indent(last.start)
        if isinstance(last.value, yaml.MappingNode | yaml.SequenceNode) and last.value.flow_style:
            return self._insert_lines(last.end, [f"{indent}- {flow}"])
        dash = self.text[last.start : last.value.start_mark.index]
        return self._insert_lines(last.end, _block_entry(entry, indent, dash if re.fullmatch("- +", dash) else "- "))

    def _insert_lines(self, position: int, lines: Iterable[str]) -> list[Splice]:
        """Add lines after the one that holds ``position``, with the line ends used there."""
        number = bisect_left(self._breaks, (position, position))
        near = number if number < len(self._breaks) else number - 1
        newline = self.text[slice(*self._breaks[near])] if self._breaks else "\n"
        at = self._breaks[number][0] if number < len(self._breaks) else len(self.text)
        return [Splice(at, at, "".join(newline + line for line in lines))]

    def _cut_lines(self, member: Member) -> Splice:
        start = member.start - len(self._indent(member.start))
        number = bisect_left(self._breaks, (member.end, member.end))
        return Splice(start, self._breaks[number][1] if number < len(self._breaks) else len(self.text), "")

    def _cut_run(self, members: list[Member], first: int, last: int) -> list[Splice]:
        """Cut neighbouring entries out of a flow collection; a comment between entries stays, and then a comma may."""
        around = members[max(first - 1, 0) : last + 2]
        if all(_CLEAN_GAP.fullmatch(self.text[left.end : right.start]) for left, right in pairwise(around)):
            if last + 1 < len(members):
                return [Splice(members[first].start, members[last + 1].start, "")]
            return [Splice(members[first - 1].end if first else members[first].start, members[last].end, "")]
        cuts = []
        for member in members[first : last + 1]:
            comma = re.compile(r"\s*,").match(self.text, member.end)
            cuts.append(Splice(member.start, comma.end() if comma else member.end, ""))
        return cuts

    def _dashes(self, node: yaml.SequenceNode) -> list[int]:
        tokens = self._content[
            bisect_left(self._starts, node.start_mark.index) : bisect_left(self._starts, node.end_mark.index)
        ]
        marks = [token.start_mark for token in tokens if isinstance(token, yaml.BlockEntryToken)]
        return [mark.index for mark in marks if mark.column == marks[0].column]

    def _gap(self, members: list[Member]) -> str:
        """Return what separates the last two entries of a flow collection, to separate one more."""
        gap = self.text[members[-2].end : members[-1].start] if len(members) > 1 else ""
        return gap if _CLEAN_GAP.fullmatch(gap) else ", "

    def _indent(self, position: int) -> str:
        number = bisect_right(self._breaks, (position, position))
        indent = self.text[self._breaks[number - 1][1] if number else 0 : position]
        if indent.strip(" "):
            line = self.text.count("\n", 0, position) + 1
            raise YamlEditError(f"has several things in line {line}; write one field a line")
        return indent

    def _content_end(self, limit: int) -> int:
        return self._token_end(self._content[bisect_left(self._starts, limit) - 1])

    def _token_end(self, token: yaml.Token) -> int:
        """Return where a token's last visible character ends; a block scalar's token runs on to the next line."""
        start: int = token.start_mark.index
        end: int = token.end_mark.index
        return start + len(self.text[start:end].rstrip())


def splice(text: str, splices: Iterable[Splice]) -> str:
    """Apply splices, all of them positions in the original text; those at one place in the given order.

    Raises:
        YamlEditError: two of them overlap.
    """
    pieces, done = [], 0
    for edit in sorted(splices, key=lambda edit: (edit.start, edit.end)):
        if edit.start < done:
            raise YamlEditError("is laid out in a way that cannot be edited safely; write one field a line")
        pieces += [text[done : edit.start], edit.text]
        done = edit.end
    return "".join([*pieces, text[done:]])


def scalar(value: str, style: str) -> str:
    """Write a string in a quoting style (empty for none), with quotes where it would not be read as a string."""
    if not style and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    dumped: str = yaml.safe_dump(
        value, default_style="'" if style == "'" else '"', allow_unicode=True, width=sys.maxsize
    )
    return dumped.rstrip("\n")


def flow_field(name: str, value: str, quote: str) -> str:
    """Write a key and its value for a flow mapping, ``quote`` around the key."""
    return f"{quote}{name}{quote}: {scalar(value, quote)}"


def flow_entry(entry: Mapping[str, str], quote: str) -> str:
    """Write a mapping in flow style."""
    return "{" + ", ".join(flow_field(name, value, quote) for name, value in entry.items()) + "}"


def _block_entry(entry: Mapping[str, str], indent: str, dash: str = "- ") -> list[str]:
    rest = " " * len(dash)
    return [
        f"{indent}{dash if number == 0 else rest}{name}: {scalar(value, '')}"
        for number, (name, value) in enumerate(entry.items())
    ]


def _quote_of(member: Member) -> str:
    """Return the quotes around a key, so that a file in JSON's style stays one."""
    return member.key.style if isinstance(member.key, yaml.ScalarNode) and member.key.style in {'"', "'"} else ""
