"""How the command refuses bad input."""

from typing import NoReturn

import typer

BAD_INPUT = 2


def refuse(sentence: str) -> NoReturn:
    """End with one sentence on standard error and exit code 2."""
    typer.echo(f"backstay: {sentence}", err=True)
    raise typer.Exit(BAD_INPUT)
