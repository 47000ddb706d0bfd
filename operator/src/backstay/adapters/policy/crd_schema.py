"""What the API server would say of a ModelDeployment, asked of the CustomResourceDefinition without an API server."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from backstay.adapters.policy.cel import CelError, cel_value, evaluate, holds
from backstay.adapters.shipped import shipped_files
from backstay.domain.resource import VERSION

PLACE = "operator/config/crd/modeldeployments.yaml"

_RULES = "x-kubernetes-validations"
_OPEN = "x-kubernetes-preserve-unknown-fields"
_LONGEST = 80


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with an object: where, such as ``spec.model.version``, and the sentence that mends it.

    ``rule`` is the CEL rule that is broken, whose message the sentence is; empty for types, bounds and unknown fields.
    """

    field: str
    sentence: str
    rule: str = ""


class Schema:
    """The schema of ModelDeployments, of one version of the CustomResourceDefinition."""

    def __init__(self, definition: Mapping[str, Any]) -> None:
        versions = {version["name"]: version for version in definition["spec"]["versions"]}
        self._schema: dict[str, Any] = versions[VERSION]["schema"]["openAPIV3Schema"]

    @staticmethod
    def shipped() -> "Schema":
        """Return the one of this version of Backstay."""
        return Schema(yaml.safe_load(shipped_files(PLACE)[PLACE]))

    def problems(self, body: Mapping[str, Any]) -> list[Problem]:
        """List what the API server would refuse; rules are asked only where types and required fields are right."""
        found = [_told(error) for error in self._validator.iter_errors(body)]
        found = found or [problem for _, problem in self._asked(body) if problem is not None]
        return list(dict.fromkeys(found))

    def kept(self, body: Mapping[str, Any]) -> set[str]:
        """Return the rules that apply somewhere in an object, and are kept there."""
        return {rule for rule, problem in self._asked(body) if problem is None}

    def _asked(self, body: Mapping[str, Any]) -> Iterator[tuple[str, Problem | None]]:
        filled = deepcopy(dict(body))
        _fill(filled, self._schema)
        return _asked(filled, self._schema, "")

    def rules(self) -> set[str]:
        """Return every rule of the schema."""
        return {rule["rule"] for rule in _all_rules(self._schema)}

    @cached_property
    def _validator(self) -> Draft202012Validator:
        return Draft202012Validator(_closed(self._schema, top=True))


def _closed(schema: Mapping[str, Any], *, top: bool = False) -> dict[str, Any]:
    """Make a JSON schema that refuses unknown fields; the object's own frame and what is left open stays open."""
    made = {
        key: value for key, value in schema.items() if not key.startswith("x-") and key not in ("default", "format")
    }
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        made["properties"] = {name: _closed(entry) for name, entry in properties.items()}
        if top:
            made["properties"] |= {"metadata": {"type": "object"}, "status": True}
        elif not schema.get(_OPEN) and "additionalProperties" not in schema:
            made["additionalProperties"] = False
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), Mapping):
            made[part] = _closed(schema[part])
    return made


def _told(error: ValidationError) -> Problem:
    field, asked, has = _path(error.absolute_path), cast("Any", error.validator_value), cast("Any", error.instance)
    match error.validator:
        case "additionalProperties":
            properties = cast("Mapping[str, Any]", error.schema).get("properties", {})
            known, unknown = ", ".join(sorted(properties)), min(set(has) - set(properties))
            field = _below(field, unknown)
            what = f"{field} is not a field: there are {known}"
        case "required":
            missing = [name for name in asked if name not in has]
            what = f"{field or 'the object'} lacks {', '.join(missing)}: write it"
            field = _below(field, missing[0])
        case "type":
            quote = ", in quotes" if asked == "string" else ""
            what = f"{field} is {_short(has)}: write a value of type {asked}{quote}"
        case "enum":
            what = f"{field} is {_short(has)}: choose one of {', '.join(map(str, asked))}"
        case _:
            what = f"{field} {_beyond(str(error.validator), asked, has)}"
    return Problem(field, what)


def _beyond(keyword: str, asked: Any, has: Any) -> str:
    """Say how a value leaves the bounds that a keyword of the schema sets."""
    match keyword:
        case "minimum" | "maximum":
            return f"is {_short(has)}: write {asked} or {'more' if keyword == 'minimum' else 'less'}"
        case "exclusiveMinimum" | "exclusiveMaximum":
            return f"is {_short(has)}: write {'more' if keyword == 'exclusiveMinimum' else 'less'} than {asked}"
        case "minItems" | "maxItems":
            return f"has {len(has)} entries: write {'at least' if keyword == 'minItems' else 'at most'} {asked}"
        case "minLength" | "maxLength":
            return f"has {len(has)} characters: write {'at least' if keyword == 'minLength' else 'at most'} {asked}"
        case _:
            return f"is {_short(has)}, which its schema does not allow ({keyword} {asked}): correct it"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _below(field: str, name: str) -> str:
    return f"{field}.{name}" if field else name


def _path(parts: Any) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _fill(value: Any, schema: Mapping[str, Any]) -> None:
    """Put defaults in, as the API server does before it asks the rules."""
    if isinstance(value, dict):
        for name, entry in (schema.get("properties") or {}).items():
            if name not in value and "default" in entry:
                value[name] = deepcopy(entry["default"])
            if name in value:
                _fill(value[name], entry)
        others = schema.get("additionalProperties")
        if isinstance(others, Mapping):
            for name in value.keys() - (schema.get("properties") or {}).keys():
                _fill(value[name], others)
    elif isinstance(value, list):
        for entry in value:
            _fill(entry, schema.get("items") or {})


def _asked(value: Any, schema: Mapping[str, Any], field: str) -> Iterator[tuple[str, Problem | None]]:
    """Ask every rule that applies to a value and what is in it; beside each, what is wrong where it is broken."""
    for rule in schema.get(_RULES) or ():
        values = {"self": cel_value(value, schema)}
        broken = not holds(rule["rule"], values)
        place = (field + rule.get("fieldPath", "")).lstrip(".")
        yield rule["rule"], Problem(place, _message(rule, values, field), rule["rule"]) if broken else None
    if isinstance(value, Mapping):
        properties, others = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, entry in value.items():
            inner = properties.get(name, others if isinstance(others, Mapping) else {})
            yield from _asked(entry, inner, _below(field, name))
    elif isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _asked(entry, schema.get("items") or {}, f"{field}[{number}]")


def _message(rule: Mapping[str, Any], values: Mapping[str, Any], field: str) -> str:
    text = rule.get("message") or f"{field} does not keep the rule {rule['rule']}"
    if "messageExpression" in rule:
        # Where it cannot be evaluated the API server takes the plain message, too.
        with suppress(CelError):
            text = str(evaluate(rule["messageExpression"], values))
    return " ".join(text.split())


def _all_rules(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from schema.get(_RULES) or ()
    for entry in (schema.get("properties") or {}).values():
        yield from _all_rules(entry)
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), Mapping):
            yield from _all_rules(schema[part])
