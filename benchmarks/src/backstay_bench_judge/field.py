"""The judges that are compared, each with the configuration it was given."""

from backstay_bench_judge import ours
from backstay_bench_judge.judging import Judge
from backstay_bench_judge.rivals import argo, flagger, kayenta, labelled, msprt, obrien_fleming, peeking
from backstay_bench_judge.scenarios import Kind

_COUNTS = frozenset({Kind.COUNT, Kind.FAMILY})
_ERRORS = frozenset({Kind.COUNT})
_LIVE = frozenset({Kind.COUNT, Kind.FAMILY, Kind.LATENCY, Kind.DISTRIBUTION})
_RULES = frozenset({Kind.COUNT, Kind.LATENCY, Kind.DISTRIBUTION, Kind.FAMILY})
_LABELS = frozenset({Kind.LABELS})

OURS = "Backstay"

JUDGES = (
    Judge(
        OURS,
        "As the controller runs it (what it does not watch yet: as `backstay judge` replays it): alpha .05, tolerance "
        "1, a part of the evidence kept for late onsets, 15 s intervals joined up to 30 requests. Fresh baseline in "
        "the warm-up of 5 minutes, then all of the running version. Pass asks for evidence of no harm, ratio 2, level "
        ".05.",
        ours.default,
        _LIVE | _LABELS,
    ),
    Judge("Backstay, tolerance 1.25", "The same; odds up to 1.25 times are no harm.", ours.tolerant, _ERRORS),
    Judge(
        "Backstay, bursts learnt",
        "The default with its evidence divided by the dispersion of stable's errors in the hour before. The controller "
        "does not feed this yet.",
        ours.allowing_for_bursts,
        _ERRORS,
    ),
    Judge(
        "Backstay, pods allowed for",
        "That, with the tolerance widened by how far stable's pods differed in the hour before, at alpha / 2. The "
        "controller does not feed this yet.",
        ours.allowing_for_pods,
        _ERRORS,
    ),
    Judge(
        "Argo, default",
        "Each minute over the last one; limit twice the true base rate (latency: 1.25 times the true p95; "
        "distributions: PSI .25); failureLimit 0; a success condition, so NaN fails.",
        argo.default,
        _RULES,
    ),
    Judge(
        "Argo, careful",
        "The same limits over the last 5 minutes, failureLimit 2, a failure condition, so NaN does not fail; "
        "initialDelay is the warm-up.",
        argo.careful,
        _RULES,
    ),
    Judge(
        "Argo, 3 in a row",
        "The same limits over the last minute, three minutes in a row, which only a query can say; initialDelay is the "
        "warm-up.",
        argo.three_in_a_row,
        _RULES,
    ),
    Judge(
        "Flagger, default",
        "Each minute over the last minute, the same limits, threshold 1; no value fails; acts one tick later.",
        flagger.default,
        _RULES,
    ),
    Judge(
        "Flagger, 3 checks",
        "The same over the last 5 minutes, threshold 3; there is no initial delay.",
        flagger.three_checks,
        _RULES,
    ),
    Judge(
        "Kayenta",
        "Every 10 minutes over all minutes so far, one point a minute (no value removed, direction increase), against "
        "the fresh baseline of equal size; 98 %, tolerance .25, pass 95, marginal 75. At equal false rollback its "
        "test's own z is moved, without the tolerance.",
        kayenta.canary,
        _LIVE,
    ),
    Judge(
        "Peeking z",
        "Mantel-Haenszel z with a stratum an interval, one-sided .05, every minute, with Backstay's control arm "
        "(distributions: chi-square). At equal false rollback it looks every 15 s.",
        peeking.every_minute,
        _LIVE,
    ),
    Judge(
        "mSPRT",
        "On the same score, half-normal mixture of log odds ratios with scale log 2, threshold 20, every 15 s; of "
        "twelve signals each at alpha / 12.",
        msprt.every_interval,
        _LIVE,
    ),
    Judge(
        "O'Brien-Fleming, 12 looks",
        "On the same score, one-sided .05, length and traffic known beforehand; of twelve signals each at alpha / 12.",
        obrien_fleming.twelve_looks,
        _LIVE,
    ),
    Judge("O'Brien-Fleming, 60 looks", "The same, looking every minute.", obrien_fleming.every_minute, _LIVE),
    Judge("AUC limit", "AUC over all labels so far more than .02 lower.", labelled.fixed_limit, _LABELS),
    Judge("Peeking DeLong", "DeLong's test, one-sided .05, after every cohort.", labelled.peeking, _LABELS),
    Judge("DeLong once", "DeLong's test, one-sided .05, once at the end.", labelled.once, _LABELS),
)
