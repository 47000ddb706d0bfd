"""Load by vegeta, a Go program, so that whoever asks is not slower than whoever answers."""

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backstay_playground.errors import PlaygroundError


@dataclass(frozen=True, slots=True)
class Load:
    """What came of one run: answers a second, and percentiles of their times in seconds."""

    rate: float
    p50: float
    p99: float


def attack(  # noqa: PLR0913 - each is a part of one run
    vegeta: Path, url: str, bodies: Sequence[bytes], *, seconds: float, rate: float = 0.0, connections: int = 16
) -> Load:
    """Ask for some seconds: at a fixed rate, or (rate 0) as fast as so many connections get answers.

    Raises:
        PlaygroundError: an answer was none, or no 200.
    """
    targets = b"\n".join(
        json.dumps(
            {
                "method": "POST",
                "url": url,
                "header": {"Content-Type": ["application/json"]},
                "body": base64.b64encode(body).decode(),
            }
        ).encode()
        for body in bodies
    )
    workers = [f"-max-workers={connections}"] if not rate else []
    command = [str(vegeta), "attack", "-format=json", f"-rate={rate:g}/s" if rate else "-rate=0", *workers]
    hits = subprocess.run(
        [*command, f"-duration={seconds}s", f"-connections={connections}", f"-workers={connections}", "-timeout=10s"],
        input=targets,
        capture_output=True,
        check=False,
    )
    report = subprocess.run([str(vegeta), "report", "-type=json"], input=hits.stdout, capture_output=True, check=True)
    return load_of(json.loads(report.stdout))


def load_of(report: dict[str, Any]) -> Load:
    """Read vegeta's report.

    Raises:
        PlaygroundError: an answer was none, or no 200.
    """
    codes = report["status_codes"]
    if set(codes) != {"200"}:
        raise PlaygroundError(f"Not every answer was 200: {codes}; {report['errors'][:3]}")
    latencies = report["latencies"]
    return Load(report["throughput"], latencies["50th"] / 1e9, latencies["99th"] / 1e9)
