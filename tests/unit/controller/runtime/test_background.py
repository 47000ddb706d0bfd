"""Work beside the reconciles: one at a time, woken when it ends, paused when it fails, ended with the controller."""

import asyncio

import pytest

from backstay.controller.runtime import background
from backstay.controller.runtime.background import Background
from backstay.domain.resource import Key

KEY, OTHER = Key("prod", "fraud"), Key("prod", "churn")


async def test_one_of_a_name_runs_for_a_key_and_the_key_is_woken_when_it_ends() -> None:
    woken: list[Key] = []
    tasks, done, gate = Background(woken.append), list[str](), asyncio.Event()

    async def work(name: str) -> None:
        await gate.wait()
        done.append(name)

    tasks.start(KEY, "write", lambda: work("first"))
    tasks.start(KEY, "write", lambda: work("second"))
    tasks.start(KEY, "locate", lambda: work("of another name"))
    tasks.start(OTHER, "write", lambda: work("of another key"))
    await asyncio.sleep(0)
    assert tasks.busy(KEY, "write")
    assert woken == []
    gate.set()
    await asyncio.sleep(0.01)
    assert sorted(done) == ["first", "of another key", "of another name"]
    assert sorted(woken) == [OTHER, KEY, KEY]
    assert not tasks.busy(KEY, "write")


async def test_what_has_nothing_new_wakes_nobody() -> None:
    woken: list[Key] = []
    tasks = Background(woken.append)

    async def work(*, found: bool) -> bool:
        return found

    tasks.start(KEY, "locate", lambda: work(found=False))
    tasks.start(OTHER, "locate", lambda: work(found=True))
    await asyncio.sleep(0.01)
    assert (woken, tasks.busy(KEY, "locate")) == ([OTHER], False)


async def test_after_an_unforeseen_failure_the_key_is_woken_only_after_a_pause(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "_PAUSE", 0.05)
    woken: list[Key] = []
    tasks = Background(woken.append)

    async def broken() -> None:
        raise LookupError("nobody thought of this")

    tasks.start(KEY, "recall", broken)
    await asyncio.sleep(0.01)
    assert (woken, tasks.busy(KEY, "recall")) == ([], True)
    await asyncio.sleep(0.08)
    assert (woken, tasks.busy(KEY, "recall")) == ([KEY], False)
    assert "prod/fraud: recall did not end well" in caplog.text


async def test_stopping_ends_what_is_under_way() -> None:
    tasks, ended = Background(lambda _: None), list[bool]()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    tasks.start(KEY, "write", endless)
    await asyncio.sleep(0)
    await tasks.stop()
    assert (ended, tasks.busy(KEY, "write")) == ([True], False)


async def test_work_begins_once_nothing_urgent_is_left() -> None:
    calm, begun = asyncio.Event(), list[str]()

    async def wait_for_calm(patience: float) -> None:
        assert patience > 0
        await calm.wait()

    async def work() -> None:
        begun.append("pushed")

    tasks = Background(lambda _: None, wait_for_calm)
    tasks.start(KEY, "write", work)
    await asyncio.sleep(0.01)
    assert (begun, tasks.busy(KEY, "write")) == ([], True)
    calm.set()
    await asyncio.sleep(0.01)
    assert (begun, tasks.busy(KEY, "write")) == (["pushed"], False)
