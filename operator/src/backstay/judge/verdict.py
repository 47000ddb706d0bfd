"""What the gathered evidence means: a verdict, the sentence a person needs, and the lines that go into the commit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from backstay.domain.signals import NoHarm
from backstay.domain.status import Verdict
from backstay.judge import combine, wording
from backstay.judge.effect import Effect, Rated, Shifted, effect_of, seen
from backstay.judge.fold import budget, reaches, together
from backstay.judge.memory import Memory, Process
from backstay.judge.objectives import Beyond, Limit, Window
from backstay.judge.panel import SPLIT, SPLIT_ALPHA, Count, Latency, Panel, Part
from backstay.judge.process import layout, log_evidence

# An edge beyond which fewer of the requests lie says too little to be asked for evidence of no harm.
_RARE = 0.01
# From this size on clusters are worth telling of.
_BURSTY = 1.5


@dataclass(frozen=True, slots=True)
class SignalVerdict:
    """One signal's verdict; ``line`` goes behind ``Backstay-Evidence:``. ``effect`` is None where nothing is known."""

    name: str
    verdict: Verdict
    sentence: str
    line: str
    log_e: float = 0.0
    effect: Effect | None = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """The verdict over all signals."""

    verdict: Verdict
    sentence: str
    details: tuple[str, ...]
    signals: tuple[SignalVerdict, ...]


def assess(
    memory: Memory, panel: Panel, *, comparable: bool = True, unfit: Mapping[str, str] | None = None
) -> Assessment:
    """Judge what has been gathered.

    Compared signals share alpha: they fail together when the weighted mean of their E reaches 1/alpha, which keeps the
    chance of failing a harmless version at alpha whatever the dependence between signals. The signals that closed
    testing names have failed, or, where it names none, the one with the largest part of the evidence. Objectives are
    fixed limits, outside alpha. The split of the traffic has an alpha of its own; Fail wins over what it says.

    Args:
        memory: what ``fold`` gathered.
        panel: what is judged.
        comparable: False for a rollout that never has two arms; compared signals are then left out.
        unfit: why a signal's data cannot be used, as a sentence, by its name: it then counts as having none, as does
            one that has stopped counting while requests flow.
    """
    judged = _compared(memory, panel) if comparable else {}
    if comparable:
        judged |= {name: _without_data(name, f"{name}: nothing to compare yet") for name, _ in panel.awaited}
    places = [*(signal.name for signal in panel.signals), *(name for name, _ in panel.awaited)]
    for signal in panel.signals:
        if isinstance(signal.rule, Limit):
            judged[signal.name] = _objective(signal.name, signal.rule, memory.signals.get(signal.name))
    judged |= {
        name: _without_data(name, sentence)
        for name, sentence in (_stopped(memory) | dict(unfit or {})).items()
        if name in judged and judged[name].verdict is not Verdict.FAIL
    }
    signals = sorted(judged.values(), key=lambda verdict: places.index(verdict.name))
    split = split_verdict(memory)
    every = [*signals, split] if split else signals
    failing = [verdict for verdict in every if verdict.verdict is Verdict.FAIL]
    return Assessment(
        verdict=Verdict.FAIL if failing else _join([verdict.verdict for verdict in every]),
        sentence="; ".join(verdict.sentence for verdict in failing or every),
        details=tuple(verdict.line for verdict in failing),
        signals=tuple(every),
    )


def _join(verdicts: list[Verdict]) -> Verdict:
    """Take the least certain of the signals' verdicts; nothing to judge is Pass."""
    for worst in (Verdict.UNAVAILABLE, Verdict.NO_DATA, Verdict.INCONCLUSIVE):
        if worst in verdicts:
            return worst
    return Verdict.PASS


def _compared(memory: Memory, panel: Panel) -> dict[str, SignalVerdict]:
    alpha = budget(memory, panel)
    parts = panel.compared
    processes = {name: state for name, state in memory.signals.items() if isinstance(state, Process)}
    log_e = {
        part.signal.name: float(log_evidence(part.shape, processes[part.signal.name].row))
        for part in parts
        if part.signal.name in processes
    }
    failing = (
        failing_signals(log_e, panel, alpha=alpha) if memory.failed or reaches(log_e, panel, alpha=alpha) else set()
    )
    judged = {}
    for part in parts:
        name = part.signal.name
        process = processes.get(name)
        if process is None or not seen(part.shape, process.row):
            judged[name] = _without_data(name, f"{name}: no requests to compare yet")
            continue
        verdict = Verdict.FAIL if name in failing else _promotable(part, process, memory)
        phi = memory.learnt[name].phi if name in memory.learnt else 1.0
        judged[name] = _tell(part, process, verdict, (log_e[name], -math.log(alpha * part.share)), phi=phi)
    if failing and not any(log_e[p.signal.name] >= -math.log(alpha * p.share) for p in parts if p.signal.name in log_e):
        last = [name for name in judged if name in failing][-1]
        mean = f"E = {wording.evidence(together(log_e, panel))}, limit {wording.limit(-math.log(alpha))}"
        judged[last] = replace(judged[last], sentence=f"{judged[last].sentence}; all comparisons together {mean}")
    return judged


def failing_signals(log_e: Mapping[str, float], panel: Panel, *, alpha: float) -> set[str]:
    """Name the signals that failed, given that they failed together."""
    parts = [part for part in panel.compared if part.signal.name in log_e]
    values, weights = [log_e[part.signal.name] for part in parts], [part.share for part in parts]
    if not panel.refinements:
        named = [e >= -math.log(alpha * share) for e, share in zip(values, weights, strict=True)]
    else:
        named = list(combine.closed(values, weights, alpha=alpha))
    if not any(named):
        named[max(range(len(values)), key=lambda i: values[i] + math.log(weights[i]))] = True
    return {part.signal.name for part, chosen in zip(parts, named, strict=True) if chosen}


