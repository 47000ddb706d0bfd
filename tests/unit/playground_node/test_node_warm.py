import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from backstay_playground.node.process import Exited, Launch, Process, Vanished, session
from backstay_playground.node.warm import WarmStart

PATIENTLY = retry(stop=stop_after_delay(10), wait=wait_fixed(0.01), retry=retry_if_exception_type(AssertionError))
# What a container sees of itself, and how it ends: its arguments say so. One that stays is killed by its test.
PROGRAM = """
import json, os, signal, sys, time
json.dump({"argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ), "name": __name__,
           "stdin": sys.stdin.read(), "leader": os.getsid(0) == os.getpid(), "path": sys.path[0],
           "known": "colorsys" in sys.modules,
           "seen": [open(each).read() for each in sys.argv[2:]]}, sys.stdout)
sys.stdout.flush()
match sys.argv[1]:
    case "exit": sys.exit(3)
    case "raise": raise RuntimeError("broken")
    case "killed": os.kill(os.getpid(), signal.SIGKILL)
    case "stays":
        os.fork()
        time.sleep(1000)
"""


@pytest.fixture
def warm() -> Iterator[WarmStart]:
    starter = WarmStart(["colorsys"])
    yield starter
    starter.close()


def launch(folder: Path, *arguments: str, **more: object) -> Launch:
    (folder / "program.py").write_text(PROGRAM)
    argv = [sys.executable, "-m", "program", *arguments]
    return Launch(argv, {"PATH": os.environ["PATH"], "WORD": "one two"}, folder, folder / "logs" / "log", **more)  # type: ignore[arg-type]


@PATIENTLY
def start(warm: WarmStart, wanted: Launch) -> Process:
    process = warm.start(wanted)
    assert process is not None
    return process


@PATIENTLY
def wait_for_processes(process: Process, count: int) -> None:
    assert len(list(session(process.identity))) == count


@pytest.mark.parametrize(("how", "code"), [("ends", 0), ("exit", 3), ("raise", 1), ("killed", 137)])
async def test_a_forked_program_is_what_a_started_one_would_be(
    warm: WarmStart, tmp_path: Path, how: str, code: int
) -> None:
    (tmp_path / "outside").write_text("content")
    mounts = {"/backstay-test/inside": tmp_path / "outside"}
    process = start(warm, launch(tmp_path, how, "/backstay-test/inside", mounts=mounts))
    assert await process.ended() == Exited(code)
    log = (tmp_path / "logs" / "log").read_text()
    seen, end = json.JSONDecoder().raw_decode(log)
    assert seen == {
        "argv": [how, "/backstay-test/inside"],
        "cwd": str(tmp_path),
        "env": {"PATH": os.environ["PATH"], "WORD": "one two"},
        "name": "__main__",
        "stdin": "",
        "leader": True,
        "path": str(tmp_path),
        "known": True,
        "seen": ["content"],
    }
    assert ("RuntimeError: broken" in log[end:]) == (how == "raise")


async def test_a_forked_program_is_ended_with_its_children(warm: WarmStart, tmp_path: Path) -> None:
    process = start(warm, launch(tmp_path, "stays"))
    wait_for_processes(process, 2)
    process.kill()
    assert await process.ended() == Exited(137)
    wait_for_processes(process, 0)


async def test_programs_outlive_the_one_who_forked_them(tmp_path: Path) -> None:
    warm = WarmStart(["colorsys"])
    process = start(warm, launch(tmp_path, "stays"))
    warm.close()
    assert process.identity.pid in session(process.identity)
    process.kill()
    assert await process.ended() == Vanished()


@pytest.mark.parametrize("why", ["no module", "Python's own variables", "commands run beside it"])
async def test_what_cannot_be_forked_is_left_to_a_cold_start(warm: WarmStart, tmp_path: Path, why: str) -> None:
    await start(warm, launch(tmp_path, "ends")).ended()
    wanted = {
        "no module": Launch([sys.executable, "-c", "print()"], {}, tmp_path, tmp_path / "log"),
        "Python's own variables": Launch(
            [sys.executable, "-m", "program"], {"PYTHONPATH": "/"}, tmp_path, tmp_path / "log"
        ),
        "commands run beside it": launch(tmp_path, "ends", entered=True),
    }
    assert warm.start(wanted[why]) is None
