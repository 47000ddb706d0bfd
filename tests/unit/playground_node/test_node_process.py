import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from backstay_playground.node.agent import ledger_folder
from backstay_playground.node.process import (
    Exited,
    Launch,
    Ledger,
    Owner,
    Process,
    Vanished,
    adopt,
    kill_session,
    session,
    start,
)
from backstay_playground.node.reap import reap
from backstay_playground.processes import Identity, identify

OWNER = Owner("uid", "n", "p", "c")


def launch(folder: Path, script: str) -> Launch:
    return Launch(["sh", "-c", script], {"PATH": os.environ["PATH"]}, folder, folder / "logs" / "log")


async def until(look: Callable[[], bool]) -> None:
    """Wait until `look` is true, for at most ten seconds."""
    patience = AsyncRetrying(
        stop=stop_after_delay(10), wait=wait_fixed(0.01), retry=retry_if_exception_type(AssertionError), reraise=True
    )
    async for attempt in patience:
        with attempt:
            assert look()


async def running(folder: Path, script: str) -> Process:
    """Start a script and wait for its first line of output."""
    process = start(launch(folder, script))
    await until(lambda: bool((folder / "logs" / "log").read_text()))
    return process


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    yield child
    child.kill()
    child.wait()


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill $$", 143)])
async def test_how_a_process_ended(tmp_path: Path, script: str, code: int) -> None:
    assert await start(launch(tmp_path, script)).ended() == Exited(code)


async def test_a_process_is_asked_and_then_killed_with_its_children(tmp_path: Path) -> None:
    process = await running(tmp_path, "trap '' TERM; sleep 1000 & echo up; wait; wait")
    assert len(list(session(process.identity))) == 2
    process.terminate()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await process.ended()
    process.kill()
    assert await process.ended() == Exited(137)
    await until(lambda: not list(session(process.identity)))
    process.terminate()
    process.kill()


async def test_an_adopted_process_is_watched_but_its_exit_code_is_unknown(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identify(sleeper.pid)
    adopted = adopt(identity)
    adopted.terminate()
    assert await adopted.ended() == Vanished()
    sleeper.wait()
    with pytest.raises(ProcessLookupError):
        adopt(identity)


async def test_a_stranger_with_the_same_number_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    true = identify(sleeper.pid)
    false = Identity(true.pid, true.boot, true.ticks - 1)
    with pytest.raises(ProcessLookupError):
        adopt(false)
    kill_session(false)
    assert sleeper.poll() is None
    kill_session(true)
    assert sleeper.wait() == -9


def test_the_ledger_survives_and_skips_what_is_damaged(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.load() == {}
    ledger.save(OWNER, Identity(1, "boot", 2))
    (tmp_path / "cut.json").write_text('{"owner":')
    assert Ledger(tmp_path).load() == {OWNER: Identity(1, "boot", 2)}
    ledger.forget(OWNER)
    ledger.forget(OWNER)
    assert ledger.load() == {}


def test_reap_ends_what_is_recorded(tmp_path: Path) -> None:
    stubborn = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    Ledger(ledger_folder(tmp_path)).save(OWNER, identify(stubborn.pid))
    assert reap(tmp_path, grace=0.05) == 1
    assert stubborn.wait() == -9
    stubborn.stdout.close()
    assert reap(tmp_path) == 0
