import asyncio
from collections.abc import Iterable, Iterator

from backstay_playground.node.actions import Failed, Outcome, Passed
from backstay_playground.node.probes import EAGER_SECONDS, Check, Timing, liveness, readiness, started

FAST = Timing(initial_delay=0, period=0, timeout=1, success_threshold=1, failure_threshold=2)


class Script:
    """A check that gives prepared outcomes, `+` or `-`, and stays at the last one; it counts how often it ran."""

    def __init__(self, outcomes: str) -> None:
        self.left: Iterator[str] = iter(outcomes)
        self.last = ""
        self.count = 0

    async def __call__(self) -> Outcome:
        await asyncio.sleep(0)
        self.count += 1
        self.last = next(self.left, self.last)
        return Passed() if self.last == "+" else Failed("no")


async def verdicts(timing: Timing, outcomes: str, *, ready: bool = False) -> str:
    """Return the verdict after each check, `+` ready or `-` not."""
    script = Script(outcomes)
    seen: list[tuple[int, str]] = []

    async def follow() -> None:
        async for outcome in readiness(timing, script, ready=ready):
            seen.append((script.count, "+" if isinstance(outcome, Passed) else "-"))

    task = asyncio.create_task(follow())
    while script.count < len(outcomes) + 1:
        await asyncio.sleep(0)
    task.cancel()
    changes = dict(seen)
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


def elapsed(timing: Timing, outcomes: Iterable[Outcome]) -> tuple[float, Outcome]:
    """Return the loop's time that a startup probe takes, with sleeps that cost nothing."""
    loop = asyncio.new_event_loop()
    left = iter(outcomes)
    shift = 0.0
    clock = loop.time

    async def check() -> Outcome:
        return next(left)

    def time() -> float:
        return clock() + shift

    def later(delay: float, *args: object, **more: object) -> asyncio.TimerHandle:
        nonlocal shift
        shift += delay
        return call_at(time(), *args, **more)  # type: ignore[arg-type]

    call_at = loop.call_at
    loop.time = time  # type: ignore[method-assign]
    loop.call_later = later  # type: ignore[assignment, method-assign]
    try:
        outcome = loop.run_until_complete(started(timing, _plain(check)))
    finally:
        loop.close()
    return shift, outcome


def _plain(check: Check) -> Check:
    return check


def test_startup_is_noticed_at_once_and_given_up_after_all_periods() -> None:
    timing = Timing(initial_delay=2, period=10, timeout=1, success_threshold=1, failure_threshold=3)
    seconds, outcome = elapsed(timing, [Failed("no"), Failed("no"), Passed()])
    assert outcome == Passed()
    assert abs(seconds - (2 + 2 * EAGER_SECONDS)) < 0.01
    seconds, outcome = elapsed(timing, [Failed("no")] * 1000)
    assert outcome == Failed("no")
    assert 32 <= seconds <= 32.5
