"""What is asked of a version in the registry, in pull requests and before a start alike."""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from backstay.adapters.registry.versions import READY, ModelVersionError, RegisteredVersion
from backstay.domain.resource import IDENTITY_FIELDS, ModelIdentity
from backstay.domain.status import FAILED, PASSED, Gate

COMPARED = ("digest", "code_commit", "data_checksum", "run_id", "feature_schema_version")

_HOLDS: Mapping[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le}
_LIMIT = re.compile(r"\s*([A-Za-z0-9_./ -]*[A-Za-z0-9_./-])\s*(>=|<=)\s*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*")


class PolicyError(Exception):
    """The policy or its settings cannot be read; the message is a sentence with the remedy."""


@dataclass(frozen=True, slots=True)
class MetricLimit:
    """A metric of the version or of its run, ``>=`` or ``<=`` a value."""

    metric: str
    relation: str
    value: float

    @staticmethod
    def parse(text: str) -> "MetricLimit":
        """Read one, such as ``auc>=0.8``.

        Raises:
            ValueError: it is something else.
        """
        found = _LIMIT.fullmatch(text)
        if found is None:
            raise ValueError(f"{text.strip()!r} is no limit of a metric: write auc>=0.8 or brier<=0.2, say")
        metric, relation, value = found.groups()
        return MetricLimit(metric, relation, float(value))

    def holds(self, value: float) -> bool:
        """Tell whether a value keeps the limit."""
        return _HOLDS[self.relation](value, self.value)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the promotion policy asks of the registry, and the feature schemas that the environment serves."""

    tags: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[MetricLimit, ...] = ()
    model_card: bool = False
    schemas: tuple[str, ...] = ()


def gates(declared: ModelIdentity, known: RegisteredVersion | ModelVersionError, asked: Asked) -> tuple[Gate, ...]:
    """Compare what Git declares with what the registry has; every gate has its result, one that says no a sentence."""
    what = f"version {declared.version} of {declared.name}"
    if isinstance(known, ModelVersionError):
        return (_gate("Registered", str(known)),)
    note = f" ({known.note})" if known.note else ""
    ready = "" if known.status == READY else f"{what} is {known.status}{note} in the registry; wait until it is {READY}"
    results = [
        _gate("Registered"),
        _gate("Ready", ready),
        _gate("Lineage", *_differences(declared, known.identity, what)),
    ]
    if asked.schemas:
        results.append(_gate("Schema", _other_schema(asked.schemas, known.identity.feature_schema_version, what)))
    if asked.tags:
        results.append(_gate("Tags", *_missing_tags(asked.tags, known.tags, what)))
    if asked.limits:
        results.append(_gate("Metrics", *_beyond(asked.limits, known.metrics, what)))
    if asked.model_card:
        card = (
            ""
            if known.description.strip()
            else f"{what} has no description in the registry; write its model card there"
        )
        results.append(_gate("ModelCard", card))
    return tuple(results)


def _gate(name: str, *problems: str) -> Gate:
    found = [problem for problem in problems if problem]
    return Gate(name, FAILED if found else PASSED, "; ".join(found))


def _differences(declared: ModelIdentity, has: ModelIdentity, what: str) -> Iterator[str]:
    for fact in COMPARED:
        ours, theirs, field = getattr(declared, fact), getattr(has, fact), IDENTITY_FIELDS[fact]
        if ours and theirs and ours != theirs:
            yield f"{field} is {ours}, and the registry has {theirs} of {what}; use backstay bump"


def _other_schema(served: tuple[str, ...], has: str, what: str) -> str:
    here = f"this environment serves {' and '.join(served)} (spec.registry.featureSchemaVersions)"
    if not has:
        return f"the registry has no feature schema version of {what}, and {here}; say in training which one it expects"
    return (
        "" if has in served else f"{what} expects feature schema {has}, and {here}; serve that, or name another version"
    )


def _missing_tags(wanted: Mapping[str, str], tags: Mapping[str, str], what: str) -> Iterator[str]:
    for tag, value in wanted.items():
        has = tags.get(tag, "")
        if has != value:
            said = f"has {tag} = {has!r}" if has else f"has no tag {tag}"
            yield f"{what} {said}, and the policy asks for {value!r}; have it evaluated first"


def _beyond(limits: tuple[MetricLimit, ...], metrics: Mapping[str, float], what: str) -> Iterator[str]:
    for limit in limits:
        wanted = f"the policy asks for {limit.metric} {limit.relation} {limit.value:g}"
        value = metrics.get(limit.metric)
        if value is None:
            yield f"{what} has no metric {limit.metric}, and {wanted}; have it evaluated first"
        elif not limit.holds(value):
            yield f"{what} has {limit.metric} = {value:g}, and {wanted}; train a better one"
