"""docs/judge-benchmark.md, from the results alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from backstay_bench_judge import prose
from backstay_bench_judge import scenarios as grid
from backstay_bench_judge.field import JUDGES, OURS
from backstay_bench_judge.measure import floor, wilson
from backstay_bench_judge.run import ALPHA, AT_ALPHA, MATCHED, OWN, Cell, Results
from backstay_bench_judge.scenarios import CENTRE, Kind, Scenario
from backstay_bench_judge.tables import Book, amount, interval, power, share, table

Tell = Callable[[Cell], str]

_CLEAR = 2.0
_FEW = 5000
_WORST = 3


def write(results: Results, path: Path, pictures: Mapping[str, str]) -> None:
    """Write the report; ``pictures`` are the plots' file names by what they show."""
    book = Book(results)
    quality = prose.FEW if results.runs < _FEW else prose.MANY
    size = len({cell.scenario for cell in results.cells})
    parts = [
        prose.HEAD.format(command=results.command, runs=results.runs, seed=results.seed, size=size, quality=quality),
        *_central(book, pictures),
        *_nuisances(book, pictures),
        *_onset(book),
        *_grid(book, pictures),
        *_losses(book, results),
        *_other(book, prose.LATENCY, grid.latencies()),
        *_other(book, prose.SHIFT, grid.distributions()),
        *_other(book, prose.LABELS, grid.labels()),
        *_other(book, prose.FAMILY, grid.families()),
        _judges(),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(part.strip() for part in parts) + "\n")


def _judges() -> str:
    lines = [f"| {judge.name} | {judge.configuration} |" for judge in JUDGES]
    return "\n".join(["## The judges and what they were set to\n", "| judge | configuration |", "|---|---|", *lines])


def _central(book: Book, pictures: Mapping[str, str]) -> Iterable[str]:
    cells = grid.central()
    if not all(book.has(scenario) for scenario in cells):
        return
    yield prose.CENTRAL
    yield _effects(book, cells, OWN)
    yield from _picture(pictures, "central")
    yield prose.MATCHED
    yield _effects(book, cells, MATCHED)
    yield f"And with every threshold, Backstay's too, moved to {100 * ALPHA:g} % false rollback:"
    yield _effects(book, cells, AT_ALPHA)
    yield prose.FLOOR
    yield _floor(book, cells)
    yield prose.THIRD
    yield _by_judge(book, cells, _third)
    yield prose.TAILS
    yield _by_judge(book, cells, lambda cell: f"{amount(cell.bad_p90)} / {cell.delay_mean:.0f}, {cell.delay_p90:.0f}")


def _effects(book: Book, cells: Sequence[Scenario], setting: str) -> str:
    """A row a judge: harmless versions, then each effect."""
    null = cells[0].null
    harmful = [scenario for scenario in cells if not scenario.harmless]
    rows = []
    for name in _names(null.kind):
        known = [book.cell(scenario, name, setting) for scenario in harmful]
        own = book.cell(null, name, OWN)
        rates = [f"{100 * cell.false_rate:.1f}" for cell in known if cell]
        false = interval(own) if setting == OWN and own else rates[0] if rates else ""
        rows.append((_bold(name), false, *(power(cell) for cell in known)))
    return table((_TITLES[setting], "harmless", *(scenario.effect_name for scenario in harmful)), rows)


_TITLES = {OWN: "as configured", MATCHED: "matched", AT_ALPHA: "at 5 %"}


def _by_judge(book: Book, cells: Sequence[Scenario], tell: Tell) -> str:
    rows = []
    for name in _names(Kind.COUNT):
        found = [book.cell(scenario, name, OWN) for scenario in cells]
        rows.append((_bold(name), *(tell(cell) if cell else "" for cell in found)))
    return table(("as configured", *(scenario.effect_name for scenario in cells)), rows)


def _third(cell: Cell) -> str:
    unsure = cell.runs - cell.rolled_back - cell.promoted
    return f"{share(cell.promoted, cell.runs)} / {share(unsure, cell.runs)}"


def _floor(book: Book, cells: Sequence[Scenario]) -> str:
    rows = []
    for scenario in cells:
        cell = book.cell(scenario, OURS, OWN)
        if cell and not scenario.harmless:
            least = floor(scenario.shares[0], scenario.effect)
            rows.append((scenario.effect_name, f"{least:.1f}", amount(cell.bad_mean), f"{cell.bad_mean / least:.2f}"))
    return table(("errors", "floor", "Backstay, as configured", "times the floor"), rows)


def _nuisances(book: Book, pictures: Mapping[str, str]) -> Iterable[str]:
    cells = [scenario for scenario in grid.nuisances() if book.has(scenario)]
    if not cells:
        return
    names = [name for name in _names(Kind.COUNT) if not name.endswith(", default")]
    harmless = [CENTRE, *(scenario for scenario in cells if scenario.harmless)]
    head = ("", *map(_bold, names))
    yield prose.NUISANCES
    yield table(head, [_under(book, scenario, names, interval) for scenario in harmless])
    over = [
        f"{name} under {scenario.nuisance.name or 'nothing'}"
        for scenario in harmless
        for name in names
        if name.startswith(OURS)
        if (cell := book.cell(scenario, name, OWN)) and wilson(cell.rolled_back, cell.runs)[0] > ALPHA
    ]
    yield f"Backstay clearly above {100 * ALPHA:g} %: {'; '.join(over) or 'nowhere'}."
    yield from _picture(pictures, "nuisances")
    yield prose.NUISANCES_HARMFUL
    yield table(head, [_under(book, scenario, names, power) for scenario in cells if not scenario.harmless])


