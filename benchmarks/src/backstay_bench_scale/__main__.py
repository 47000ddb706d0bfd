"""`make bench-scale`: live canaries by the hundred under one controller: memory, processor, requests, drains."""

import asyncio
import random
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from enum import StrEnum
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from backstay_bench_scale import delivered, growth, report
from backstay_bench_scale.contender import INTERVAL, Contender
from backstay_bench_scale.ours import Backstay
from backstay_bench_scale.peers import ArgoRollouts, Flagger
from backstay_bench_scale.prometheus import Outage
from backstay_bench_scale.scene import Scene, scene
from backstay_playground.errors import PlaygroundError
from backstay_playground.layout import repository_root

_CONSOLE = Console()
_IN_OUTAGE = 100
# So many idle models are declared at once.
_BATCH = 500
# For so long, in seconds, canaries that fail one by one are begun with: some controllers take minutes for each.
_SINGLE_SECONDS = 180.0
_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete")


class Kind(StrEnum):
    """Which controller is measured."""

    BACKSTAY = "backstay"
    ARGO_ROLLOUTS = "argo-rollouts"
    FLAGGER = "flagger"


_CONTENDERS: dict[Kind, type[Contender]] = {
    Kind.BACKSTAY: Backstay,
    Kind.ARGO_ROLLOUTS: ArgoRollouts,
    Kind.FLAGGER: Flagger,
}


async def _measure(contender: Contender, live: int, idle: int, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="backstay-scale-") as place:
        async with scene(contender, Path(place)) as found:
            figures: dict[str, Any] = {report.CONTENDER: contender.name, report.LIVE: live, report.IDLE: idle}
            begun = time.monotonic()
            await found.add(range(live))
            figures["stable after, s"] = round(time.monotonic() - begun, 1)
            _CONSOLE.print(f"  {live} models are stable", highlight=False)
            begun = time.monotonic()
            await found.bump(range(live))
            figures["live after, s"] = round(time.monotonic() - begun, 1)
            await found.wait_asked(range(live))
            _CONSOLE.print(f"  {live} canaries are live", highlight=False)
            for first in range(live, live + idle, _BATCH):
                batch = range(live + idle)[first : first + _BATCH]
                await found.add(batch)
                memory = round(found.controller.memory())
                _CONSOLE.print(f"  {batch.stop - live} more are stable: {memory} MiB", highlight=False)
            figures |= await _rest(found, seconds)
            failed, times = await _breaches(found, live)
            figures |= times
            _CONSOLE.print("  what failed is drained", highlight=False)
            figures |= await _restart(found, [number for number in range(live) if number not in failed])
            return figures


async def _rest(found: Scene, seconds: float) -> dict[str, Any]:
    """Watch a controller that has nothing to do but to judge."""
    before, at = found.controller.seconds(), time.monotonic()
    queries, told = found.evidence.queries, found.evidence.bytes
    found.audit.since_last_time()
    await asyncio.sleep(seconds)
    minutes = (time.monotonic() - at) / 60
    asked, verbs = found.audit.since_last_time(), Counter[str]()
    for what, count in asked.items():
        verbs[what.split()[0]] += count
    return {
        "memory, MiB": round(found.controller.memory()),
        "CPU s/min": round((found.controller.seconds() - before) / minutes, 2),
        "queries/min": round((found.evidence.queries - queries) / minutes, 1),
        "MB read/min": round((found.evidence.bytes - told) / minutes / 1e6, 2),
        "API requests/min": round(asked.total() / minutes, 1),
        **{f"- {verb}/min": round(verbs[verb] / minutes, 1) for verb in _VERBS},
    }


