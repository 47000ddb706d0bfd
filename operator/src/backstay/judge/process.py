"""A signal's process: one row of numbers, and how an interval moves it. Rows of one shape move together.

Every function takes rows of shape [R, width] and counts of shape [R, 2, buckets], canary first, in which both arms had
requests. What a row holds is said by its layout.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from backstay.judge import counts, effects, latency, onset, ratio, shift
from backstay.judge.arrays import Bools, Floats, logsumexp
from backstay.judge.codec import Field, Layout, Precision
from backstay.judge.onset import Onset
from backstay.judge.panel import Kind, Shape

_TILTS = 12
# How many rows are computed at a time: what is in between then stays in the processor's cache.
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Given:
    """What is known of each row's interval before it, all of shape [R].

    ``hazard`` is the share of the mass held back that starts now, ``fresh`` marks a step's first interval, ``phi`` the
    size of clusters, ``ratio`` the harm that no-harm evidence rules out, ``smallest`` the shift that counts as none,
    ``planned`` the canary's planned share of the requests.
    """

    tolerance: Floats
    hazard: Floats
    fresh: Floats
    phi: Floats
    ratio: Floats
    smallest: Floats
    planned: Floats

    def only(self, rows: Bools | slice) -> "Given":
        """Return the same for some of the rows."""
        return Given(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@lru_cache(maxsize=256)
def layout(shape: Shape) -> Layout:
    """Say what a row of a shape holds.

    ``log_s`` and ``log_r`` are the late onset mixture's. Of tails: ``no_harm`` an edge, the strata of the
    Mantel-Haenszel ratio, and for a single edge the crude ``totals`` c, s, n_c, n_s. Of shifts: ``canary`` C_b,
    ``pooled``, ``standard`` sum(n_c s_b / n_s), in the base form ``expected`` E_b, and for the effect ``squares``
    sum(n_c^2 / n_s).
    Of the split: ``totals`` n_c, n_s and the requests that the canary's share should have brought.
    """
    log = Precision.LOG if shape.refined else Precision.DOUBLE
    single, double = Precision.SINGLE if shape.refined else Precision.DOUBLE, Precision.DOUBLE
    b = shape.buckets
    match shape.kind:
        case Kind.TAILS:
            edges = b - 1
            no_harm = [Field("no_harm", edges, log)] if shape.no_harm else []
            evidence = [Field("log_s", 1, log), Field("log_r", edges * len(shape.ratios), log), *no_harm]
            effect = [Field("over", edges, single), Field("under", edges, single), Field("size", 1, single)]
            return Layout([*evidence, *effect, Field("totals", 4 if edges == 1 else 2, double)])
        case Kind.SHIFT:
            expected = [] if shape.refined else [Field("expected", b, double)]
            evidence = [Field("log_s", 1, log), Field("log_r", _families(shape), log), *expected]
            sums = [Field(name, b, single) for name in ("canary", "pooled", "standard")]
            return Layout([*evidence, *sums, Field("squares", 1, single)])
        case Kind.SPLIT:
            return Layout([Field("log_r", 2 * len(ratio.GRID), log), Field("totals", 3, double)])


def start(shape: Shape) -> Floats:
    """Return the row of a process that has seen nothing."""
    where = layout(shape)
    row = np.zeros(where.width)
    if shape.kind is not Kind.SPLIT:
        row[where.slices["log_s" if not shape.refined else "log_r"]] = -np.inf
    return row


def advance(shape: Shape, rows: Floats, seen: Floats, given: Given) -> Floats:
    """Take one interval of each row; returns new rows, settled."""
    blocks = [slice(begin, begin + _BLOCK) for begin in range(0, max(len(rows), 1), _BLOCK)]
    return np.concatenate([_advance(shape, rows[some], seen[some], given.only(some)) for some in blocks])


def _advance(shape: Shape, rows: Floats, seen: Floats, given: Given) -> Floats:
    at, new = layout(shape).slices, rows.copy()
    canary, baseline = np.ascontiguousarray(seen[:, 0]), np.ascontiguousarray(seen[:, 1])
    match shape.kind:
        case Kind.TAILS:
            _tails(shape, new, canary, baseline, given)
        case Kind.SHIFT:
            _shift(shape, new, canary, baseline, given)
        case Kind.SPLIT:
            n_c, n_s = canary[:, 0], baseline[:, 0]
            moved = ratio.increments(n_c, n_s, given.planned, tolerance=given.tolerance)
            new[:, at["log_r"]] += np.concatenate([moved.more, moved.less], axis=-1)
            new[:, at["totals"]] += np.stack([n_c, n_s, n_s * given.planned / (1.0 - given.planned)], axis=-1)
    return layout(shape).settle(new)


def log_evidence(shape: Shape, rows: Floats) -> Floats:
    """Return log E of each row, of shape [R]."""
    at = layout(shape).slices
    log_r = np.ascontiguousarray(rows[..., at["log_r"]])
    if shape.kind is Kind.SPLIT:
        return np.asarray(logsumexp(log_r) - np.log(log_r.shape[-1]))
    return onset.log_evidence(Onset(rows[..., at["log_s"]][..., 0], log_r), weights(shape))


@lru_cache(maxsize=256)
def weights(shape: Shape) -> Floats:
    """Return the weight of each component of ``log_r``: half on a shift's history and half on its tilts."""
    width = layout(shape).slices["log_r"]
    size = width.stop - width.start
    if shape.kind is Kind.SHIFT and size > 1:
        return np.array([0.5] + [0.5 / _TILTS] * _TILTS)
    if shape.kind is Kind.TAILS and shape.ratios == counts.WATCHED:
        edges = shape.buckets - 1
        return np.tile(counts.WATCHED_WEIGHTS, edges) / edges
    return np.full(size, 1.0 / size)


