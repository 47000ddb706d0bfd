"""What the report says around its tables."""

HEAD = """# The judge, measured

<!-- Written by the command below; edit benchmarks/src/backstay_bench_judge instead. -->

How often does each judge roll back a version that is as good as the running one, and how many bad answers does a worse
version serve before it is taken back? All judges see the same simulated rollouts. Made with

```sh
{command}
```

from {runs:,} rollouts of each scenario, seed {seed}; {size} scenarios, of which those with labels take a fifth of the
runs. {quality}

A rollout takes an hour, in intervals of 15 seconds; requests are Poisson, errors binomial, the arms a canary, a fresh
baseline and the stable version. *Traffic* is the canary's requests a second (in stepped rollouts at a share of 10 %).

- **Bad answers** are the canary's errors until it is taken back, or until the end if it is not, averaged over *all*
  runs: a judge that catches only the easy cases quickly gains nothing by that.
- **Inconclusive** is a version that is neither taken back nor shown to do no harm: it waits for people, or for more
  traffic. Only Backstay has this answer; the others promote what they do not roll back.
- **Matched** means that the judge's threshold was moved until it rolled back harmless versions of the same cell as
  nearly as possible as often as Backstay did, on the same runs. No team can do that in practice, so it flatters the
  judge that is moved; and rules with limits were given the true base rate to begin with.
"""

FEW = "**That is few: read the intervals, not the numbers.**"
MANY = "Wilson's 95 % intervals are given where something is claimed."

CENTRAL = """## In the middle of the grid

2 requests a second on the canary, 10 % of the traffic, 1 % errors. Rolled back, percent / bad answers on average; the
harmless column with Wilson's 95 % interval."""

MATCHED = "The same with thresholds moved to Backstay's false rollback:"

FLOOR = """No test that is certain to fail a worse version in the end, and a harmless one with chance .05 at most, does
with fewer canary errors on average than log(1/alpha)/KL. One that may give up after an hour can, on small effects."""

THIRD = """Versions that were promoted / inconclusive, percent. Promotions of a version with twice the errors are false
promotions: that is the harm which Backstay's evidence of no harm rules out at level .05."""

TAILS = "Bad answers, 90th percentile / minutes until the rollback or the end, mean and 90th percentile:"

NUISANCES = """## When other things go wrong

Harmless versions rolled back, percent, with Wilson's 95 % interval; the middle of the grid, judges as configured. The
defaults of Argo Rollouts and Flagger are left out: they roll back nearly every version here."""

NUISANCES_HARMFUL = "Versions with twice the errors: rolled back, percent / bad answers on average."

ONSET = """## Defects that begin late

Steps of 1, 5, 25 and 50 %, a quarter of an hour each; errors double from the minute given. Rolled back, percent / bad
answers on average / minutes from the onset on average. A rollback before the onset counts like one after it, so a judge
with many false rollbacks looks quick here."""

WITHIN = """The same in the middle of the only step of an hour, at 10 %: twice or five times the errors from the minute
given."""

GRID = """## Over the grid

Backstay as configured: harmless versions rolled back (percent, Wilson), versions with twice the errors rolled back /
their bad answers, and those neither rolled back nor promoted. Of the other judges, matched, the one with the fewest bad
answers in that cell: a different one from cell to cell, and chosen afterwards. With few runs, where Backstay failed
none of them, a threshold just above the highest harmless score is a lucky one."""

LOSSES = """## Where Backstay loses

Scenarios in which a judge, matched to Backstay's false rollback, let fewer bad answers through in the same runs, by
more than two standard errors of the difference (by chance alone that happens in one scenario in forty). A rule that
fails without data cannot always be matched: those scenarios are counted apart."""

LATENCY = """## Latency: slower in the tail only

The slowest tenth of the answers takes 1.1, 1.25 or 2 times as long. Bad answers are those slower than 250 ms. Rules and
Kayenta see the 95th percentile; the other tests count answers slower than 250 ms, an edge that they were told; Backstay
looks at every edge of the histogram."""

SHIFT = """## Distributions: predictions or confidence that shift

Scores in ten buckets, shifted by the population stability index given, or spread out around the same mean. In place of
bad answers: all answers of the canary. The sequential tests compare mean scores, the peeking one is a chi-square."""

LABELS = """## Labels: a lower AUC, seen late

A fifth of the requests gets a label six hours later, a fifth of those a positive one; the running version's AUC is .85.
Cohorts of two hours, for two days. In place of bad answers: all answers of the canary."""

FAMILY = """## Twelve signals at once

Twelve independent kinds of error, each as in the middle of the grid; none is worse, or one. The harmless column is the
family's error."""

PICTURES = {
    "central": "Bad answers against false rollback, by effect; grey: 5 %, dotted: the floor",
    "nuisances": "False rollback by what goes wrong",
    "grid": "Bad answers of each judge relative to Backstay's over the grid",
}
