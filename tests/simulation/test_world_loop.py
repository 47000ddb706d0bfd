"""Time in the simulated world: it jumps to what is due, and threads are taken for as long as their work says."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from backstay_world.looptime import NothingLeftError, SimulatedLoop


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    with closing(SimulatedLoop()) as made:
        yield made


def test_an_hour_passes_at_once(loop: SimulatedLoop) -> None:
    loop.run_until_complete(asyncio.sleep(3600.0))
    assert loop.time() == pytest.approx(3600.0, abs=0.001)
    assert loop.turns < 10


def test_a_wait_for_what_never_comes_ends(loop: SimulatedLoop) -> None:
    with pytest.raises(NothingLeftError):
        loop.run_until_complete(loop.create_future())


def test_work_waits_for_a_free_thread(loop: SimulatedLoop) -> None:
    pool, ended = ThreadPoolExecutor(max_workers=2), list[float]()

    async def ask(seconds: float) -> None:
        await loop.run_in_executor(pool, loop.spend, seconds)
        ended.append(round(loop.time(), 3))

    async def crowd() -> None:
        await asyncio.gather(*(ask(10.0) for _ in range(5)))

    loop.run_until_complete(crowd())
    assert ended == [10.0, 10.0, 20.0, 20.0, 30.0]


def test_what_fails_in_a_thread_fails_where_it_is_awaited(loop: SimulatedLoop) -> None:
    def work() -> None:
        loop.spend(5.0)
        raise OSError("no answer")

    async def ask() -> None:
        with pytest.raises(OSError, match="no answer"):
            await loop.run_in_executor(None, work)

    loop.run_until_complete(ask())
    assert loop.time() == pytest.approx(5.0, abs=0.001)
