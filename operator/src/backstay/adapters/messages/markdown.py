"""Text from outside, for the Markdown of pull requests, comments and issues.

There it could mention people, close issues, forge a table's row or run a forge's commands. It is escaped, so that it
shows as it is and does nothing.
"""

import re
from collections.abc import Iterable, Sequence

from backstay.adapters.messages.plain import LONGEST_CELL, one_line

# What Markdown reads as markup anywhere in a line.
_MARKUP = re.compile(r"[\\`*_{}\[\]<>()|$~]")
# GitHub and GitLab look for mentions, references and addresses after Markdown has been read, where a backslash is gone:
# the text is parted there by an invisible space.
_REFERENCE = re.compile(r"[@#!~%$&^](?=[\w\"'-])|(?<=\bG[HL])-(?=\d)|(?<=\bwww)\.|:(?=//)", re.IGNORECASE)
_APART = "&#8203;"
# What starts a heading, a list or a rule at the start of a line, beside what `_MARKUP` has.
_BLOCK = re.compile(r"[-+=#/]|\d+[.)]")


def inert(text: str, longest: int = LONGEST_CELL) -> str:
    """Write somebody's text for Markdown so that it shows as it is and does nothing: one line, no markup, no mention.

    It is not for the start of a line, where some characters would still make a list or a heading.
    """
    line = one_line(text, longest)
    apart = {found.start() for found in _REFERENCE.finditer(line)}
    return "".join(f"{_shown(char)}{_APART if place in apart else ''}" for place, char in enumerate(line))


def remark(text: str, longest: int = 1000) -> str:
    """Write somebody's text for Markdown as a paragraph of its own: `inert`, and no heading, list or command."""
    written = inert(text, longest)
    return f"{_APART}{written}" if _BLOCK.match(written) else written


def code(text: str, longest: int = LONGEST_CELL) -> str:
    """Write a text as code that can be copied; what could leave the code, or read as a hidden mark, is `inert`."""
    line = one_line(text, longest)
    return f"`{line}`" if line and not set(line) & set("`|\\<>") else inert(text, longest)


def link(text: str, url: str) -> str:
    """Write a link from which the address cannot break out."""
    return f"[{inert(text, 64)}]({_target(url)})"


def address(url: str) -> str:
    """Write a web address as a link to itself; any other text is `inert`."""
    return f"<{_target(url)}>" if re.match("https?://", url) else inert(url)


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


def _target(url: str) -> str:
    return "".join(
        char if char.isascii() and char.isprintable() and char not in " ()<>\\\"'|`[]" else "%20" for char in url
    )
