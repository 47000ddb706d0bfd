"""The intervals of each live rollout, kept in files, so that any verdict can be judged again.

A line an interval. The files lie in the controller's state folder: they outlive a restart of its container, and a new
pod begins new ones.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from backstay.domain.resource import Key
from backstay.judge.document import document_of
from backstay.judge.fold import Interval
from backstay.judge.memory import Learnt
from backstay.judge.panel import Panel

_LOG = logging.getLogger(__name__)


class Recorder:
    """Writes down what was judged; trouble with the disk is logged, and never stops a rollout."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, key: Key, rollout: str, interval: Interval) -> None:
        """Append one interval."""
        file = self._file(key, rollout)
        line = {
            "tick": interval.tick,
            "signals": {name: counts.tolist() for name, counts in interval.signals.items()},
            "requests": interval.requests,
            "step": interval.step,
            "steps": interval.steps,
            "mix": interval.mix,
            "comparable": interval.comparable,
            "planned": interval.planned,
            "arms": interval.arms,
            "pods": interval.pods,
        }
        try:
            if not file.exists():
                self.forget(key)
                file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as output:
                output.write(json.dumps(line, separators=(",", ":")) + "\n")
        except OSError as problem:
            _LOG.warning("%s: an interval of rollout %s is not recorded: %s", key, rollout, problem)

    def document(self, key: Key, rollout: str, panel: Panel, learnt: Mapping[str, Learnt]) -> dict[str, Any]:
        """Return a rollout's evidence in the format of ``backstay judge``; empty where nothing was recorded."""
        intervals = list(self._read(self._file(key, rollout)))
        return document_of(panel, intervals, learnt) if intervals else {}

    def forget(self, key: Key) -> None:
        """Remove what is recorded of a model."""
        for file in self._folder.glob(f"{_digest(str(key))}-*.jsonl"):
            file.unlink(missing_ok=True)

    def _file(self, key: Key, rollout: str) -> Path:
        return self._folder / f"{_digest(str(key))}-{_digest(rollout)}.jsonl"

    @staticmethod
    def _read(file: Path) -> Iterator[Interval]:
        if not file.exists():
            return
        last = 0.0
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                # The last line of a controller that was killed while it wrote.
                continue
            if entry["tick"] > last:
                last = entry["tick"]
                signals = {name: np.array(counts, dtype=np.float64) for name, counts in entry["signals"].items()}
                yield Interval(**{**entry, "signals": signals})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
