"""docs/judge-benchmark.md, from the results alone."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from backstay_bench_judge import scenarios as grid
from backstay_bench_judge.field import JUDGES, OURS
from backstay_bench_judge.measure import floor, wilson
from backstay_bench_judge.run import ALPHA, AT_ALPHA, MATCHED, OWN, Cell, Results
from backstay_bench_judge.scenarios import CENTRE, Kind, Scenario
from backstay_bench_judge.tables import Book, amount, interval, share, table

_CLEAR = 2.0
_HEAD = """# The judge, measured

<!-- Written by the command below; edit benchmarks/src/backstay_bench_judge instead. -->

How often each judge rolls back a version that is as good as the running one, and how many bad answers a worse version
serves before it is taken back. All judges see the same simulated rollouts. Made with

```sh
{command}
```

from {runs:,} rollouts of each scenario (seed {seed}). {quality}

A rollout takes an hour, in intervals of 15 seconds; requests are Poisson, errors binomial, the arms a canary, a fresh
baseline and the stable version. "Traffic" is the canary's requests a second. **Bad answers** are the canary's errors
until it is taken back, or until the end if it is not, averaged over *all* runs: a judge that catches only the easy cases
quickly gains nothing. A version that is neither taken back nor shown to do no harm is **inconclusive**: it would wait
for people. **Matched** means that the judge's threshold was moved until it rolled back harmless versions of the same
cell as nearly as possible as often as Backstay did, on the same runs (which favours the judge that is moved).
"""
_FEW = 5000


def write(results: Results, path: Path, pictures: Mapping[str, str]) -> None:
    """Write the report; ``pictures`` are the plots' file names by what they show."""
    book = Book(results)
    parts = [
        _HEAD.format(
            command=results.command,
            runs=results.runs,
            seed=results.seed,
            quality="The runs are few: read the intervals."
            if results.runs < _FEW
            else "Labels take a fifth of the runs.",
        ),
        _judges(),
        _central(book, pictures),
        _nuisances(book, pictures),
        _onset(book),
        _grid(book, pictures),
        _losses(results),
        _other(book, "Latency: slower in the tail only", grid.latencies(), _LATENCY),
        _other(book, "Distributions: predictions or confidence that shift", grid.distributions(), _SHIFT),
        _other(book, "Labels: a lower AUC, seen late", grid.labels(), _LABELS),
        _family(book),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(part.strip() for part in parts if part) + "\n")


_LATENCY = """The slowest tenth of the answers takes 1.1, 1.25 or 2 times as long. Bad answers are those slower than
250 ms. Rules and Kayenta see the 95th percentile; the tests beside Backstay count answers slower than 250 ms, an edge
that they were told; Backstay looks at every edge."""
_SHIFT = """Scores in ten buckets, shifted by the population stability index (PSI) given, or as spread out without a
shift. In place of bad answers: answers of the shifted model. At equal false rollback each judge's own statistic."""
_LABELS = """A fifth of the requests gets a label six hours later, a fifth of these a positive one; the running version's
AUC is .85. Cohorts of two hours, two days. In place of bad answers: answers of the worse model."""


def _judges() -> str:
    rows = [(judge.name, judge.configuration) for judge in JUDGES]
    return "## The judges and what they were set to\n\n" + table(("judge", "configuration"), rows).replace(
        "---:", "---"
    )


def _names(kind: Kind) -> list[str]:
    return [judge.name for judge in JUDGES if kind in judge.kinds]


def _central(book: Book, pictures: Mapping[str, str]) -> str:
    cells = grid.central()
    if not all(book.has(scenario) for scenario in cells):
        return ""
    text = (
        "## In the middle of the grid\n\n2 requests a second on the canary, 10 % of the traffic, 1 % errors. "
        "Rolled back, percent / bad answers on average; harmless with Wilson's 95 % interval.\n\n"
    )
    text += _effects(book, cells, OWN, "as configured")
    text += "\n\nThe same with thresholds moved to Backstay's false rollback:\n\n" + _effects(
        book, cells, MATCHED, "matched"
    )
    text += f"\n\nAnd with every threshold, Backstay's too, moved to {100 * ALPHA:g} % false rollback:\n\n"
    text += _effects(book, cells, AT_ALPHA, f"at {100 * ALPHA:g} %")
    floors = [f"x{cell.effect:g} {floor(cell.shares[0], cell.effect):.1f}" for cell in cells if cell.effect > 1]
    text += (
        "\n\nNo test that is certain to fail a worse version in the end can do, on average, with fewer canary errors "
        f"than log(1/alpha)/KL: {', '.join(floors)}. (One that gives up on small effects can, over an hour.)\n\n"
    )
    text += _distance(book, cells) + "\n\n" + _verdicts(book, cells)
    return text + _picture(pictures, "central")


