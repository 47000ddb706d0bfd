"""Texts of others, made harmless for the Markdown of forges and for commit messages.

Tags, metrics and descriptions come from whoever may write to the registry. In a pull request they could mention people,
close issues, forge a table's row or run a forge's commands; in a commit message they could forge a trailer.
"""

import re
from collections.abc import Iterable, Sequence

LONGEST_CELL = 200

# What Markdown reads as markup anywhere in a line.
_MARKUP = re.compile(r"[\\`*_{}\[\]<>()|$~]")
# GitHub and GitLab look for mentions, references and addresses after Markdown has been read, where a backslash is gone:
# the text is parted there by an invisible space.
_REFERENCE = re.compile(r"[@#!~%$&^](?=[\w\"'-])|(?<=\bGH)-(?=\d)|(?<=\bwww)\.|:(?=//)", re.IGNORECASE)
_APART = "&#8203;"
_TOKEN = re.compile(r"\b([A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)+):")


def one_line(text: str, longest: int = LONGEST_CELL) -> str:
    """Make a text one line without anything invisible, cut where it is longer than ``longest`` characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def inert(text: str, longest: int = LONGEST_CELL) -> str:
    """Write somebody's text for Markdown so that it shows as it is and does nothing: one line, no markup, no mention.

    It is not for the start of a line, where some characters would still make a list or a heading.
    """
    line = one_line(text, longest)
    apart = {found.start() for found in _REFERENCE.finditer(line)}
    return "".join(f"{_shown(char)}{_APART if place in apart else ''}" for place, char in enumerate(line))


def code(text: str, longest: int = LONGEST_CELL) -> str:
    """Write a text as code that can be copied, for values without backticks and bars; any other text is `inert`."""
    line = one_line(text, longest)
    return f"`{line}`" if line and not set(line) & set("`|\\") else inert(text, longest)


def title(text: str, longest: int = 120) -> str:
    """Write a text for the title of a pull request or the subject of a commit: one line that refers to nothing."""
    return re.sub(r"[@#]|(?<=\bGH)-(?=\d)", " ", one_line(text, longest))


def prose(text: str, longest: int = 1200) -> str:
    """Write somebody's text for a commit message's body: one line in which nothing reads as a trailer."""
    return _TOKEN.sub(r"\1 -", one_line(text, longest))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """Write a table of cells that are fit for Markdown already; the columns counted in ``right`` hold numbers."""
    numbers = frozenset(right)
    lines = [
        columns,
        ["---:" if place in numbers else "---" for place in range(len(columns))],
        *rows,
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(char: str) -> str:
    if char == "&":
        return "&amp;"
    return f"\\{char}" if _MARKUP.fullmatch(char) else char