def _families(shape: Shape) -> int:
    return 1 + _TILTS if shape.refined and shape.ordered else 1


def asleep(shape: Shape, rows: Floats) -> Bools:
    """Tell at which edges all requests have been on one side so far, of shape [..., edges]; see ``latency.lent``.

    The sums of the Mantel-Haenszel ratio tell: if all requests lie beyond an edge, they equal ``size`` to the bit.
    """
    over, under, size = (rows[..., layout(shape).slices[name]] for name in ("over", "under", "size"))
    return np.asarray(((over == 0) & (under == 0)) | ((over == size) & (under == size)))


def _move(shape: Shape, new: Floats, added: Floats, given: Given, *, asleep: Bools | None = None) -> None:
    """Put increments of shape [R, K] into the late onset mixture of the rows."""
    at = layout(shape).slices
    before = Onset(np.array(new[:, at["log_s"]][:, 0]), np.array(new[:, at["log_r"]]))
    begun, added = onset.begin(before, given.hazard), added / given.phi[:, np.newaxis]
    if asleep is not None:
        by_edge = (*asleep.shape, -1)
        added = latency.lent(begun.log_r.reshape(by_edge), added.reshape(by_edge), asleep).reshape(added.shape)
    new[:, at["log_s"]] = begun.log_s[:, np.newaxis]
    new[:, at["log_r"]] = begun.log_r + added


def _tails(shape: Shape, new: Floats, canary: Floats, baseline: Floats, given: Given) -> None:
    at = layout(shape).slices
    added = latency.increments(canary, baseline, tolerance=given.tolerance, ratios=shape.ratios, refined=shape.refined)
    idle = asleep(shape, new) if shape.refined and shape.buckets > 2 else None  # noqa: PLR2004 - more than one edge
    _move(shape, new, added.reshape(len(new), -1), given, asleep=idle)
    c, s = latency.tails(canary), latency.tails(baseline)
    n_c, n_s = canary.sum(axis=-1)[:, np.newaxis], baseline.sum(axis=-1)[:, np.newaxis]
    if shape.no_harm:
        harmless = counts.no_harm(c, s, n_c, n_s, ratio=given.ratio[:, np.newaxis]) / given.phi[:, np.newaxis]
        kept = np.where(given.fresh[:, np.newaxis] > 0, 0.0, new[:, at["no_harm"]])
        new[:, at["no_harm"]] = kept + harmless
    terms = effects.strata(c, s, n_c, n_s)
    new[:, at["over"]] += terms.over
    new[:, at["under"]] += terms.under
    new[:, at["size"]] += terms.size[:, :1]
    new[:, at["totals"]] += np.concatenate([c, s, n_c, n_s] if shape.buckets == 2 else [n_c, n_s], axis=-1)  # noqa: PLR2004 - with an event, and without


def _shift(shape: Shape, new: Floats, canary: Floats, baseline: Floats, given: Given) -> None:
    at = layout(shape).slices
    so_far = {name: np.array(new[:, at[name]]) for name in at if name not in {"log_s", "log_r", "squares"}}
    bet = _by_labels if shape.refined else _given_pooled
    _move(shape, new, bet(shape, so_far, canary, baseline, given), given)
    pooled = canary + baseline
    n_c, n_s = canary.sum(axis=-1)[:, np.newaxis], baseline.sum(axis=-1)[:, np.newaxis]
    if not shape.refined:
        new[:, at["expected"]] += n_c * pooled / (n_c + n_s)
    new[:, at["canary"]] += canary
    new[:, at["pooled"]] += pooled
    new[:, at["standard"]] += n_c * baseline / n_s
    new[:, at["squares"]] += n_c * n_c / n_s


def _given_pooled(shape: Shape, so_far: Mapping[str, Floats], canary: Floats, baseline: Floats, given: Given) -> Floats:
    """Bet as formula (c) does: on what the history shows, and given the pooled counts."""
    weights = shift.history_weights(so_far["canary"], so_far["expected"], so_far["pooled"], kappa=shift.KAPPA_BASE)[
        :, np.newaxis, :
    ]
    return shift.increments(canary, baseline, weights, smallest=given.smallest if shape.smallest else None)


def _by_labels(shape: Shape, so_far: Mapping[str, Floats], canary: Floats, baseline: Floats, given: Given) -> Floats:
    """Bet on what the history shows and on tilts, by labels.

    In the first interval nothing is known that the weights could be centred by. There half is bet given the pooled
    counts, which needs no centre; where a shift is allowed for, there is no such form.
    """
    usual = so_far["standard"]
    weights = shift.history_weights(so_far["canary"], usual, so_far["pooled"])[:, np.newaxis, :]
    if _families(shape) > 1:
        fixed = np.broadcast_to(shift.tilts(shape.buckets), (len(usual), _TILTS, shape.buckets))
        weights = np.concatenate([weights, fixed], axis=1)
    added = shift.increments(canary, baseline, shift.centred(weights, usual), smallest=given.smallest)
    first = ~so_far["pooled"].any(axis=-1) & (given.smallest == 0)
    if first.any():
        other = shift.increments(canary[first], baseline[first], weights[first])
        added[first] = np.logaddexp(added[first], other) - np.log(2.0)
    return added
