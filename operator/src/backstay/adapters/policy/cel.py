"""CEL as the API server evaluates it, so that its rules can be asked before anything reaches it.

What a schema or a ValidatingAdmissionPolicy says is compiled once and evaluated on plain JSON data. Of the API server's
own functions those are here that this project's rules use; an expression that uses another cannot be compiled.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, cast
from urllib.parse import urlsplit

import celpy
from celpy import celtypes
from celpy.adapter import json_to_cel
from celpy.celparser import CELParseError
from celpy.evaluation import CELEvalError


class CelError(Exception):
    """An expression cannot be compiled or evaluated."""


def compiled(expression: str) -> None:
    """Check that an expression is CEL.

    Raises:
        CelError: it is not.
    """
    try:
        _program(expression)
    except CELParseError as error:
        raise CelError(f"{expression!r} is not CEL: {error}") from None


def evaluate(expression: str, values: Mapping[str, Any]) -> Any:
    """Evaluate an expression over named values, which `cel_value` or celpy made.

    Returns:
        A plain Python value: a bool for rules, a str for messages.

    Raises:
        CelError: the expression is wrong, or cannot be evaluated on these values.
    """
    try:
        return _program(expression).evaluate(dict(values))
    except (CELEvalError, CELParseError, ValueError, TypeError, KeyError) as error:
        raise CelError(f"{expression!r} cannot be evaluated: {error}") from None


def holds(rule: str, values: Mapping[str, Any]) -> bool:
    """Tell whether a rule is kept; one that cannot be evaluated is broken, as for the API server.

    Raises:
        CelError: the rule cannot be compiled.
    """
    try:
        return bool(_program(rule).evaluate(dict(values)))
    except CELParseError as error:
        raise CelError(f"{rule!r} is not CEL: {error}") from None
    except (CELEvalError, ValueError, TypeError, KeyError):
        return False


def cel_value(value: Any, schema: Mapping[str, Any] | None = None) -> Any:
    """Make a CEL value of JSON data; a schema says which whole numbers are meant as doubles."""
    if isinstance(value, Mapping):
        properties, others = (schema or {}).get("properties") or {}, (schema or {}).get("additionalProperties")
        rest = others if isinstance(others, Mapping) else None
        return celtypes.MapType(
            {
                celtypes.StringType(key): cel_value(entry, properties.get(key, rest))
                for key, entry in value.items()
                if entry is not None
            }
        )
    if isinstance(value, list):
        return celtypes.ListType([cel_value(entry, (schema or {}).get("items")) for entry in value])
    if isinstance(value, int) and not isinstance(value, bool) and (schema or {}).get("type") == "number":
        return celtypes.DoubleType(value)
    return json_to_cel(value)


def _is_url(text: celtypes.StringType) -> celtypes.BoolType:
    """Go's url.ParseRequestURI, as far as the difference matters: an absolute URL with a host, or a path."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return celtypes.BoolType(False)
    plain = str(text).isprintable() and " " not in text
    return celtypes.BoolType(plain and (bool(parts.scheme and parts.netloc) or text.startswith("/")))


def _is_sorted(values: list[Any]) -> celtypes.BoolType:
    return celtypes.BoolType(all(first <= second for first, second in pairwise(values)))


_FUNCTIONS = {"isURL": _is_url, "isSorted": _is_sorted}


@lru_cache(maxsize=512)
def _program(expression: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(expression), functions=cast("Any", _FUNCTIONS))
