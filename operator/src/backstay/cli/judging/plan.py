"""``backstay plan``: what a rollout will be able to see."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from backstay.adapters.yaml_text.plain import PlainYamlError, read
from backstay.cli import terminal
from backstay.cli.trouble import refuse
from backstay.domain.resource import Analysis, ApprovalStep, ShadowStep, Step, WeightStep, plan_of
from backstay.domain.signals import Comparison, Signal
from backstay.domain.units import seconds
from backstay.judge.combine import shares
from backstay.judge.planning import Found, Outlook, Stage, Watched, found, smallest

_PERCENT = 100


def plan(  # noqa: PLR0913 - each is an option of the command
    resource: Annotated[
        Path | None,
        typer.Argument(metavar="[MODEL.yaml]", help="A ModelDeployment whose steps, alpha and signals are taken."),
    ] = None,
    *,
    rate: Annotated[float, typer.Option(help="Requests a second to the whole model.")],
    base: Annotated[
        list[str],
        typer.Option(help="A signal's share of requests with the event now: errors=0.01. One for each signal."),
    ],
    step: Annotated[
        list[str] | None, typer.Option(help="Weight and time of a step: 5:30m, or shadow:30m. Repeat it.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Chance of rolling back a harmless version (0.05).")] = None,
    effect: Annotated[float, typer.Option(help="The effect to look for: times as many events.")] = 2.0,
    pod_spread: Annotated[
        float, typer.Option(help="Standard deviation of the pods' log rates, where pods differ for good.")
    ] = 0.0,
    replicas: Annotated[int, typer.Option(help="Pods of the stable version; needed with --pod-spread.")] = 1,
) -> None:
    """Say how long a rollout needs to find a harmful version, and what each of its steps cannot see.

    ```
    backstay plan --rate 20 --base errors=0.01 --step 5:30m --step 25:30m --step 50:30m
    backstay plan model.yaml --rate 20 --base errors=0.01
    ```

    Times are those by which four in five versions with that effect are found, if it is there from the start. Requests
    and events are the canary's. The smallest effect of a step is the one that is found by its end. A longer step, a
    larger share, or a larger alpha finds smaller effects.
    """
    declared = _declared(resource) if resource else None
    steps = tuple(_step(text) for text in step or ()) or (declared[0] if declared else ())
    if not steps:
        refuse("there are no steps: name a ModelDeployment, or steps such as --step 5:30m --step 25:30m")
    if not rate > 0 or not effect > 1:
        refuse("--rate must be above 0 and --effect above 1")
    analysis = declared[1] if declared else None
    chance = alpha if alpha is not None else analysis.alpha if analysis else 0.05
    if not 0 < chance < 1:
        refuse(f"alpha is {chance:g}: it must be above 0 and below 1")
    outlook = Outlook(rate, chance, steps, pod_spread, replicas)
    if not outlook.compared:
        refuse("every step has weight 100, where there is nothing to compare with: add a step below 100")
    _print(outlook, _signals(dict(_base(text) for text in base), analysis), effect)


def _signals(bases: dict[str, float], analysis: Analysis | None) -> list[Watched]:
    """Match the base rates with the declared comparisons; without a declaration, all have equal weights."""
    if analysis is None:
        return [Watched(name, rate, share=1.0 / len(bases)) for name, rate in bases.items()]
    compared: list[tuple[Signal, Comparison]] = [
        (signal, signal.rule) for signal in analysis.signals if isinstance(signal.rule, Comparison)
    ]
    names = [signal.name for signal, _ in compared]
    unknown = next((name for name in bases if name not in names), None)
    if unknown is not None:
        refuse(f"no comparison is called {unknown}: known are {', '.join(names) or 'none'}")
    return [
        Watched(signal.name, bases[signal.name], rule.tolerance, share)
        for (signal, rule), share in zip(compared, shares([s.weight for s, _ in compared]), strict=True)
        if signal.name in bases
    ]


def _declared(resource: Path) -> tuple[tuple[Stage, ...], Analysis]:
    """Read steps and analysis of a ModelDeployment, or of a patch of one."""
    try:
        (document,) = read(resource)
        spec = document.value["spec"]
        declared = plan_of({"model": {}, **spec, "serving": {"template": {}}})
    except OSError as problem:
        refuse(f"{resource} cannot be read ({problem.strerror}): name a file with a ModelDeployment")
    except PlainYamlError as problem:
        refuse(f"{resource} is no ModelDeployment: it {problem}")
    except (KeyError, TypeError, ValueError) as problem:
        refuse(f"{resource} is no ModelDeployment ({problem!r}): name a file with one, with its spec")
    return tuple(stage for step in declared.rollout.steps if (stage := _stage(step)) is not None), declared.analysis


def _stage(step: Step) -> Stage | None:
    match step:
        case WeightStep(weight, time, requests):
            return Stage(weight, time, requests)
        case ShadowStep(percent, time, requests):
            return Stage(percent, time, requests, shadow=True)
        case ApprovalStep():
            return None


def _step(text: str) -> Stage:
    weight, _, time = text.partition(":")
    try:
        stage = Stage(_PERCENT, seconds(time), shadow=True) if weight == "shadow" else Stage(int(weight), seconds(time))
    except ValueError:
        refuse(f"--step {text} is not understood: write weight and time, such as 5:30m, or shadow:30m")
    if not 1 <= stage.weight <= _PERCENT or stage.seconds <= 0:
        refuse(f"--step {text}: the weight is 1 to 100, and the time is above 0")
    return stage


def _base(text: str) -> tuple[str, float]:
    name, _, rate = text.partition("=")
    try:
        value = float(rate)
    except ValueError:
        value = 0.0
    if not name or not 0 < value < 1:
        refuse(f"--base {text} is not understood: write a signal and its present share of requests: errors=0.01")
    return name, value


def _print(outlook: Outlook, signals: list[Watched], effect: float) -> None:
    console = terminal.console(folded=True)
    table = Table(title=f"x{effect:g}, four times in five, at alpha {outlook.alpha:g}")
    for column in ("signal", "now", "found after", "canary requests", "events among them"):
        table.add_column(column, justify="left" if column == "signal" else "right")
    for signal in signals:
        table.add_row(terminal.words(signal.name), f"{signal.base:.3%}", *_told(found(outlook, signal, effect)))
    console.print(table)
    for signal in signals:
        for stage, least in zip(outlook.compared, smallest(outlook, signal), strict=True):
            requests = outlook.rate * stage.canary
            what = f"copies of {stage.weight} %" if stage.shadow else f"{stage.weight} %"
            where = f"{what} for {_time(stage.lasts(outlook.rate))} ({requests:.3g} requests/s)"
            if least is None:
                terminal.say(f"{signal.name}: by the end of {where}, nothing can be seen")
            else:
                terminal.say(f"{signal.name}: by the end of {where}, nothing under x{least:.2f} can be seen")


def _told(when: Found | None) -> tuple[str, str, str]:
    if when is None:
        return "not in these steps", "", ""
    return _time(when.seconds), f"{when.requests:,.0f}", f"{when.events:,.0f}"


def _time(value: float) -> str:
    if value < 120:  # noqa: PLR2004 - two minutes are still told in seconds
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"  # noqa: PLR2004 - and two hours in minutes