def _effects(book: Book, cells: Sequence[Scenario], setting: str, title: str) -> str:
    harmful = [scenario for scenario in cells if not scenario.harmless]
    null = cells[0].null
    rows = []
    for name in _names(null.kind):
        known = [book.cell(scenario, name, setting) for scenario in harmful]
        if not any(known):
            continue
        first = book.cell(null, name, OWN)
        false = interval(first) if setting == OWN else f"{100 * next(c.false_rate for c in known if c):.1f}"
        rows.append((_bold(name), false, *(_power(cell) for cell in known)))
    return table((title, "harmless", *(_effect(scenario) for scenario in harmful)), rows)


def _effect(scenario: Scenario) -> str:
    return scenario.name.split(", ")[4]


def _power(cell: Cell | None) -> str:
    return f"{share(cell.rolled_back, cell.runs)} / {amount(cell.bad_mean)}" if cell else ""


def _bold(name: str) -> str:
    return f"**{name}**" if name == OURS else name


def _distance(book: Book, cells: Sequence[Scenario]) -> str:
    rows = []
    for scenario in cells:
        cell = book.cell(scenario, OURS, OWN)
        if cell and scenario.effect > 1:
            least = floor(scenario.shares[0], scenario.effect)
            rows.append((_effect(scenario), f"{least:.1f}", amount(cell.bad_mean), f"{cell.bad_mean / least:.2f}"))
    return table(("Backstay, as configured", "floor", "bad answers", "times the floor"), rows)


def _verdicts(book: Book, cells: Sequence[Scenario]) -> str:
    text = (
        "A rule without a third answer promotes whatever it does not roll back. Promoted / inconclusive, percent, and the "
        "90th percentile of bad answers and of minutes until the rollback or the end, as configured:\n\n"
    )
    rows = []
    for name in _names(Kind.COUNT):
        found = [book.cell(scenario, name, OWN) for scenario in cells]
        rows.append((_bold(name), *(_third(cell) for cell in found)))
    return text + table(("", *(_effect(scenario) for scenario in cells)), rows)


def _third(cell: Cell | None) -> str:
    if cell is None:
        return ""
    unsure = cell.runs - cell.rolled_back - cell.promoted
    return f"{share(cell.promoted, cell.runs)} / {share(unsure, cell.runs)}; {amount(cell.bad_p90)}, {cell.delay_p90:.0f} min"


def _nuisances(book: Book, pictures: Mapping[str, str]) -> str:
    cells = [scenario for scenario in grid.nuisances() if book.has(scenario)]
    if not cells:
        return ""
    harmless = [CENTRE, *(scenario for scenario in cells if scenario.harmless)]
    harmful = [scenario for scenario in cells if not scenario.harmless]
    names = _names(Kind.COUNT)
    rows = [
        (scenario.nuisance.name or "nothing", *(interval(book.cell(scenario, name, OWN)) for name in names))
        for scenario in harmless
    ]
    text = (
        "## When other things go wrong\n\nHarmless versions rolled back, percent, with Wilson's 95 % interval; the middle "
        "of the grid, judges as configured.\n\n"
    )
    text += table(("", *map(_bold, names)), rows)
    text += "\n\nVersions with twice the errors: rolled back, percent / bad answers on average.\n\n"
    rows = [
        (scenario.nuisance.name, *(_power(book.cell(scenario, name, OWN)) for name in names)) for scenario in harmful
    ]
    text += table(("", *map(_bold, names)), rows)
    over = []
    for scenario in harmless:
        for name in [name for name in names if name.startswith(OURS)]:
            cell = book.cell(scenario, name, OWN)
            if cell and wilson(cell.rolled_back, cell.runs)[0] > ALPHA:
                over.append(f"{name} under {scenario.nuisance.name}")
    text += f"\n\nBackstay clearly above {100 * ALPHA:g} % of harmless versions: {'; '.join(over) or 'nowhere'}."
    return text + _picture(pictures, "nuisances")


def _onset(book: Book) -> str:
    cells = [scenario for scenario in grid.onsets() if book.has(scenario)]
    if not cells:
        return ""
    harmful = [scenario for scenario in cells if not scenario.harmless]
    null = harmful[0].null
    text = (
        "## Defects that begin late\n\nSteps of 1, 5, 25 and 50 %, a quarter of an hour each; errors double from the "
        "minute given. Rolled back, percent / bad answers on average / minutes from the onset on average.\n\n"
    )
    for setting in (OWN, MATCHED):
        rows = []
        for name in _names(Kind.COUNT):
            known = [book.cell(scenario, name, setting) for scenario in harmful]
            if any(known):
                false = next(cell.false_rate for cell in known if cell)
                rows.append(
                    (
                        _bold(name),
                        f"{100 * false:.1f}",
                        *(f"{_power(c)} / {c.delay_mean:.0f}" if c else "" for c in known),
                    )
                )
        title = "as configured" if setting == OWN else "matched"
        text += table((title, "harmless", *(f"minute {s.onset_minute:g}" for s in harmful)), rows) + "\n\n"
    return text if book.has(null) or harmful else ""


