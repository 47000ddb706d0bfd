"""Markdown tables and the cells that go into them."""

from collections.abc import Iterable, Sequence

from backstay_bench_judge.field import OURS
from backstay_bench_judge.measure import wilson
from backstay_bench_judge.run import MATCHED, OWN, Cell, Results
from backstay_bench_judge.scenarios import Scenario

_NEAR = 0.01


class Book:
    """The results, by scenario, judge and setting."""

    def __init__(self, results: Results) -> None:
        self._cells = {(cell.scenario, cell.judge, cell.setting): cell for cell in results.cells}

    def has(self, scenario: Scenario) -> bool:
        """Tell whether the scenario was run."""
        return any(name == scenario.name for name, _, _ in self._cells)

    def matched(self, scenario: str, judge: str) -> Cell | None:
        """Return a judge's matched cell, or None where no threshold brings it down to Backstay's false rollback."""
        cell, ours = self._cells.get((scenario, judge, MATCHED)), self._cells.get((scenario, OURS, OWN))
        if cell is None or ours is None or cell.false_rate > ours.false_rate + _NEAR:
            return None
        return cell

    def cell(self, scenario: Scenario, judge: str, setting: str) -> Cell | None:
        """Return a cell, or None if it was not run."""
        return self._cells.get((scenario.name, judge, setting))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, its first column left and the others right."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def share(k: int, n: int) -> str:
    """Write a proportion as percent."""
    return f"{100 * k / n:.1f}" if n else "-"


def power(cell: Cell | None) -> str:
    """Write the share rolled back in percent, and the bad answers served on average."""
    return f"{share(cell.rolled_back, cell.runs)} / {amount(cell.bad_mean)}" if cell else ""


def interval(cell: Cell) -> str:
    """Write the share rolled back with Wilson's 95 % interval, in percent."""
    low, high = wilson(cell.rolled_back, cell.runs)
    return f"{share(cell.rolled_back, cell.runs)} ({100 * low:.1f} to {100 * high:.1f})"


def amount(value: float) -> str:
    """Write a number with about three digits."""
    if value >= 1000:  # noqa: PLR2004 - four digits before the point
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"  # noqa: PLR2004 - three digits before the point