def _promotable(part: Part, process: Process, memory: Memory) -> Verdict:
    """Pass, or Inconclusive while a signal that asks for evidence of no harm has too little in this step.

    At full traffic there is nothing to compare with: the last compared step stands.
    """
    rule = part.signal.rule
    no_harm = rule.no_harm if isinstance(rule, Count | Latency) else None
    if no_harm is None:
        return Verdict.PASS
    current = process.step == memory.step or memory.step >= memory.steps
    return Verdict.PASS if current and _harmless(part, process, no_harm) else Verdict.INCONCLUSIVE


def _harmless(part: Part, process: Process, no_harm: NoHarm) -> bool:
    at = layout(part.shape).slices
    size = process.row[at["size"]][0]
    share = (process.row[at["over"]] + process.row[at["under"]]) / (2.0 * size)
    asked = share >= _RARE if isinstance(part.signal.rule, Latency) else share >= 0.0
    return bool((process.row[at["no_harm"]][asked] >= -math.log(no_harm.level)).all()) and bool(asked.any())


def _tell(part: Part, process: Process, verdict: Verdict, scale: tuple[float, float], *, phi: float) -> SignalVerdict:
    name, (log_e, log_limit) = part.signal.name, scale
    effect = effect_of(part, process.row)
    weighed = f"E = {wording.evidence(log_e)}, limit {wording.limit(log_limit)}"
    bursts, clusters = "", ""
    if phi >= _BURSTY:
        # Otherwise a reader wonders why so many events weigh so little.
        bursts, clusters = f", weighed for bursts of {phi:.2g}", f" phi={phi:.3g}"
    match effect:
        case Shifted():
            what, value, times = f"{name}: PSI {effect.psi:.3f}", f"value={effect.psi:.3f} effect=psi", ""
        case Rated():
            ours, theirs = wording.percent(effect.canary), wording.percent(effect.baseline)
            where = f" above {effect.edge:g} s" if effect.edge else ""
            what, value = f"{name}{where} {ours} against {theirs}", f"value={ours} baseline={theirs}"
            value += f" edge={effect.edge:g}" if effect.edge else ""
            times = f" ({effect.ratio:.3g} times)" if math.isfinite(effect.ratio) and effect.ratio != 1.0 else ""
    return SignalVerdict(
        name=name,
        verdict=verdict,
        sentence=f"{what}{times} on {effect.requests:,.0f} requests, {weighed}{bursts}",
        line=f"signal={name} verdict={verdict} {value} requests={effect.requests:.0f} "
        f"E={wording.evidence(log_e)} limit={wording.limit(log_limit)}{clusters}",
        log_e=log_e,
        effect=effect,
    )


def _objective(name: str, rule: Limit, state: object) -> SignalVerdict:
    window = state if isinstance(state, Window) else Window()
    requests, events = window.requests, window.events
    bound = f"{100 * rule.limit:.3g} %"
    if window.failed:
        verdict = Verdict.FAIL
    elif not requests:
        return _without_data(name, f"{name}: no requests yet")
    else:
        verdict = Verdict.PASS if requests >= rule.min_requests else Verdict.INCONCLUSIVE
    value = wording.percent(events / requests if requests else 0.0)
    least = "at least " if rule.beyond is Beyond.BELOW else ""
    return SignalVerdict(
        name=name,
        verdict=verdict,
        sentence=f"{name} {value} of {requests:,.0f} requests, limit {least}{bound}",
        line=f"signal={name} verdict={verdict} value={value} limit={bound} requests={requests:.0f}",
    )


def _stopped(memory: Memory) -> dict[str, str]:
    """Say which signals have stopped counting while requests flow, by name."""
    found = {}
    for name, flows in memory.flows.items():
        for version, flow in zip(("new", "running"), flows, strict=True):
            if flow.stopped:
                found[name] = (
                    f"{name}: the {version} version has answered {flow.silent:,.0f} requests since it last counted "
                    "anything for this signal: see whether its pods still export the metric"
                )
                break
    return found


def _without_data(name: str, sentence: str) -> SignalVerdict:
    return SignalVerdict(name, Verdict.NO_DATA, sentence, "")


def split_verdict(memory: Memory) -> SignalVerdict | None:
    """Judge the split of the traffic, where it was planned and is far from its plan; None while it is not.

    Too few requests on the canary are responses that it lost, so that is Fail: a version that crashes has no errors to
    count. Too many mean that the comparison is not the planned one, which is no fault of the version.
    """
    if memory.split is None or float(log_evidence(SPLIT, memory.split.row)) < -math.log(SPLIT_ALPHA):
        return None
    n_c, _, planned = memory.split.row[layout(SPLIT).slices["totals"]]
    log_e = float(log_evidence(SPLIT, memory.split.row))
    short = n_c < planned
    verdict = Verdict.FAIL if short else Verdict.INCONCLUSIVE
    what = f"traffic: the canary answered {n_c:,.0f} requests where its share brings {planned:,.0f}"
    told = f"{what}, so {planned - n_c:,.0f} were lost" if short else f"{what}: see whether the route is as planned"
    limit = wording.limit(-math.log(SPLIT_ALPHA))
    return SignalVerdict(
        name="traffic",
        verdict=verdict,
        sentence=f"{told}, E = {wording.evidence(log_e)}, limit {limit}",
        line=f"signal=traffic verdict={verdict} value={n_c:.0f} baseline={planned:.0f} requests={n_c:.0f} "
        f"E={wording.evidence(log_e)} limit={limit}",
        log_e=log_e,
    )
