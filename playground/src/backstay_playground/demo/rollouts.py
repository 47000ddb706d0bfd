"""Following one bump to its end, with what an outside observer saw and when."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from backstay_playground.demo.stage import MODEL, Stage, Target
from backstay_playground.demo.traffic import Traffic
from backstay_playground.demo.watcher import Seen, Watcher, weights
from backstay_playground.errors import PlaygroundError

Progress = Callable[[dict[str, Any]], None]


def timestamp(at: float) -> str:
    """Write Unix seconds as RFC 3339 with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix(text: str) -> float:
    """Read RFC 3339 as Unix seconds."""
    return datetime.fromisoformat(text).timestamp()


@dataclass(frozen=True, slots=True)
class Promotion:
    """A version that was taken to full traffic: the weights that its Service carried, in order."""

    version: str
    commit: str
    weights: list[int]
    stable_at: float


@dataclass(frozen=True, slots=True)
class Rollback:
    """A version that went back, by the clock of an outside observer (Unix seconds).

    ``breach_at`` is when the version answered its first live request, ``drained_at`` when the API server carried weight
    0 for it, ``pushed_at`` and ``synced_at`` what the controller says of the commit.
    """

    bad: str
    good: str
    bad_commit: str
    commit: str
    reason: str
    merged_at: float
    breach_at: float
    drained_at: float
    pushed_at: float
    synced_at: float


class Observer:
    """Watches one environment's model and route."""

    def __init__(self, stage: Stage, target: Target) -> None:
        self.stage = stage
        self.target = target
        self.model: Watcher = stage.watch(target)
        self.route: Watcher = stage.watch_route(target)

    def stop(self) -> None:
        """Stop watching."""
        self.model.stop()
        self.route.stop()

    def status(self) -> dict[str, Any]:
        """Return the model's last status."""
        found: dict[str, Any] = self.model.latest().get("status", {})
        return found

    def wait_stable(self, version: str, *, timeout: float, since: float = 0.0) -> Seen:
        """Wait until a version is stable."""
        return self.model.wait(
            f"version {version} becomes stable",
            lambda body: (
                body.get("status", {}).get("phase") == "Stable"
                and body["status"].get("stable", {}).get("version") == version
                and body["status"].get("observedGeneration") == body["metadata"]["generation"]
                and body["spec"]["model"]["version"] == version
            ),
            timeout=timeout,
            since=since,
        )

    def promote(self, version: str, *, timeout: float = 180) -> Promotion:
        """Bump to a version and wait until it is stable."""
        begun = time.time()
        commit = self.stage.merge_bump(self.target, version)
        self.stage.refresh(self.target)
        revision = self.revision(version, since=begun, timeout=timeout)
        seen = self.wait_stable(version, timeout=timeout, since=begun)
        return Promotion(version, commit, self.weights_of(revision, since=begun), seen.at)

    def weights_of(self, revision: str, *, since: float = 0.0) -> list[int]:
        """List the weights that a revision has had, from its first request on, without repetitions."""
        shown: list[int] = []
        for state in self.route.states(since=since):
            weight = weights(state.body).get(f"{MODEL}-{revision}", 0)
            if (shown or weight) and (not shown or shown[-1] != weight):
                shown.append(weight)
        return shown

    def revision(self, version: str, *, since: float, timeout: float) -> str:
        """Wait for a version's rollout to start, and return its revision."""
        seen = self.model.wait(
            f"the rollout of version {version} starts",
            lambda body: body.get("status", {}).get("rollout", {}).get("version") == version,
            timeout=timeout,
            since=since,
        )
        return str(seen.body["status"]["rollout"]["revision"])

    def wait_weight(self, revision: str, *, timeout: float, since: float = 0.0) -> Seen:
        """Wait until a revision gets traffic."""
        return self.route.wait(
            f"revision {revision} gets traffic",
            lambda body: weights(body).get(f"{MODEL}-{revision}", 0) > 0,
            timeout=timeout,
            since=since,
        )

    def wait_drained(self, revision: str, *, timeout: float, since: float = 0.0) -> Seen:
        """Wait until a revision that got traffic gets none."""
        return self.route.wait(
            f"revision {revision} is drained",
            lambda body: weights(body).get(f"{MODEL}-{revision}", 0) == 0,
            timeout=timeout,
            since=since,
        )

    def wait_rolled_back(self, bad: str, *, timeout: float, since: float = 0.0) -> Seen:
        """Wait until a version is out of Git, and Argo CD has synced that."""
        return self.model.wait(
            f"version {bad} is rolled back",
            lambda body: (
                body.get("status", {}).get("phase") == "RolledBack"
                and body["status"].get("rollback", {}).get("state") == "Done"
                and body["status"]["rollback"].get("from") == bad
            ),
            timeout=timeout,
            since=since,
        )

    def roll_back(self, bad: str, traffic: Traffic, *, timeout: float = 180) -> Rollback:
        """Bump to a version that is bad, and wait until Git and cluster are back."""
        begun = time.time()
        bad_commit = self.stage.merge_bump(self.target, bad)
        merged_at = time.time()
        self.stage.refresh(self.target)
        revision = self.revision(bad, since=begun, timeout=timeout)
        on = self.wait_weight(revision, timeout=timeout, since=begun)
        off = self.wait_drained(revision, timeout=timeout, since=on.at)
        done = self.wait_rolled_back(bad, timeout=timeout, since=off.at)
        record = done.body["status"]["rollback"]
        answered = [answer.ended for answer in traffic.answers(since=begun - 1) if answer.version == bad]
        if not answered:
            raise PlaygroundError(f"Version {bad} was drained before it answered a request; the traffic is too thin")
        return Rollback(
            bad=bad,
            good=record["to"],
            bad_commit=bad_commit,
            commit=record["commit"],
            reason=record["reason"],
            merged_at=merged_at,
            breach_at=min(answered),
            drained_at=off.at,
            pushed_at=unix(record["pushedAt"]),
            synced_at=unix(record["syncedAt"]),
        )
