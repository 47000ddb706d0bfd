"""Process identity, records, and finding what was left behind."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backstay_playground.processes import (
    MEMBER_VARIABLE,
    Identity,
    Record,
    Records,
    descendants,
    identify,
    is_alive,
    kill,
    members,
    parse_stat,
    spawn,
    terminate,
)

SLEEP = (sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('here', flush=True); time.sleep(60)",
)
PARENT = (
    sys.executable,
    "-c",
    """if True:
        import subprocess, sys, time
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        print("here", flush=True)
        time.sleep(60)
    """,
)

Start = Callable[[tuple[str, ...]], Identity]


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start processes that say when they run; whatever carries the mark of this test is killed at its end."""

    def begin(argv: tuple[str, ...], component: str = "web") -> Identity:
        log = tmp_path / f"{time.monotonic_ns()}.log"
        env = {"PATH": os.environ["PATH"], MEMBER_VARIABLE: f"{tmp_path}:{component}"}
        identity = spawn(argv, env=env, log=log, cwd=tmp_path)
        wait_for(lambda: "here" in log.read_text())
        return identity

    yield begin
    for left in members(tmp_path):
        kill(left)


def test_stat_of_a_command_with_parentheses_and_spaces() -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    assert parse_stat(f"42 (tricky) name (x) S {fields}") == ("S", 22)


def test_a_process_knows_itself() -> None:
    assert identify(os.getpid()).pid == os.getpid()
    assert is_alive(identify(os.getpid()))


@pytest.mark.parametrize(
    "other",
    [{"ticks": 1}, {"boot": "another boot"}],
    ids=["a recycled number", "a number from before the reboot"],
)
def test_a_stranger_with_the_same_number_is_not_ours(other: dict[str, int | str]) -> None:
    assert not is_alive(replace(identify(os.getpid()), **other))  # type: ignore[arg-type] # fields of one of two types


def test_a_stranger_with_the_same_number_is_not_killed(start: Start) -> None:
    ours = start(SLEEP)
    stale = replace(ours, ticks=ours.ticks - 1)
    terminate([stale], grace=0)
    kill(stale)
    assert is_alive(ours)


def test_a_dead_child_is_not_alive_as_a_zombie(start: Start) -> None:
    ours = start(SLEEP)
    kill(ours)
    assert not is_alive(ours)
    with pytest.raises(ProcessLookupError):
        identify(ours.pid)


def test_a_process_that_ignores_the_request_is_killed(start: Start) -> None:
    ours = start(STUBBORN)
    terminate([ours], grace=0.1)
    assert not is_alive(ours)


def test_descendants_are_found_below_a_living_parent(start: Start) -> None:
    parent = start(PARENT)
    found = descendants([parent])
    assert parent in found
    assert len(found) == 2


def test_orphans_are_found_by_their_mark(start: Start, tmp_path: Path) -> None:
    parent = start(PARENT)
    kill(parent)
    orphans = members(tmp_path, "web")
    assert len(orphans) == 1
    assert members(tmp_path, "other") == set()
    assert members(Path(f"{tmp_path}-twin")) == set()
    terminate(orphans, grace=5)
    assert members(tmp_path) == set()


def test_records_survive_and_the_dead_are_told_from_the_living(tmp_path: Path) -> None:
    records = Records(tmp_path)
    ours = identify(os.getpid())
    records.save("living", Record(ours, ("a", "b"), "digest", 1.5))
    records.save("dead", Record(replace(ours, ticks=1), ("c",), "digest", 2.5))
    assert records.load()["living"] == Record(ours, ("a", "b"), "digest", 1.5)
    assert set(records.alive()) == {"living"}
    records.forget("living")
    assert set(records.load()) == {"dead"}


def test_a_record_cut_short_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "etcd.json").write_text('{"identity": {"pid": 1')
    (tmp_path / "old.json").write_text('{"pid": 1}')
    assert Records(tmp_path).load() == {}
