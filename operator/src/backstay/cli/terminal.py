"""The one way out to a terminal, a pipe or a pipeline's log. Colours appear on terminals alone, and not with NO_COLOR.

Texts of clusters, registries, forges and Git stand in what is printed. None of them commands a terminal: it would move
the cursor, hide words or turn them round.
"""

import json
from typing import Any

import typer
import yaml
from rich.console import Console, RenderableType
from rich.text import Text

from backstay.adapters.messages.plain import is_printable, line, terminal_json, terminal_text

# A pipe has no width: nothing is cut or wrapped there.
_ENDLESS = 100_000


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def say(text: str) -> None:
    """Print an answer of one or more lines."""
    typer.echo(terminal_text(text))


def warn(sentence: str) -> None:
    """Print one sentence on standard error, on one line: a pipeline reads lines as commands."""
    typer.echo(line(sentence), err=True)


def say_json(document: Any, *, indent: int | None = 2) -> None:
    """Print a JSON document for scripts."""
    typer.echo(terminal_json(json.dumps(document, indent=indent, ensure_ascii=False)))


def say_yaml(document: Any, *, width: int | None = None, start: str = "", whole_lines: bool = False) -> None:
    """Print a YAML document for scripts; ``whole_lines`` writes texts of several lines as they are."""
    dumper = _Dumper if whole_lines else yaml.SafeDumper

    def written(*, allow_unicode: bool) -> str:
        return yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=allow_unicode, width=width)

    text = written(allow_unicode=True)
    typer.echo(f"{start}{text if is_printable(text) else written(allow_unicode=False)}".rstrip("\n"))


def console(*, folded: bool = False) -> Console:
    """Return the console for tables and views, which are made of `words`; ``folded`` keeps to 80 columns in a pipe."""
    seen = Console(highlight=False, markup=False, emoji=False)
    if folded or seen.is_terminal:
        return seen
    return Console(highlight=False, markup=False, emoji=False, width=_ENDLESS)


def drawn(part: RenderableType) -> str:
    """Draw a table as text without colours, to be printed with others."""
    console = Console(highlight=False, markup=False, emoji=False, color_system=None)
    with console.capture() as captured:
        console.print(part, soft_wrap=True)
    return "\n".join(row.rstrip() for row in captured.get().splitlines())


def words(text: str, style: str = "") -> Text:
    """Write a text for the console."""
    return Text(terminal_text(text), style=style)
