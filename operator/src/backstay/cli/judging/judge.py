"""``backstay judge``: replay a rollout's evidence."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from backstay.cli.terminal import say_json
from backstay.cli.trouble import refuse
from backstay.domain.status import Verdict
from backstay.judge.document import EvidenceError, evidence_of
from backstay.judge.replay import judge as judged


def judge(
    evidence: Annotated[str, typer.Argument(metavar="EVIDENCE.json", help="The evidence; - reads standard input.")],
    *,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with code 1 when the verdict is Fail.")] = False,
) -> None:
    """Judge a rollout's evidence again, and print the verdict as JSON.

    The file holds the counts of both arms, interval by interval:

    ```
    {"alpha": 0.05,
     "signals": [
       {"name": "errors", "kind": "count", "tolerance": 1.0, "weight": 1.0,
        "intervals": [{"canary":   {"total": 120, "events": 3},
                       "baseline": {"total": 1080, "events": 9}}]},
       {"name": "latency", "kind": "latency", "edges": [0.05, 0.1, 0.25],
        "intervals": [{"canary": [90, 20, 8, 2], "baseline": [820, 180, 70, 10]}]},
       {"name": "confidence", "kind": "distribution", "minimumShift": 0.0,
        "intervals": [{"canary": [5, 15, 100], "baseline": [40, 140, 900]}]}]}
    ```

    **alpha** is the chance of failing a harmless version over all intervals, however often the verdict is read.
    **tolerance** is the ratio of odds that counts as no harm, **minimumShift** the total variation that counts as none,
    **weight** a signal's share of alpha. Counts are whole numbers, per bucket, the last beyond the last edge.

    Optional: **"steps": 4** at the top and **"step": 2** in an interval tell when a defect may have begun;
    **"keptWithin": 0.1** at the top keeps a part for those that begin within a step, as the controller does;
    **"noHarm": {"ratio": 2, "level": 0.05}** in a signal asks for evidence of no harm before it passes;
    **"refinements": false** at the top takes the plain formulas.

    Printed are **verdict** (Pass, Fail, Inconclusive or NoData), **failedAt** (the interval, counted from 0, or null)
    and for each signal its verdict, **logE** after each interval, and the effect. Fail when E reaches 1/alpha.

    The exit code is 0 whatever the verdict, unless --exit-code is given; 2 when the evidence cannot be read.
    """
    try:
        answer = judged(evidence_of(_document(evidence)))
    except EvidenceError as problem:
        refuse(f"{evidence}: {problem}")
    say_json(answer)
    if exit_code and answer["verdict"] == Verdict.FAIL:
        raise typer.Exit(1)


def _document(place: str) -> Any:
    try:
        text = sys.stdin.read() if place == "-" else Path(place).read_text(encoding="utf-8")
    except OSError as problem:
        refuse(f"{place} cannot be read ({problem.strerror}): name a file of evidence")
    except UnicodeDecodeError:
        refuse(f"{place} is not text: name a JSON file of evidence")
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        refuse(f"{place} is not JSON (line {problem.lineno}: {problem.msg}): see backstay judge --help for the format")
    except RecursionError:
        refuse(f"{place} is nested too deeply to be evidence: see backstay judge --help for the format")
