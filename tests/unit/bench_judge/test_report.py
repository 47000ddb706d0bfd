"""The command, the report and the plots on a tiny run."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from backstay_bench_judge.__main__ import application, choose
from backstay_bench_judge.field import OURS
from backstay_bench_judge.plots import draw
from backstay_bench_judge.report import write
from backstay_bench_judge.run import MATCHED, OWN, Cell, Results, groups, run
from backstay_bench_judge.scenarios import CENTRE, central, families, grid


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(application(), list(arguments))
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def results() -> Results:
    return Results("make bench-judge", 6, 1, run(central(), seed=1, runs=6))


def test_scenarios_of_one_harmless_version_are_run_together() -> None:
    assert [len(group) for group in groups([*central(), *families()])] == [6, 3]


def test_the_same_seed_gives_the_same_cells_whatever_runs_beside(results: Results) -> None:
    alone = run([CENTRE], seed=1, runs=6)
    assert set(alone) <= set(results.cells)


def test_matched_judges_roll_back_as_often_as_backstay(results: Results) -> None:
    rates = {cell.false_rate for cell in results.cells if cell.setting == "matched" and cell.judge == "Peeking z"}
    ours = {cell.false_rate for cell in results.cells if cell.setting == "own" and cell.judge == "Backstay"}
    assert rates == ours


def test_the_report_says_what_made_it_and_the_same_results_give_the_same_files(
    results: Results, tmp_path: Path
) -> None:
    for folder in ("first", "second"):
        write(results, tmp_path / folder / "judge-benchmark.md", draw(results, tmp_path / folder / "images"))
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).rglob("*.*")} for folder in ("first", "second")
    )
    assert first == second
    assert "judge-central.svg" in first
    text = first["judge-benchmark.md"].decode()
    assert "make bench-judge\n" in text
    assert "6 rollouts of each scenario, seed 1" in text
    assert "| **Backstay** |" in text
    assert "](images/judge-central.svg)" in text


def test_the_grid_is_told_and_drawn(tmp_path: Path) -> None:
    cells = tuple(
        Cell(scenario.name, name, setting, 9, 3, 4, bad, 20.0, 5.0, 9.0, 0.02, fewer, 0.1)
        for scenario in grid()
        for name, setting, bad, fewer in (
            (OURS, OWN, 10.0, 0.0),
            ("mSPRT", MATCHED, 9.0, 1.0),
            ("Kayenta", MATCHED, 8.0, -5.0),
        )
    )
    unmatched = (
        Cell(scenario.name, "Peeking z", MATCHED, 9, 3, 4, 1.0, 2.0, 1.0, 1.0, 0.9, 9.0, 0.1) for scenario in grid()
    )
    cells = (*cells, *unmatched)
    results = Results("make bench-judge", 9, 1, cells)
    pictures = draw(results, tmp_path / "images")
    write(results, tmp_path / "report.md", pictures)
    text = (tmp_path / "report.md").read_text()
    assert pictures["grid"] == "judge-grid.svg"
    assert "| 0.05/s, 0.1 %, 1 % | 33.3 (12.1 to 64.6) | 33.3 / 10.0 | 22.2 | Kayenta: 33.3 / 8.0 |" in text
    assert f"| mSPRT | {len(grid())} of {len(grid())} | 0 |" in text
    assert f"| Peeking z | 0 of 0 | {len(grid())} |" in text
    assert f"| Kayenta | 0 of {len(grid())} | 0 |" in text


def test_kept_results_are_read_back(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results


def test_parts_and_patterns_choose_scenarios() -> None:
    assert choose(["central"]) == central()
    assert {scenario.traffic for scenario in choose(["count, 200/s*"])} == {200.0}
    assert len(choose([])) > len(grid())


def test_help_teaches_and_list_lists() -> None:
    code, output = invoke("--help")
    assert code == 0
    assert "--only" in output
    code, output = invoke("--list", "--only", "family")
    assert code == 0
    assert "family, 2/s, base 1%, share 10%, x1" in output
    assert "Kayenta" in output


def test_an_unknown_part_is_refused_with_what_there_is() -> None:
    code, output = invoke("--only", "nonsense")
    assert code == typer.Exit(2).exit_code
    assert "--list" in output