async def _breaches(found: Scene, live: int) -> tuple[set[int], dict[str, Any]]:
    """Let some fail one by one, then a crowd at once; returns which, and the times."""
    single, until = [], time.monotonic() + _SINGLE_SECONDS
    for number in range(min(8, live // 4)):
        if time.monotonic() > until:
            break
        await asyncio.sleep(random.uniform(0, INTERVAL))  # noqa: S311 - at no fixed place in the tick
        single += await found.breach([number])
    several = range(live // 4, live // 4 + min(20, live // 4))
    crowd = await found.breach(several)
    figures = {}
    for what, times in (("", single), (f"{len(crowd)} at once: ", crowd)):
        for kind, values in zip(("breach -> 0", "bad answer -> 0"), zip(*times, strict=True), strict=True):
            figures[f"{what}{kind}, s"] = report.spread(values)
    return {*range(len(single)), *several}, figures


async def _outages(seconds: float) -> list[dict[str, Any]]:
    """Let Prometheus fail in every way, with canaries that are good and others that turn bad meanwhile."""
    every = list(Outage)
    found = []
    with tempfile.TemporaryDirectory(prefix="backstay-scale-") as place:
        good, count = range(_IN_OUTAGE), _IN_OUTAGE * (len(every) + 1)
        async with scene(Backstay(count), Path(place)) as stage:
            await stage.add(range(count))
            await stage.bump(range(count))
            await stage.wait_asked(range(count))
            for place_of, kind in enumerate(every, start=1):
                bad = range(_IN_OUTAGE * place_of, _IN_OUTAGE * (place_of + 1))
                async with stage.evidence.outage(kind):
                    stage.break_now(bad)
                    await asyncio.sleep(seconds)
                    during = sum(not stage.weight(number) for number in bad)
                over = time.time()
                drained = await stage.drained(bad)
                await asyncio.sleep(2 * INTERVAL)
                lost = sum(not stage.weight(number) for number in good)
                found.append(
                    {
                        "outage": str(kind),
                        "good canaries rolled back": f"{lost} of {len(good)}",
                        "bad ones drained meanwhile": f"{during} of {len(bad)}",
                        "all bad ones drained after its end, s": round(max(0.0, *drained.values()) - over, 2),
                    }
                )
                _CONSOLE.print(f"  {found[-1]}", highlight=False)
    return found


async def _restart(found: Scene, live: list[int]) -> dict[str, Any]:
    await asyncio.to_thread(found.controller.stop)
    found.controller.start()
    return {"restart until all are asked about, s": round(await found.wait_asked(live), 1)}


def bench(  # noqa: PLR0913 - its options
    sizes: Annotated[
        list[int] | None, typer.Argument(help="How many live canaries; several one after the other.")
    ] = None,
    *,
    idle: Annotated[int, typer.Option(min=0, help="How many more models that are stable.")] = 0,
    seconds: Annotated[float, typer.Option(min=5, help="How long each is watched at rest.")] = 60.0,
    with_: Annotated[
        list[Kind] | None, typer.Option("--with", help="Which controllers; by default Backstay alone.")
    ] = None,
    docs: Annotated[bool, typer.Option("--docs", help="Put these sizes into docs/scale-benchmark.md.")] = False,
    outages: Annotated[float, typer.Option(min=0, help="Instead: outages of Prometheus of so many seconds.")] = 0.0,
    crowd: Annotated[
        int, typer.Option(min=0, help="Instead: so many that Argo CD delivers fail within 10 s, until all are synced.")
    ] = 0,
    soak: Annotated[float, typer.Option(min=0, help="Instead: rollouts all the time, for so many minutes.")] = 0.0,
) -> None:
    """Measure controllers with many live canaries on this machine, one after the other, each on a fresh cluster."""
    # The cluster is taken down as well when this is ended by a signal.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if outages:
            _show_by("outage", asyncio.run(_outages(outages)))
            return
        if crowd:
            _show_by("crowd", [asyncio.run(delivered.crowd(crowd, _CONSOLE))])
            return
        if soak:
            _show_by("soak", [asyncio.run(growth.soak((sizes or [50])[0], 60 * soak, _CONSOLE))])
            return
        found = []
        command = {report.COMMAND: f'make bench-scale ARGS="{shlex.join(sys.argv[1:])}"'}
        for size in sizes or [50, 200]:
            for kind in with_ or [Kind.BACKSTAY]:
                found.append(command | asyncio.run(_measure(_CONTENDERS[kind](size + idle), size, idle, seconds)))
                _CONSOLE.print(report.table(found))
                if docs:
                    report.publish(found, repository_root() / "docs")
    except PlaygroundError as problem:
        _CONSOLE.print(str(problem), highlight=False)
        raise typer.Exit(1) from problem


def _show_by(name: str, rows: list[dict[str, Any]]) -> None:
    _CONSOLE.print(report.table(rows, title=itemgetter(name), without=(name,)))


if __name__ == "__main__":
    typer.run(bench)