def _grid(book: Book, pictures: Mapping[str, str]) -> str:
    cells = [scenario for scenario in grid.grid() if book.has(scenario)]
    pairs = [scenario for scenario in cells if scenario.effect == 2.0]  # noqa: PLR2004 - twice the errors
    if len(pairs) < len(grid.TRAFFIC):
        return ""
    rivals = [name for name in _names(Kind.COUNT) if not name.startswith(OURS)]
    rows = []
    for scenario in pairs:
        ours = book.cell(scenario, OURS, OWN)
        null = book.cell(scenario.null, OURS, OWN)
        if ours is None or null is None:
            continue
        others = [cell for name in rivals if (cell := book.cell(scenario, name, MATCHED)) is not None]
        best = min(others, key=lambda cell: cell.bad_mean)
        mark = "" if best.fewer <= _CLEAR * best.fewer_error else " (fewer)"
        rows.append(
            (
                f"{scenario.traffic:g}/s, {scenario.base * 100:g} %, {_shares(scenario)}",
                interval(null),
                _power(ours),
                share(ours.runs - ours.rolled_back - ours.promoted, ours.runs),
                f"{best.judge}: {_power(best)}{mark}",
            )
        )
    head = ("traffic, base rate, share", "harmless", "twice the errors", "inconclusive", "best other, matched")
    text = (
        "## Over the grid\n\nBackstay as configured: harmless versions rolled back (percent, Wilson), versions with twice "
        "the errors rolled back and their bad answers, those neither rolled back nor promoted; and of the other judges, "
        "matched, the one with the fewest bad answers in that cell, which is a different one from cell to cell.\n\n"
    )
    return text + table(head, rows) + _picture(pictures, "grid")


def _shares(scenario: Scenario) -> str:
    return "-".join(f"{share * 100:g}" for share in scenario.shares) + " %"


def _losses(results: Results) -> str:
    """Where another judge, at equal false rollback, let fewer bad answers through, by more than chance."""
    kinds = {str(Kind.COUNT), str(Kind.FAMILY), str(Kind.LATENCY), str(Kind.DISTRIBUTION), str(Kind.LABELS)}
    found: dict[str, list[Cell]] = {}
    compared: dict[str, int] = {}
    for cell in results.cells:
        if cell.setting != MATCHED or cell.judge.startswith(OURS) or cell.scenario.split(",")[0] not in kinds:
            continue
        compared[cell.judge] = compared.get(cell.judge, 0) + 1
        if cell.fewer > _CLEAR * cell.fewer_error and cell.fewer > 0:
            found.setdefault(cell.judge, []).append(cell)
    if not compared:
        return ""
    text = (
        "## Where Backstay loses\n\nScenarios in which a judge, matched to Backstay's false rollback, let through fewer bad "
        "answers in the same runs by more than two standard errors. A matched judge has had its threshold chosen for that "
        "very scenario, which nobody can do in practice; the table is a bound.\n\n"
    )
    rows = []
    for name, count in compared.items():
        lost = sorted(found.get(name, []), key=lambda cell: -cell.fewer / max(cell.bad_mean + cell.fewer, 1e-9))
        worst = "; ".join(f"{cell.scenario} ({_relative(cell)})" for cell in lost[:3])
        rows.append((name, f"{len(lost)} of {count}", worst))
    return text + table(("judge, matched", "scenarios lost", "by most in (bad answers of theirs / ours)"), rows)


def _relative(cell: Cell) -> str:
    return f"{amount(cell.bad_mean)} / {amount(cell.bad_mean + cell.fewer)}"


def _other(book: Book, title: str, cells: Sequence[Scenario], text: str) -> str:
    cells = [scenario for scenario in cells if book.has(scenario)]
    if not cells:
        return ""
    parts = [f"## {title}\n\n{text}"]
    for null in dict.fromkeys(scenario.null for scenario in cells):
        group = [null, *(scenario for scenario in cells if scenario.null == null and not scenario.harmless)]
        where = f"{null.traffic:g} requests a second on the canary, {_shares(null)} of the traffic"
        parts.append(f"{where}:\n\n{_effects(book, group, OWN, 'as configured')}")
        parts.append(_effects(book, group, MATCHED, "matched"))
    return "\n\n".join(parts)


def _family(book: Book) -> str:
    cells = [scenario for scenario in grid.families() if book.has(scenario)]
    if not cells:
        return ""
    text = (
        "## Twelve signals at once\n\nTwelve independent kinds of error, each at the middle of the grid; none is worse, or "
        "one. The harmless column is the family's error.\n\n"
    )
    null = replace(cells[0].null)
    group = [null, *(scenario for scenario in cells if not scenario.harmless)]
    return text + _effects(book, group, OWN, "as configured") + "\n\n" + _effects(book, group, MATCHED, "matched")


def _picture(pictures: Mapping[str, str], name: str) -> str:
    return f"\n\n![{_ALT[name]}](images/{pictures[name]})" if name in pictures else ""


_ALT = {
    "central": "Bad answers against false rollback, by effect",
    "nuisances": "False rollback by what goes wrong",
    "grid": "Bad answers of each judge relative to Backstay's over the grid",
}
