"""docs/scale-benchmark.md and its plot, from the rows in docs/scale-benchmark.json alone."""

import itertools
import json
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
from matplotlib.figure import Figure
from rich.table import Table

Row: TypeAlias = Mapping[str, Any]
"""What was measured of one controller at one size; a list is a minimum, a median and a maximum."""

CONTENDER, LIVE, IDLE, COMMAND = "controller", "live canaries", "idle models", "command"
_HEADING = (CONTENDER, LIVE, IDLE, COMMAND)
_PLOTTED = (
    "memory, MiB",
    "CPU s/min",
    "queries/min",
    "API requests/min",
    "live after, s",
    "bad answer -> 0, s",
)


def heading(row: Row) -> str:
    """Name a row in few words."""
    idle = f" + {row[IDLE]:,} idle" if row.get(IDLE) else ""
    return f"{row[CONTENDER]}, {row[LIVE]:,}{idle}"


def spread(values: Collection[float]) -> list[float]:
    """Return what a row says of several values."""
    return [round(of(values), 2) for of in (min, statistics.median, max)]


def table(rows: Sequence[Row], title: Callable[[Row], str] = heading, without: Collection[str] = _HEADING) -> Table:
    """Return the rows as columns, for a terminal: what their titles say is left out below."""
    found = Table("", *(title(row) for row in rows))
    for what in _names(rows, without):
        found.add_row(what, *(_text(row.get(what)) for row in rows))
    return found


def publish(rows: Sequence[Row], folder: Path) -> None:
    """Add rows to those that were published before, and write the page and the plot of all of them.

    Rows of the same size are replaced, all of them: what stands side by side was measured in one run.

    Args:
        rows: what one run measured.
        folder: the documentation's.
    """
    data = folder / "scale-benchmark.json"
    before = json.loads(data.read_text(encoding="utf-8")) if data.exists() else []
    measured = {_size(row) for row in rows}
    every = sorted([*(row for row in before if _size(row) not in measured), *rows], key=_size)
    data.write_text(json.dumps(every, indent=2) + "\n", encoding="utf-8")
    page = [
        "# Scale, measured\n",
        "[Scale](scale.md) says what is measured, and how. Three numbers are a minimum, a median and a maximum.\n",
        "![Each figure against the number of live canaries](images/scale.svg)",
    ]
    for size, group in itertools.groupby(every, key=_size):
        page += _section(*size, list(group))
    (folder / "scale-benchmark.md").write_text("\n".join(page) + "\n", encoding="utf-8")
    _draw([row for row in every if not row[IDLE]], folder / "images" / "scale.svg")


def _size(row: Row) -> tuple[int, int]:
    return row[IDLE], row[LIVE]


def _section(idle: int, live: int, rows: Sequence[Row]) -> list[str]:
    stable = f", {idle:,} more stable" if idle else ""
    return [
        f"\n## {live:,} live{stable}\n",
        f"```sh\n{rows[0][COMMAND]}\n```\n",
        "| " + " | ".join(["", *(row[CONTENDER] for row in rows)]) + " |",
        "|---|" + "---:|" * len(rows),
        *("| " + " | ".join([what, *(_text(row.get(what)) for row in rows)]) + " |" for what in _names(rows, _HEADING)),
    ]


def _names(rows: Iterable[Row], without: Collection[str]) -> list[str]:
    return [what for what in dict.fromkeys(what for row in rows for what in row) if what not in without]


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case [*several]:
            return " / ".join(f"{one:,}" for one in several)
        case float() | int():
            return f"{value:,}"
        case _:
            return str(value)


def _draw(rows: Sequence[Row], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(
        {"svg.hashsalt": "backstay", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(10, 5))
        for axes, what in zip(figure.subplots(2, 3).flat, _PLOTTED, strict=True):
            for name in dict.fromkeys(row[CONTENDER] for row in rows):
                points = sorted((row[LIVE], row[what]) for row in rows if row[CONTENDER] == name and what in row)
                middles = [value[1] if isinstance(value, list) else value for _, value in points]
                (line,) = axes.plot([live for live, _ in points], middles, marker="o", label=name)
                if points and isinstance(points[0][1], list):
                    lows, highs = ([value[end] for _, value in points] for end in (0, 2))
                    axes.fill_between([live for live, _ in points], lows, highs, alpha=0.15, color=line.get_color())
                    axes.set_yscale("log")
            axes.set_title(what)
            axes.set_xlabel(LIVE)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=3, frameon=False)
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None, "Creator": None}, bbox_inches="tight")
