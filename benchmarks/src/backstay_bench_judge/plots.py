"""The report's plots: SVG without dates or random ids, so that the same numbers give the same files."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from backstay_bench_judge import scenarios as grid
from backstay_bench_judge.field import JUDGES, OURS
from backstay_bench_judge.measure import floor, wilson
from backstay_bench_judge.run import ALPHA, MATCHED, OWN, Results
from backstay_bench_judge.scenarios import CENTRE, Kind, Scenario
from backstay_bench_judge.tables import Book

_COLOURS = mpl.colormaps["tab20"].colors  # type: ignore[attr-defined]  # listed colour maps have them
_DARK = "#202020"
_LEAST_RATIO = 0.01


def draw(results: Results, folder: Path) -> dict[str, str]:
    """Draw what the results allow; return the files' names by what they show."""
    book = Book(results)
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    with mpl.rc_context(
        {"svg.hashsalt": "backstay", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        for name, make in (("central", _central), ("nuisances", _nuisances), ("grid", _grid)):
            figure = make(book)
            if figure is not None:
                found[name] = f"judge-{name}.svg"
                figure.savefig(folder / found[name], metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    return found


def _colour(name: str) -> object:
    names = [judge.name for judge in JUDGES]
    return _DARK if name == OURS else _COLOURS[names.index(name) % len(_COLOURS)]


def _names() -> list[str]:
    return [judge.name for judge in JUDGES if Kind.COUNT in judge.kinds]


def _central(book: Book) -> Figure | None:
    """Each judge as configured: how often it errs against how much it lets through."""
    cells = [scenario for scenario in grid.central() if scenario.effect in (1.5, 2.0, 5.0)]
    if not all(book.has(scenario) for scenario in cells):
        return None
    figure = Figure(figsize=(10, 3.6))
    for axes, scenario in zip(figure.subplots(1, len(cells)), cells, strict=True):
        _tradeoff(axes, book, scenario)
    figure.axes[0].set_ylabel("bad answers served, mean of all runs")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=4, frameon=False, fontsize=8)
    figure.tight_layout()
    return figure


def _tradeoff(axes: Axes, book: Book, scenario: Scenario) -> None:
    for name in _names():
        cell = book.cell(scenario, name, OWN)
        if cell is not None:
            marker = "*" if name == OURS else "o"
            size = 130 if name == OURS else 40
            axes.scatter(100 * cell.false_rate, cell.bad_mean, label=name, color=_colour(name), marker=marker, s=size)
    axes.axhline(floor(scenario.shares[0], scenario.effect), color="grey", linestyle=":", linewidth=1)
    axes.axvline(100 * ALPHA, color="grey", linewidth=0.5)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(-0.1, 130)
    axes.set_xticks([0, 1, 5, 20, 100], ["0", "1", "5", "20", "100"])
    axes.set_ylim(bottom=0)
    axes.set_title(f"errors x{scenario.effect:g}")
    axes.set_xlabel("harmless versions rolled back, %")


def _nuisances(book: Book) -> Figure | None:
    """False rollback of each judge under each nuisance."""
    cells = [CENTRE, *(scenario for scenario in grid.nuisances() if scenario.harmless)]
    if not all(book.has(scenario) for scenario in cells):
        return None
    figure = Figure(figsize=(9, 5.5))
    axes = figure.subplots()
    places = np.arange(len(cells))
    shown = [
        OURS,
        "Backstay, bursts learnt",
        "Backstay, pods allowed for",
        "Argo, 3 in a row",
        "Kayenta",
        "Peeking z",
        "mSPRT",
    ]
    for offset, name in enumerate([*shown, "O'Brien-Fleming, 12 looks"]):
        found = [book.cell(scenario, name, OWN) for scenario in cells]
        rates = [100 * cell.rolled_back / cell.runs if cell else np.nan for cell in found]
        spans = [wilson(cell.rolled_back, cell.runs) if cell else (np.nan, np.nan) for cell in found]
        errors = np.abs(100 * np.array(spans).T - np.array(rates))
        axes.errorbar(
            rates, places + 0.1 * (offset - 3), xerr=errors, fmt="o", markersize=3, label=name, color=_colour(name)
        )
    axes.axvline(100 * ALPHA, color="grey", linewidth=0.5)
    axes.set_xscale("symlog", linthresh=5)
    axes.set_xlim(-0.3, 110)
    axes.set_xticks([0, 1, 2, 5, 10, 20, 50, 100], ["0", "1", "2", "5", "10", "20", "50", "100"])
    axes.set_yticks(places, [scenario.nuisance.name or "nothing" for scenario in cells])
    axes.invert_yaxis()
    axes.set_xlabel("harmless versions rolled back, % (95 % interval)")
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.1), ncols=4)
    figure.tight_layout()
    return figure


def _grid(book: Book) -> Figure | None:
    """Bad answers of each judge at Backstay's false rollback, relative to Backstay's, at 10 % and twice the errors."""
    cells = [s for s in grid.grid() if s.effect == grid.TWICE and s.shares == CENTRE.shares]
    if not all(book.has(scenario) for scenario in cells):
        return None
    names = [name for name in _names() if book.cell(cells[0], name, MATCHED) and not name.startswith(OURS)]
    ratios = np.full((len(names), len(cells)), np.nan)
    for row, name in enumerate(names):
        for column, scenario in enumerate(cells):
            ours, theirs = book.cell(scenario, OURS, OWN), book.matched(scenario.name, name)
            if ours and theirs and ours.bad_mean > 0:
                ratios[row, column] = theirs.bad_mean / ours.bad_mean
    figure = Figure(figsize=(10, 4))
    axes = figure.subplots()
    image = axes.imshow(np.log2(np.maximum(ratios, _LEAST_RATIO)), cmap="RdBu", vmin=-1.5, vmax=1.5, aspect="auto")
    for (row, column), ratio in np.ndenumerate(ratios):
        strong = abs(np.log2(max(ratio, _LEAST_RATIO))) > 1
        told = "-" if np.isnan(ratio) else f"{ratio:.2f}"
        axes.text(column, row, told, ha="center", va="center", fontsize=7, color="white" if strong else "black")
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(range(len(cells)), [f"{s.traffic:g}/s\n{s.base * 100:g} %" for s in cells], fontsize=7)
    axes.set_title(
        "bad answers relative to Backstay's (above 1: Backstay serves fewer), matched, share 10 %, errors x2"
    )
    figure.colorbar(image).set_ticks([-1, 0, 1], labels=["0.5", "1", "2"])
    figure.tight_layout()
    return figure
