"""What the gathered evidence means: a verdict, the sentence a person needs, and the lines that go into the commit."""

import math
from dataclasses import dataclass

from backstay.domain.resource import Analysis, Comparison, Objective, Signal
from backstay.domain.status import Verdict
from backstay.judge.accumulate import Memory, SignalMemory
from backstay.judge.first_counts import log_evidence

_READABLE_DECADES = 6
_WHOLE_FROM = 10


@dataclass(frozen=True, slots=True)
class SignalVerdict:
    """One signal's verdict; ``line`` goes behind ``Backstay-Evidence:``."""

    name: str
    verdict: Verdict
    sentence: str
    line: str
    log_e: float = 0.0


@dataclass(frozen=True, slots=True)
class Assessment:
    """The verdict over all signals."""

    verdict: Verdict
    sentence: str
    details: tuple[str, ...]
    signals: tuple[SignalVerdict, ...]


def assess(memory: Memory, analysis: Analysis, *, comparable: bool = True) -> Assessment:
    """Judge what has been gathered.

    Comparisons share ``alpha``: they fail together when the weighted mean of their E reaches 1/alpha, which keeps the
    chance of failing a harmless version at alpha whatever the dependence between signals. Objectives are fixed limits,
    outside alpha.

    Args:
        memory: what ``fold`` gathered.
        analysis: what is judged.
        comparable: False for a rollout that never has two arms; its comparisons are then left out.
    """
    budget = math.fsum(s.weight for s in analysis.signals if isinstance(s.rule, Comparison))
    judged = []
    for signal in analysis.signals:
        gathered = memory.signals.get(signal.name, SignalMemory())
        match signal.rule:
            case Comparison():
                if comparable:
                    judged.append(_comparison(signal, gathered, analysis.alpha * signal.weight / budget))
            case Objective() as rule:
                judged.append(_objective(signal, rule, gathered))
    together = [s for s in judged if s.line and s.log_e]
    weights = {s.name: s.weight / budget for s in analysis.signals if isinstance(s.rule, Comparison)}
    mean = math.fsum(weights[s.name] * math.exp(min(s.log_e, 700.0)) for s in together if s.name in weights)
    failing = [s for s in judged if s.verdict is Verdict.FAIL]
    if not failing and mean * analysis.alpha >= 1:
        failing = [max(together, key=lambda s: weights.get(s.name, 0.0) * math.exp(min(s.log_e, 700.0)))]
    verdict = Verdict.FAIL if failing else _join([s.verdict for s in judged])
    told = failing or judged
    return Assessment(
        verdict=verdict,
        sentence="; ".join(s.sentence for s in told),
        details=tuple(s.line for s in failing),
        signals=tuple(judged),
    )


def _join(verdicts: list[Verdict]) -> Verdict:
    """Take the least certain of the signals' verdicts; nothing to judge is Pass."""
    for worst in (Verdict.UNAVAILABLE, Verdict.NO_DATA, Verdict.INCONCLUSIVE):
        if worst in verdicts:
            return worst
    return Verdict.PASS


def _comparison(signal: Signal, memory: SignalMemory, alpha: float) -> SignalVerdict:
    """Fail when E reaches 1/alpha; pass while there is data of both arms and no such evidence."""
    totals = memory.totals
    if not memory.exponents:
        return SignalVerdict(signal.name, Verdict.NO_DATA, f"{signal.name}: no requests to compare yet", "")
    log_e, limit = log_evidence(memory.exponents), 1 / alpha
    failed = log_e >= math.log(limit)
    ours = _percent(totals.canary_events, totals.canary_requests)
    theirs = _percent(totals.stable_events, totals.stable_requests)
    compared = f"{signal.name} {ours} against {theirs}"
    verdict = Verdict.FAIL if failed else Verdict.PASS
    evidence = f"E = {_number(log_e)}, limit {limit:.3g}"
    return SignalVerdict(
        name=signal.name,
        verdict=verdict,
        sentence=f"{compared} on {totals.canary_requests:,.0f} requests ({evidence})",
        line=f"signal={signal.name} verdict={verdict} value={ours} baseline={theirs} "
        f"requests={totals.canary_requests:.0f} E={_number(log_e)} limit={limit:.3g}",
        log_e=log_e,
    )


def _objective(signal: Signal, rule: Objective, memory: SignalMemory) -> SignalVerdict:
    requests = math.fsum(slot.requests for slot in memory.window)
    events = math.fsum(slot.events for slot in memory.window)
    limit = f"{100 * rule.limit:.3g} %"
    if memory.failed:
        verdict = Verdict.FAIL
    elif not requests:
        return SignalVerdict(signal.name, Verdict.NO_DATA, f"{signal.name}: no requests yet", "")
    else:
        verdict = Verdict.PASS if requests >= rule.min_requests else Verdict.INCONCLUSIVE
    value = _percent(events, requests)
    return SignalVerdict(
        name=signal.name,
        verdict=verdict,
        sentence=f"{signal.name} {value} of {requests:,.0f} requests, limit {limit}",
        line=f"signal={signal.name} verdict={verdict} value={value} limit={limit} requests={requests:.0f}",
    )


def _percent(events: float, requests: float) -> str:
    return f"{100 * events / requests:.1f} %" if requests else "0.0 %"


def _number(log_e: float) -> str:
    """Write E for people: as a number while it is readable, as a power of ten beyond."""
    decades = log_e / math.log(10)
    if decades > _READABLE_DECADES:
        return f"10^{decades:.0f}"
    value = math.exp(log_e)
    return f"{value:,.0f}" if value >= _WHOLE_FROM else f"{value:.2g}"
