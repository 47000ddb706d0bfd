import sys
from pathlib import Path

import psutil
import pytest

from backstay.adapters.gitops.limited import Ended, Exceeded, Limits, run

MIB = 1024 * 1024
LIMITS = Limits(memory=256 * MIB, processor_seconds=1, seconds=20.0, output=MIB)


def python(program: str, folder: Path, limits: Limits = LIMITS) -> Ended | Exceeded:
    return run([sys.executable, "-S", "-c", program], environment={"A": "b"}, folder=folder, limits=limits)


def test_a_program_ends_with_what_it_wrote_and_its_status(tmp_path: Path) -> None:
    program = "import os, sys; print(os.getcwd(), os.environ['A']); print('no', file=sys.stderr); sys.exit(3)"
    assert python(program, tmp_path) == Ended(3, f"{tmp_path} b\n".encode(), b"no\n")


def test_a_program_has_no_input_and_none_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "ours")
    program = "import os, sys; print(sys.stdin.read() + str(os.environ.get('SECRET')))"
    assert python(program, tmp_path) == Ended(0, b"None\n", b"")


def test_a_program_that_wants_more_memory_does_not_get_it(tmp_path: Path) -> None:
    ended = python(f"bytearray({512 * MIB})", tmp_path)
    assert isinstance(ended, Ended)
    assert (ended.status, b"MemoryError" in ended.error) == (1, True)
    assert python(f"bytearray({64 * MIB})", tmp_path) == Ended(0, b"", b"")


def test_a_program_that_computes_without_end_is_killed(tmp_path: Path) -> None:
    assert python("while True: pass", tmp_path) == Ended(-9, b"", b"")


@pytest.mark.parametrize(
    "program",
    [
        "import time; time.sleep(60)",
        "import os, time; os.close(1); os.close(2); time.sleep(60)",
        "import os, time; os.fork() or time.sleep(60); print('the first one ends')",
    ],
)
def test_a_program_that_takes_too_long_is_killed_with_what_it_started(tmp_path: Path, program: str) -> None:
    limits = Limits(LIMITS.memory, LIMITS.processor_seconds, 0.5, LIMITS.output)
    assert python(f"{program} # {tmp_path}", tmp_path, limits) is Exceeded.TIME
    left = [each for each in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(each.info["cmdline"] or ())]
    assert psutil.wait_procs(left, timeout=10)[1] == []


def test_a_program_that_writes_too_much_is_killed(tmp_path: Path) -> None:
    assert python("while True: print(1000 * 'x')", tmp_path) is Exceeded.OUTPUT


def test_of_a_long_error_the_beginning_is_kept(tmp_path: Path) -> None:
    ended = python("import sys; sys.stderr.write('begin' + 1000_000 * 'x')", tmp_path)
    assert isinstance(ended, Ended)
    assert ended.error == (b"begin" + 100_000 * b"x")[:65_536]


def test_a_program_writes_no_files(tmp_path: Path) -> None:
    program = (
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); open('file', 'wb', buffering=0).write(b'x')"
    )
    ended = python(program, tmp_path)
    assert isinstance(ended, Ended)
    assert (ended.status, b"File too large" in ended.error) == (1, True)
    assert (tmp_path / "file").read_bytes() == b""


def test_a_program_that_is_not_there_ends_with_a_status(tmp_path: Path) -> None:
    ended = run([str(tmp_path / "absent")], environment={}, folder=tmp_path, limits=LIMITS)
    assert isinstance(ended, Ended)
    assert ended.status == 127
