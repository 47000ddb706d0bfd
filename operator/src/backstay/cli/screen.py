"""How answers are laid out: tables, labelled lines, and documents for scripts."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from rich.table import Table
from rich.text import Text

from backstay.cli.terminal import say_json, say_yaml, words

_COLOURS = {
    "Stable": "green",
    "Pass": "green",
    "RolledBack": "yellow",
    "Inconclusive": "yellow",
    "RollingBack": "red",
    "Degraded": "red",
    "Fail": "red",
    "AwaitingApproval": "cyan",
    "Paused": "cyan",
}
_LABEL = 14


class View(StrEnum):
    """How an answer is printed."""

    TEXT = "text"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class Form(StrEnum):
    """How an answer is printed that has no columns."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def table(rows: Sequence[Mapping[str, str]], columns: Sequence[str], *, whole: bool) -> Table:
    """Lay rows out as kubectl does; on a terminal the last column is cut to one line, unless the whole is wanted."""
    made = Table(box=None, pad_edge=False, header_style="")
    for column in columns:
        last = column == columns[-1]
        made.add_column(column, no_wrap=not (last and whole), overflow="ellipsis" if last else "ignore")
    for one in rows:
        made.add_row(*(coloured(one[column]) for column in columns))
    return made


def labelled(lines: Sequence[tuple[str, str]]) -> Table:
    """Lay labelled lines out; long ones go on below themselves."""
    made = Table.grid(padding=(0, 1))
    made.add_column(min_width=_LABEL, no_wrap=True, style="dim")
    made.add_column(overflow="fold")
    for label, text in lines:
        made.add_row(f"  {label}", coloured(text))
    return made


def coloured(text: str) -> Text:
    """Give a text that begins with a phase or a verdict its colour."""
    return words(text, _COLOURS.get(text.partition(" ")[0], ""))


def dump(document: Any, view: View | Form) -> None:
    """Print a document for scripts."""
    if view == View.JSON:
        say_json(document)
    else:
        say_yaml(document)
