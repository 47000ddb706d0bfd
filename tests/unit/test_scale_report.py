"""What `make bench-scale --docs` publishes."""

from pathlib import Path
from typing import Any

import pytest

from backstay_bench_scale import report


def _row(controller: str, live: int, idle: int = 0, *, memory: float, command: str = "first") -> dict[str, Any]:
    return {
        report.COMMAND: command,
        report.CONTENDER: controller,
        report.LIVE: live,
        report.IDLE: idle,
        "memory, MiB": memory,
        "bad answer -> 0, s": [0.1, 0.25, 1200.0],
    }


@pytest.fixture
def page(tmp_path: Path) -> Path:
    report.publish([_row("Ours", 50, memory=1), _row("Theirs", 50, memory=2)], tmp_path)
    return tmp_path / "scale-benchmark.md"


def test_sizes_stand_one_below_the_other_each_with_its_command(page: Path) -> None:
    report.publish([_row("Ours", 500, 9500, memory=3, command="second")], page.parent)
    report.publish([_row("Ours", 200, memory=4, command="third")], page.parent)
    told = page.read_text()
    assert [line for line in told.splitlines() if line.startswith("## ")] == [
        "## 50 live",
        "## 200 live",
        "## 500 live, 9,500 more stable",
    ]
    assert told.count("```sh\nsecond\n```") == 1
    assert "|  | Ours | Theirs |\n|---|---:|---:|\n| memory, MiB | 1 | 2 |\n" in told
    assert "| bad answer -> 0, s | 0.1 / 0.25 / 1,200.0 |" in told


def test_a_size_measured_again_replaces_every_column_of_that_size(page: Path) -> None:
    report.publish([_row("Ours", 50, memory=5, command="again")], page.parent)
    told = page.read_text()
    assert "| memory, MiB | 5 |\n" in told
    assert "Theirs" not in told
    assert "first" not in told


def test_the_plot_holds_what_was_measured_without_idle_models(page: Path) -> None:
    drawn = (page.parent / "images" / "scale.svg").read_bytes()
    report.publish([_row("Ours", 500, 9500, memory=3)], page.parent)
    assert (page.parent / "images" / "scale.svg").read_bytes() == drawn
