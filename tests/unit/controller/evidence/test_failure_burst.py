"""A burst of failures, whose end is waited for before anything is committed."""

import asyncio

from backstay.controller.evidence.failure_burst import FailureBurst
from backstay.controller.runtime.background import at_once


async def test_who_waits_for_a_crowds_end_waits_for_a_tick_at_which_nobody_fails_and_for_the_drains() -> None:
    now, drained, ended = 100.0, asyncio.Event(), list[float]()

    async def calm(patience: float) -> None:
        assert 0 < patience <= 30
        await drained.wait()

    burst = FailureBurst(lambda: now, calm)

    async def wait() -> None:
        await burst.wait()
        ended.append(now)

    async def tick(at: float, failed: int) -> None:
        burst.count(failed, interval=2.0, tick=at)
        await asyncio.sleep(0)

    await tick(100.0, 2)
    await wait()
    assert ended == [100.0]
    await tick(102.0, 3)
    waiting = asyncio.create_task(wait())
    # Another part of the same tick, a straggler, another interval's tick.
    await tick(102.0, 0)
    await tick(104.0, 1)
    burst.count(0, interval=15.0, tick=105.0)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await tick(106.0, 0)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    drained.set()
    await asyncio.wait_for(waiting, 1.0)


async def test_nobody_waits_for_a_crowds_end_for_longer_than_half_a_minute() -> None:
    now = 100.0
    burst = FailureBurst(lambda: now, at_once)
    burst.count(3, interval=2.0, tick=100.0)
    now = 131.0
    await asyncio.wait_for(burst.wait(), 1.0)
    # What was left of it does not hold up what comes later.
    burst.count(1, interval=2.0, tick=132.0)
    burst.count(3, interval=5.0, tick=132.0)
    burst.count(0, interval=5.0, tick=137.0)
    await asyncio.wait_for(burst.wait(), 1.0)
