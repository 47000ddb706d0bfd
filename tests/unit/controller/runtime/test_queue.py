"""The work queue: each key once, one worker a key, nothing lost."""

import asyncio

from backstay.controller.runtime.queue import WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def worked(queue: WorkQueue[str], *, until: int) -> list[str]:
    """Let two workers handle keys until so many were handled."""
    handled: list[str] = []
    done = asyncio.Event()

    async def handle(key: str) -> None:
        handled.append(key)
        if len(handled) >= until:
            done.set()

    workers = [asyncio.create_task(queue.work(handle)) for _ in range(2)]
    await asyncio.wait_for(done.wait(), 5)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return handled


async def test_a_key_added_twice_is_handled_once() -> None:
    queue: WorkQueue[str] = WorkQueue(Clock())
    queue.add("a")
    queue.add("a")
    queue.add("b")
    assert len(queue) == 2
    assert sorted(await worked(queue, until=2)) == ["a", "b"]
    assert len(queue) == 0


async def test_what_is_urgent_does_not_wait_for_workers_that_wait() -> None:
    queue: WorkQueue[str] = WorkQueue(Clock())
    handled: list[str] = []
    stuck, drained = asyncio.Event(), asyncio.Event()

    async def handle(key: str) -> None:
        handled.append(key)
        if key == "fails":
            drained.set()
        else:
            await stuck.wait()

    workers = [asyncio.create_task(queue.work(handle, urgent_only=only)) for only in (False, True)]
    for key in ("slow", "waits"):
        queue.add(key)
    await asyncio.sleep(0)
    queue.add("fails", urgent=True)
    await asyncio.wait_for(drained.wait(), 5)
    assert handled == ["slow", "fails"]
    stuck.set()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def test_a_key_added_while_it_is_handled_is_handled_again_and_never_twice_at_once() -> None:
    queue: WorkQueue[str] = WorkQueue(Clock())
    running = most = count = 0
    done = asyncio.Event()

    async def handle(key: str) -> None:
        nonlocal running, most, count
        running += 1
        most = max(most, running)
        count += 1
        if count < 3:
            queue.add(key)
        else:
            done.set()
        await asyncio.sleep(0)
        running -= 1

    workers = [asyncio.create_task(queue.work(handle)) for _ in range(4)]
    queue.add("a")
    await asyncio.wait_for(done.wait(), 5)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert (count, most) == (3, 1)


async def test_a_delayed_key_waits_for_its_time_and_the_earlier_of_two_counts() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    queue.add_after("a", 50)
    queue.add_after("a", 10)
    queue.add_after("a", 20)
    queue.add("b")
    assert await worked(queue, until=1) == ["b"]
    clock.now = 10
    assert await worked(queue, until=1) == ["a"]


async def test_times_that_earlier_ones_have_replaced_are_not_kept_until_they_come() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    for _ in range(1000):
        for key in "ab":
            queue.add_after(key, 86_400.0)
            queue.add_after(key, 1.0)
        clock.now += 2.0
        assert sorted(await worked(queue, until=2)) == ["a", "b"]
    assert len(queue._delayed) <= 6  # noqa: SLF001 - what memory it takes


def test_failures_wait_longer_each_time_and_success_forgets_them() -> None:
    queue: WorkQueue[str] = WorkQueue(Clock())
    pauses = [queue.retry("a") for _ in range(12)]
    assert pauses[0] < 0.3 < pauses[4] < pauses[7]
    assert max(pauses) <= 39
    queue.succeeded("a")
    assert queue.retry("a") < 0.3


def test_the_age_of_the_oldest_key_is_told() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    assert queue.oldest_age() == 0
    queue.add("a")
    clock.now = 7
    assert queue.oldest_age() == 7


async def test_an_urgent_key_goes_before_all_that_wait_also_when_it_waits_already() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    for key in "abcd":
        queue.add(key)
    clock.now = 3.0
    queue.add("d", urgent=True)
    queue.add("e", urgent=True)
    queue.add("d")
    clock.now = 5.0
    assert (len(queue), queue.oldest_age()) == (5, 5.0)
    assert await worked(queue, until=5) == ["d", "e", "a", "b", "c"]


async def test_what_is_put_first_comes_before_the_others_and_after_what_is_urgent() -> None:
    queue: WorkQueue[str] = WorkQueue(Clock())
    for key in "abcd":
        queue.add(key)
    queue.add("c", urgent=True)
    queue.put_first(["d", "b", "absent"])
    assert await worked(queue, until=4) == ["c", "d", "b", "a"]


async def test_it_is_calm_once_the_urgent_keys_have_been_worked_on() -> None:
    queue: WorkQueue[str] = WorkQueue(Clock())
    gates, order = {"urgent": asyncio.Event(), "other": asyncio.Event()}, list[str]()

    async def handle(key: str) -> None:
        await gates[key].wait()
        order.append(key)

    async def after_calm() -> None:
        await queue.calm(5.0)
        order.append("calm")

    queue.add("urgent", urgent=True)
    queue.add("other")
    workers = [asyncio.create_task(queue.work(handle)) for _ in range(2)]
    waiting = asyncio.create_task(after_calm())
    await asyncio.sleep(0.01)
    # It is worked on now, and asked for again meanwhile.
    queue.add("urgent", urgent=True)
    assert not waiting.done()
    gates["urgent"].set()
    await asyncio.wait_for(waiting, 5)
    assert order == ["urgent", "urgent", "calm"]
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


async def test_an_urgent_key_that_failed_is_still_urgent_when_it_is_tried_again() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    order: list[str] = []

    async def handle(key: str) -> None:
        order.append(key)
        if order == ["drain"]:
            queue.retry(key)

    queue.add("drain", urgent=True)
    worker = asyncio.create_task(queue.work(handle))
    waiting = asyncio.create_task(queue.calm(5.0))
    await asyncio.sleep(0.01)
    assert (order, waiting.done()) == (["drain"], False)
    clock.now = 1.0
    queue.add("other")
    await asyncio.wait_for(waiting, 5)
    assert order[:2] == ["drain", "drain"]
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def test_nobody_waits_for_calm_longer_than_asked() -> None:
    queue: WorkQueue[str] = WorkQueue(Clock())
    queue.add("a", urgent=True)
    await asyncio.wait_for(queue.calm(0.01), 5)
