import asyncio
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest

from backstay_playground.node.actions import Failed, Outcome, Passed
from backstay_playground.node.probes import EAGER_SECONDS, Timing, liveness, readiness, started

FAST = Timing(initial_delay=0, period=0, timeout=1, success_threshold=1, failure_threshold=2)


class Script:
    """A check that gives prepared outcomes, `+` or `-`, and then hangs; `done` is set when it does."""

    def __init__(self, outcomes: str) -> None:
        self.outcomes = outcomes
        self.count = 0
        self.done = asyncio.Event()

    async def __call__(self) -> Outcome:
        if self.count == len(self.outcomes):
            self.done.set()
            await asyncio.Event().wait()
        self.count += 1
        return Passed() if self.outcomes[self.count - 1] == "+" else Failed("no")


async def verdicts(timing: Timing, outcomes: str, *, ready: bool = False) -> str:
    """Return the verdict after each check, `+` ready or `-` not."""
    script = Script(outcomes)
    changes: dict[int, str] = {}

    async def follow() -> None:
        async for outcome in readiness(timing, script, ready=ready):
            changes[script.count] = "+" if isinstance(outcome, Passed) else "-"

    task = asyncio.create_task(follow())
    await script.done.wait()
    task.cancel()
    verdict, history = "+" if ready else "-", ""
    for count in range(1, len(outcomes) + 1):
        verdict = changes.get(count, verdict)
        history += verdict
    return history


async def test_readiness_needs_failures_in_a_row_to_end() -> None:
    assert await verdicts(FAST, "--+-+--+") == "--++++-+"


async def test_readiness_needs_successes_in_a_row_to_begin() -> None:
    timing = Timing(initial_delay=0, period=0, timeout=1, success_threshold=2, failure_threshold=1)
    assert await verdicts(timing, "+-++-+") == "---+--"


async def test_readiness_that_was_reported_holds_until_a_probe_objects() -> None:
    assert await verdicts(FAST, "-+--", ready=True) == "+++-"


async def test_liveness_ends_after_failures_in_a_row() -> None:
    script = Script("+-+--+")
    assert await liveness(FAST, script) == Failed("no")
    assert script.count == 5


class Clock(asyncio.SelectorEventLoop):
    """An event loop in which sleeping costs no time: its clock jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, *args: Any, **more: Any) -> asyncio.TimerHandle:  # type: ignore[override]  # looser
        self.now = max(self.now, when)
        return super().call_at(when, *args, **more)


def startup(timing: Timing, outcomes: Sequence[Outcome]) -> tuple[float, Outcome]:
    """Return the seconds that a startup probe takes, and its result."""
    left = iter(outcomes)

    async def check() -> Outcome:
        return next(left)

    with closing(Clock()) as loop:
        outcome = loop.run_until_complete(started(timing, check))
        return loop.time(), outcome


def test_startup_is_noticed_at_once_and_given_up_after_all_periods() -> None:
    timing = Timing(initial_delay=2, period=10, timeout=1, success_threshold=1, failure_threshold=3)
    seconds, outcome = startup(timing, [Failed("no"), Failed("no"), Passed()])
    assert outcome == Passed()
    assert seconds == pytest.approx(2 + 2 * EAGER_SECONDS)
    seconds, outcome = startup(timing, [Failed("no")] * 1000)
    assert outcome == Failed("no")
    assert seconds == pytest.approx(32, abs=EAGER_SECONDS)
