"""Text from outside, for places that show plain text: commits, titles, Events, chats and terminals.

Forges and chats act on plain text too: they notify people who are mentioned, close issues, skip checks and make links.
Nothing can be escaped there, so a visible space parts the mark from its word: ``closes #12`` becomes ``closes # 12``.
"""

import json
import re
import textwrap
from collections.abc import Iterable

LONGEST_CELL = 200
_MOST_BYTES = 1024
_LONGEST_TRAILER = 300
_WIDTH = 72
# An @ inside a word, as in ``7@0a1b2c``, mentions no one.
_REFERENCE = re.compile(
    r"(?:(?<![A-Za-z0-9_])@|[#~%])(?=[\w\"'-])|[!&$](?=\d)|@(?=[\w-]+\.)|(?<=\bwww)\.|:(?=//)|<(?=[A-Za-z@#!/?])",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"(?<=\bG[HL])-(?=\d)", re.IGNORECASE)
# As in [skip ci], [x](y) and ![x](y).
_BRACKETED = re.compile(r"\[([^\[\]]*)\]")
_TRAILER = re.compile(r"\b([A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)+)\s*:")
_PERSON = re.compile(r"(?P<name>[^<>\n]+) (?P<mail><[A-Za-z0-9._+-]+(?:\[bot\])?@[A-Za-z0-9.-]+>)")
_NO_BREAK = "\N{NO-BREAK SPACE}"


def line(text: str) -> str:
    """Make a text one line without control, invisible and direction-changing characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def one_line(text: str, longest: int = LONGEST_CELL) -> str:
    """Make a text one line without anything invisible, cut where it is longer than ``longest`` characters."""
    return _cut(line(text), longest)


def inactive(text: str, longest: int = LONGEST_CELL) -> str:
    """Make a text one line that mentions, closes, links to, skips and marks up nothing."""
    return _cut(_apart(line(text)), longest)


def title(text: str, longest: int = 120) -> str:
    """Write a text for the title of a pull request or the subject of a commit: `inactive`, and without @ and #."""
    return _cut(_apart(re.sub("[@#]", " ", line(text))), longest)


def prose(text: str, longest: int = 1200) -> str:
    """Write a text for a commit message's body: `inactive`, and nothing in it reads as a trailer."""
    return _cut(without_trailers(_apart(line(text))), longest)


def without_trailers(text: str) -> str:
    """Part the colon from what would read as a commit's trailer, as in ``Signed-off-by: name``."""
    return _TRAILER.sub(r"\1 -", text)


def paragraph(text: str, longest: int = 1200) -> str:
    """Wrap `prose` to lines of which none, save the first, starts as git's comments and a forge's commands do."""
    held = re.sub(" (?=[/#])", _NO_BREAK, prose(text, longest))
    lines = textwrap.wrap(held, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace(_NO_BREAK, " ")


def trailers(named: Iterable[tuple[str, str]]) -> str:
    """Write a commit's trailers, one a line; those without a value are left out."""
    return "\n".join(f"{name}: {inactive(value, _LONGEST_TRAILER)}" for name, value in named if value)


def person(text: str) -> str:
    """Write ``Name <mail>`` for a trailer; empty where the text is not that."""
    found = _PERSON.fullmatch(text)
    return f"{inactive(found['name'])} {found['mail']}" if found else ""


def event_text(text: str) -> str:
    """Write a text for the note of a Kubernetes Event, which has 1,024 bytes at most."""
    note = line(text).encode()
    return (note if len(note) <= _MOST_BYTES else note[: _MOST_BYTES - 3] + b"...").decode(errors="ignore")


def notification_text(text: str, addresses: Iterable[str] = ()) -> str:
    """Write a text for a chat or pager: `inactive`, except for addresses that Backstay itself has from the forge."""
    known = "|".join(re.escape(address) for address in addresses)
    parts = re.split(rf"(?<!\S)({known})(?=[.,;:]?(?:\s|$))", line(text)) if known else [line(text)]
    return "".join(part if place % 2 else _apart(part) for place, part in enumerate(parts))


def terminal_text(text: str) -> str:
    """Write a text of one or more lines for a terminal; what would command it is shown as its code."""
    return "".join(char if char.isprintable() or char in "\n\t" else _escape(char) for char in text)


def terminal_json(document: str) -> str:
    """Write a JSON document for a terminal; it has the same values, with what would command it as JSON escapes."""
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in document)


def is_printable(document: str) -> bool:
    """Tell whether no character of a document would command a terminal or be invisible there."""
    return document.replace("\n", "").isprintable()


def _apart(text: str) -> str:
    return _BRACKETED.sub(r"(\1)", _NUMBERED.sub(" ", _REFERENCE.sub(r"\g<0> ", text)))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
