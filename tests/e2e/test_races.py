"""Others at work at the same time: people who push, a newer version, a second controller."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from backstay_playground.demo.controller import scale_controller
from backstay_playground.demo.stage import MODEL, Stage
from backstay_playground.demo.traffic import Traffic, tally

pytestmark = pytest.mark.e2e

# Bounded: more pushes than this can come during a rollback on no machine.
MOST_PUSHES = 60
PAUSE = 0.3


@dataclass
class Writer:
    """Somebody who pushes a file of another model to the same branch, again and again."""

    stage: Stage
    name: str
    stop: threading.Event
    commits: list[str] = field(default_factory=list)
    problems: list[Exception] = field(default_factory=list)

    def run(self) -> None:
        try:
            with self.stage.clone() as clone:
                while not self.stop.is_set() and len(self.commits) < MOST_PUSHES:
                    self.commits.append(clone.push(self._edit, f"{self.name}: note {len(self.commits)}"))
                    self.stop.wait(PAUSE)
        except Exception as problem:  # noqa: BLE001 - the test that waits for this thread shows it
            self.problems.append(problem)

    def _edit(self, root: Path) -> None:
        folder = root / "notes" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{len(self.commits)}.txt").write_text(f"{self.name}\n", encoding="utf-8")


@contextmanager
def writing(stage: Stage, *names: str) -> Iterator[list[Writer]]:
    stop = threading.Event()
    writers = [Writer(stage, name, stop) for name in names]
    threads = [threading.Thread(target=writer.run, name=writer.name) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        yield writers
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=60)
    assert [writer.problems for writer in writers] == [[] for _ in writers]


def test_other_peoples_pushes_are_kept_and_the_rollback_is_one_commit(deliver: Any) -> None:
    delivery = deliver("1")
    traffic = delivery.traffic()
    with writing(delivery.stage, "ada", "grace", "edsger") as writers:
        rollback = delivery.observer.roll_back("3", traffic)
    with delivery.stage.clone() as clone:
        assert clone.rollbacks(f"{delivery.target.namespace}/{MODEL}") == [rollback.commit]
        assert clone.files(rollback.commit) == [delivery.target.version_file]
        branch = set(clone.git("log", "--format=%H").split())
        for writer in writers:
            assert writer.commits
            assert set(writer.commits) <= branch
            kept = {file.name for file in (clone.folder / "notes" / writer.name).iterdir()}
            assert kept == {f"{number}.txt" for number in range(len(writer.commits))}
    _nothing_lost(traffic, drained_at=rollback.drained_at)


@pytest.mark.parametrize("when", ["at-its-first-weight", "after-the-drain"])
def test_a_newer_version_pushed_during_a_rollback_wins_and_the_bad_one_stays_rejected(deliver: Any, when: str) -> None:
    delivery = deliver("1", name=f"newer-{when}")
    observer, stage, playground = delivery.observer, delivery.stage, delivery.stage.playground
    traffic = delivery.traffic()
    begun = time.time()
    with stage.clone() as clone:
        stage.merge_bump(delivery.target, "3")
        stage.refresh(delivery.target)
        revision = observer.revision("3", since=begun, timeout=60)
        on = observer.wait_weight(revision, timeout=120, since=begun)
        if when == "at-its-first-weight":
            # Without Argo CD, so that the cluster cannot hear of version 2 before version 3 has failed.
            playground.stop("argocd-application-controller")
            try:
                stage.bump(clone, delivery.target, "2")
                off = observer.wait_drained(revision, timeout=120, since=on.at)
            finally:
                playground.start("argocd-application-controller")
        else:
            off = observer.wait_drained(revision, timeout=120, since=on.at)
            stage.bump(clone, delivery.target, "2")
        stage.refresh(delivery.target)
        observer.wait_stable("2", timeout=180, since=off.at)
        delivery.wait_until_synced()

        clone.update()
        assert len(clone.rollbacks(f"{delivery.target.namespace}/{MODEL}")) == 1
        model = yaml.safe_load(clone.show("HEAD", delivery.target.version_file))["spec"]["model"]
    assert model["version"] == "2"
    assert [entry["version"] for entry in model["rejectedVersions"]] == ["3"]
    assert [entry["version"] for entry in delivery.model()["status"]["rejected"]] == ["3"]
    _nothing_lost(traffic, drained_at=off.at)


def test_two_controllers_promote_and_roll_back_like_one(deliver: Any) -> None:
    delivery = deliver("1")
    playground = delivery.stage.playground
    traffic = delivery.traffic()
    scale_controller(playground, 2)
    try:
        promotion = delivery.observer.promote("2")
        rollback = delivery.observer.roll_back("3", traffic)
    finally:
        scale_controller(playground, 1)
    assert promotion.weights == [20, 50, 100]
    assert rollback.good == "2"
    with delivery.stage.clone() as clone:
        assert clone.rollbacks(f"{delivery.target.namespace}/{MODEL}") == [rollback.commit]
    _nothing_lost(traffic, drained_at=rollback.drained_at)


def _nothing_lost(traffic: Traffic, *, drained_at: float) -> None:
    """Every request was answered, with an error by version 3 alone, and by version 3 at most until it was drained."""
    traffic.stop()
    seen = tally(traffic.answers())
    assert seen.lost == 0
    assert [version for version, outcome in seen.answers.items() if outcome["error"] and version != "3"] == []
    assert "3" not in tally(traffic.answers(since=drained_at + 1)).answers
