"""Rollouts all the time, for a long time: does the controller grow?"""

import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from backstay_bench_scale.contender import NEW, OLD
from backstay_bench_scale.ours import METRICS, Backstay
from backstay_bench_scale.scene import Scene, scene
from backstay_playground.demo.controller import read_metrics

# How long it may grow: caches fill, and the allocator finds its size.
_SETTLED = 600.0
_SAMPLE_EVERY = 15.0
# How many samples at either end are compared.
_COMPARED = 20
_LOOK_EVERY = 0.5
_ROLLOUTS = "backstay_rollouts_total"


@dataclass(frozen=True, slots=True)
class Sample:
    """The controller at one time: seconds from the start, resident memory in MiB, descriptors, tasks."""

    at: float
    memory: float
    descriptors: int
    tasks: int


async def soak(models: int, seconds: float, console: Console) -> dict[str, Any]:
    """Roll out one version after the other of every model, and watch the controller.

    Returns:
        Figures to print: rollouts, and memory, descriptors and tasks after ten minutes and at the end, each the median
        of five minutes.
    """
    with tempfile.TemporaryDirectory(prefix="backstay-scale-") as place:
        contender = Backstay(models, brisk=True)
        async with scene(contender, Path(place)) as found:
            await found.add(range(models))
            mover = asyncio.create_task(_move(found, contender, models))
            try:
                samples = await _watch(found, seconds, console)
                rollouts = await _rollouts()
            finally:
                mover.cancel()
                await asyncio.gather(mover, return_exceptions=True)
    settled = [one for one in samples if one.at >= min(_SETTLED, seconds / 3)]
    before, after = settled[:_COMPARED], settled[-_COMPARED:]
    figures: dict[str, Any] = {"soak": f"{models} models, {seconds / 60:g} minutes", "rollouts": rollouts}
    for what in ("memory", "descriptors", "tasks"):
        first, last = (statistics.median(getattr(one, what) for one in part) for part in (before, after))
        figures[what] = f"{first:.1f} -> {last:.1f} ({100 * (last / first - 1):+.1f} %)"
    return figures


async def _move(found: Scene, contender: Backstay, models: int) -> None:
    """Give each model the other version as soon as one serves."""
    asked: dict[int, str] = {}
    while True:
        for number in range(models):
            version = contender.serves(found.stores, number)
            if version and asked.get(number, version) == version:
                asked[number] = OLD if version == NEW else NEW
                await found.api.patch(*contender.bump(number, asked[number]))
        await asyncio.sleep(_LOOK_EVERY)


async def _watch(found: Scene, seconds: float, console: Console) -> list[Sample]:
    begun, samples = time.monotonic(), list[Sample]()
    while (at := time.monotonic() - begun) < seconds:
        tasks = round((await asyncio.to_thread(read_metrics, METRICS))["backstay_tasks", ()])
        samples.append(Sample(at, found.controller.memory(), found.controller.descriptors(), tasks))
        console.print(f"  {samples[-1]}", highlight=False)
        await asyncio.sleep(_SAMPLE_EVERY)
    return samples


async def _rollouts() -> dict[str, float]:
    read = await asyncio.to_thread(read_metrics, METRICS)
    return {dict(labels)["outcome"]: count for (name, labels), count in read.items() if name == _ROLLOUTS}