def _under(book: Book, scenario: Scenario, names: Sequence[str], tell: Tell) -> tuple[str, ...]:
    found = [book.cell(scenario, name, OWN) for name in names]
    return (scenario.nuisance.name or "nothing", *(tell(cell) if cell else "" for cell in found))


def _onset(book: Book) -> Iterable[str]:
    yield from _late(book, prose.ONSET, grid.onsets(), lambda scenario: f"minute {scenario.onset_minute:g}")
    yield from _late(
        book, prose.WITHIN, grid.within(), lambda scenario: f"{scenario.effect_name}, minute {scenario.onset_minute:g}"
    )


def _late(book: Book, text: str, every: Iterable[Scenario], title: Callable[[Scenario], str]) -> Iterable[str]:
    harmful = [scenario for scenario in every if book.has(scenario) and not scenario.harmless]
    if not harmful:
        return
    yield text
    for setting in (OWN, MATCHED):
        rows = []
        for name in _names(Kind.COUNT):
            known = [cell for scenario in harmful if (cell := book.cell(scenario, name, setting))]
            if known:
                told = [f"{power(cell)} / {cell.delay_mean:.0f}" for cell in known]
                rows.append((_bold(name), f"{100 * known[0].false_rate:.1f}", *told))
        yield table((_TITLES[setting], "harmless", *map(title, harmful)), rows)


def _grid(book: Book, pictures: Mapping[str, str]) -> Iterable[str]:
    cells = [s for s in grid.grid() if s.effect == grid.TWICE and book.has(s)]
    if len(cells) < len(grid.TRAFFIC):
        return
    rivals = [name for name in _names(Kind.COUNT) if not name.startswith(OURS)]
    rows = []
    for scenario in cells:
        ours, null = book.cell(scenario, OURS, OWN), book.cell(scenario.null, OURS, OWN)
        others = [cell for name in rivals if (cell := book.matched(scenario.name, name))]
        if not (ours and null and others):
            continue
        best = min(others, key=lambda cell: cell.bad_mean)
        where = f"{scenario.traffic:g}/s, {scenario.base * 100:g} %, {scenario.shares_name} %"
        unsure = share(ours.runs - ours.rolled_back - ours.promoted, ours.runs)
        better = ", fewer" if best.fewer > _CLEAR * best.fewer_error else ""
        rows.append((where, interval(null), power(ours), unsure, f"{best.judge}: {power(best)}{better}"))
    yield prose.GRID
    yield from _picture(pictures, "grid")
    yield table(("traffic, base, share", "harmless", "twice the errors", "inconclusive", "best other, matched"), rows)


def _losses(book: Book, results: Results) -> Iterable[str]:
    """Where another judge, at equal false rollback, let fewer bad answers through, by more than chance."""
    compared: dict[str, list[Cell]] = {}
    for cell in results.cells:
        if cell.setting == MATCHED and not cell.judge.startswith(OURS):
            compared.setdefault(cell.judge, []).append(cell)
    if not compared:
        return
    rows = []
    for name, cells in compared.items():
        fair = [cell for cell in cells if book.matched(cell.scenario, name)]
        lost = [cell for cell in fair if cell.fewer > _CLEAR * cell.fewer_error and cell.fewer > 0]
        lost.sort(key=lambda cell: cell.bad_mean / (cell.bad_mean + cell.fewer))
        worst = "; ".join(f"{cell.scenario} ({_beside(cell)})" for cell in lost[:_WORST])
        rows.append((name, f"{len(lost)} of {len(fair)}", str(len(cells) - len(fair)), worst))
    yield prose.LOSSES
    yield table(("judge, matched", "lost", "not to be matched", "by most in (their bad answers / Backstay's)"), rows)


def _beside(cell: Cell) -> str:
    return f"{amount(cell.bad_mean)} / {amount(cell.bad_mean + cell.fewer)}"


def _other(book: Book, text: str, cells: Sequence[Scenario]) -> Iterable[str]:
    """Tables by effect, one for each harmless cell."""
    cells = [scenario for scenario in cells if book.has(scenario)]
    if not cells:
        return
    yield text
    for null in dict.fromkeys(scenario.null for scenario in cells):
        yield f"{null.traffic:g} requests a second on the canary, {null.shares_name} % of the traffic:"
        group = [null, *(scenario for scenario in cells if scenario.null == null and not scenario.harmless)]
        yield _effects(book, group, OWN)
        yield _effects(book, group, MATCHED)


def _names(kind: Kind) -> list[str]:
    return [judge.name for judge in JUDGES if kind in judge.kinds]


def _bold(name: str) -> str:
    return f"**{name}**" if name == OURS else name


def _picture(pictures: Mapping[str, str], name: str) -> Iterable[str]:
    if name in pictures:
        yield f"![{prose.PICTURES[name]}](images/{pictures[name]})"
