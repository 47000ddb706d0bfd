"""When to probe, and what a series of outcomes means."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from backstay_playground.node.actions import Failed, Outcome, Passed
from backstay_playground.node.api import Json

Check = Callable[[], Awaitable[Outcome]]

# Until a container is ready for the first time it is asked this often, whatever its period: a start is not slowed down.
EAGER_SECONDS = 0.15


@dataclass(frozen=True)
class Timing:
    """A probe's numbers; times in seconds, thresholds in outcomes in a row."""

    initial_delay: float
    period: float
    timeout: float
    success_threshold: int
    failure_threshold: int

    @classmethod
    def of(cls, probe: Json) -> Self:
        """Read them from a pod's probe, with the defaults of Kubernetes."""
        return cls(
            initial_delay=probe.get("initialDelaySeconds", 0),
            period=probe.get("periodSeconds", 10),
            timeout=probe.get("timeoutSeconds", 1),
            success_threshold=probe.get("successThreshold", 1),
            failure_threshold=probe.get("failureThreshold", 3),
        )


async def started(timing: Timing, check: Check) -> Outcome:
    """Probe until the first success, or until a container that probes once a period would have used up its failures."""
    await asyncio.sleep(timing.initial_delay)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timing.period * timing.failure_threshold
    while True:
        outcome = await check()
        if isinstance(outcome, Passed) or loop.time() >= deadline:
            return outcome
        await asyncio.sleep(min(timing.period, EAGER_SECONDS))


async def readiness(timing: Timing, check: Check, *, ready: bool) -> AsyncIterator[Outcome]:
    """Yield an outcome whenever the verdict changes; `ready` is the verdict so far."""
    await asyncio.sleep(0 if ready else timing.initial_delay)
    was_ready, streak = ready, 0
    while True:
        outcome = await check()
        contrary = isinstance(outcome, Passed) != ready
        streak = streak + 1 if contrary else 0
        if streak >= (timing.failure_threshold if ready else timing.success_threshold):
            ready, streak = not ready, 0
            was_ready = True
            yield outcome
        await asyncio.sleep(timing.period if was_ready else min(timing.period, EAGER_SECONDS))


async def liveness(timing: Timing, check: Check) -> Failed:
    """Return the last failure once there were too many in a row."""
    await asyncio.sleep(timing.initial_delay)
    failures = 0
    while True:
        outcome = await check()
        match outcome:
            case Passed():
                failures = 0
            case Failed():
                failures += 1
                if failures >= timing.failure_threshold:
                    return outcome
        await asyncio.sleep(timing.period)
