"""How the command ends when it cannot do what was asked: one sentence on standard error, and a code for scripts."""

from typing import NoReturn

import typer

from backstay.cli.terminal import warn

ANSWER_IS_NO = 1
BAD_INPUT = 2
NO_ANSWER = 3


def refuse(sentence: str) -> NoReturn:
    """End with one sentence on standard error and exit code 2."""
    end(sentence, BAD_INPUT)


def end(sentence: str, code: int) -> NoReturn:
    """End with one sentence on standard error: 1 the answer is no, 2 bad input, 3 a server does not answer."""
    warn(f"backstay: {sentence}")
    raise typer.Exit(code)
