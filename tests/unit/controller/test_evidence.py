"""One reading for many models: judged in one go, each as it would be alone."""

from backstay.adapters.prometheus import Place, Reading, Value
from backstay.controller.evidence import EvidenceLoop
from backstay.controller.following import Following, Interest, Trial, follow
from backstay.controller.sources import REQUESTS, CounterPair, sources
from backstay.domain.observed import Backend
from backstay.domain.resource import Analysis, Key
from backstay.domain.signals import Comparison, Objective, Signal
from backstay.judge.memory import Memory

KEYS = [Key("prod", f"model-{index}") for index in range(5)]
(ERRORS,) = [
    source
    for source in sources(Analysis(2.0, 0.05, (Signal("errors", Comparison()),))).values()
    if isinstance(source, CounterPair)
]
STABLE, CANARY = Backend("aaa"), Backend("bbb")


def followed(key: Key) -> Following:
    signals = (Signal("errors", Comparison(1.25 if key.name.endswith("3") else 1.0)), Signal("limit", Objective(0.05)))
    trial = Trial(
        rollout="2-1",
        stable="aaa",
        canary="bbb",
        step=0,
        opening=False,
        changed_at=0.0,
        warm_until=0.0,
        baseline=False,
        comparable=True,
        pods={CANARY: 1},
        steps=2,
    )
    return follow(None, key, Interest(Analysis(2.0, 0.05, signals), frozenset(), trial, Memory()), now=0.0)


def reading(tick: int) -> Reading:
    """Count up: the canary of each model answers ten requests a tick, with the model's number of errors."""
    requests: dict[Key, dict[Place, Value]] = {}
    errors: dict[Key, dict[Place, Value]] = {}
    for index, key in enumerate(KEYS):
        requests[key] = {Place(STABLE, "stable"): 90.0 * tick, Place(CANARY, "canary"): 10.0 * tick}
        errors[key] = {Place(CANARY, "canary"): float(index * tick)}
    return Reading(100.0 + 2 * tick, {REQUESTS: requests, ERRORS.events: errors})


def test_a_tick_judges_every_model_as_it_would_be_judged_alone() -> None:
    together, alone = [followed(key) for key in KEYS], [followed(key) for key in KEYS]
    for tick in range(6):
        EvidenceLoop._take(together, reading(tick))  # noqa: SLF001 - what a tick does after its query
        for model in alone:
            model.take(reading(tick))
    assert [model.memory for model in together] == [model.memory for model in alone]
    verdicts = [str(evidence.verdict) for model in together if (evidence := model.evidence())]
    assert verdicts == ["Pass", "Fail", "Fail", "Fail", "Fail"]
