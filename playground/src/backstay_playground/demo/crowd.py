"""`make bench-crowd`: many models that fail at once in one repository, to which others push all the time."""

import json
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from rich.console import Console

from backstay.adapters.gitops.version_file import read_version_file
from backstay_playground.demo import idle_server
from backstay_playground.demo.clone import Clone
from backstay_playground.demo.controller import metrics
from backstay_playground.demo.rollouts import unix
from backstay_playground.demo.stage import MODEL, Pace, Stage, Target
from backstay_playground.demo.waiting import wait_until
from backstay_playground.errors import PlaygroundError
from backstay_playground.playground import Playground

GOOD, BAD = "1", "2"
WRITERS = 3
_PATIENCE = 600.0
# How long each of the others rests between two pushes, in seconds.
_BETWEEN_PUSHES = 0.5
_PACE = Pace(
    steps=({"weight": 20, "minDuration": "1h"}, {"weight": 100}),
    interval="5s",
    warmup="0s",
    warm_for="1s",
    baseline=False,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a crowd: seconds from the first failure on, and counts."""

    models: int
    failed_within: float
    drained: tuple[float, ...]
    pushed: tuple[float, ...]
    synced: tuple[float, ...]
    pushes: int
    attempts: int
    others: int

    def sentence(self) -> str:
        """Say it in a line."""
        drained = f"all drained after {max(self.drained):.1f} s"
        pushed = f"pushed after {min(self.pushed):.1f} to {max(self.pushed):.1f} s"
        return (
            f"{self.models} models failed within {self.failed_within:.1f} s: {drained}, {pushed}, last synced after "
            f"{max(self.synced):.1f} s (median {statistics.median(self.synced):.1f} s), in {self.pushes} pushes of "
            f"{self.attempts} attempts, beside {self.others} commits of {WRITERS} other writers"
        )


class Crowd:
    """Many environments of the example model, without traffic, in one repository."""

    def __init__(self, stage: Stage, size: int) -> None:
        self.stage = stage
        self.targets = [Target.named(f"crowd-{number:02}") for number in range(size)]
        self._objects = client.CustomObjectsApi(config.new_client_from_config(str(stage.playground.kubeconfig)))

    def deliver(self) -> None:
        """Let Argo CD deliver all of them, and wait until their first version is stable."""
        self.stage.pace = _PACE
        self.stage.change(self._write_overlays, f"{MODEL}: {len(self.targets)} environments")
        self.stage.deliver(*self.targets)
        self._wait("is stable", lambda status: status.get("phase") == "Stable")

    def bump(self) -> None:
        """Let Git declare the next version for all, and wait until each has traffic."""

        def edit(root: Path) -> None:
            for target in self.targets:
                file = root / target.version_file
                file.write_bytes(self.stage.with_version(file.read_bytes(), BAD))

        self.stage.change(edit, f"{MODEL}: version {BAD} everywhere")
        for target in self.targets:
            self.stage.refresh(target)
        self._wait("has traffic", lambda status: status.get("weight", 0) > 0 and status.get("step") == "1/2")

    def fail(self) -> tuple[float, float]:
        """Fail all of them as fast as the API server takes it; return when that began and ended (Unix seconds)."""
        begun = time.time()
        with ThreadPoolExecutor(max_workers=8) as threads:
            list(threads.map(self._abort, self.targets))
        return begun, time.time()

    def wait_synced(self) -> list[dict[str, Any]]:
        """Wait until Git and cluster are back, and return the rollbacks."""
        self._wait("is rolled back", lambda status: status.get("rollback", {}).get("state") == "Done")
        return [self.status(target)["rollback"] for target in self.targets]

    def status(self, target: Target) -> dict[str, Any]:
        """Read the status of one."""
        found: dict[str, Any] = self._get(target).get("status", {})
        return found

    def check(self, clone: Clone, others: dict[str, list[str]]) -> None:
        """Check that each has one rollback that changes its own file alone, and that nobody's commit is lost.

        Raises:
            PlaygroundError: naming what is wrong.
        """
        clone.update()
        rollbacks = clone.all_rollbacks()
        for target in self.targets:
            found = rollbacks.get(f"{target.namespace}/{MODEL}", [])
            check_rollback(clone, found, file=target.version_file, name=MODEL, good=GOOD, bad=BAD)
        on_branch = set(clone.git("rev-list", "HEAD").split())
        for writer, commits in others.items():
            if not set(commits) <= on_branch:
                raise PlaygroundError(f"Commits of {writer} are lost")

    def _write_overlays(self, root: Path) -> None:
        for target in self.targets:
            self.stage.write_overlay(root, target, GOOD)
            file = root / target.folder / "pace.yaml"
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
            document["spec"]["serving"]["template"] = _idle_template()
            file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def _abort(self, target: Target) -> None:
        rollout = self.status(target)["rollout"]["id"]
        patch = {"metadata": {"annotations": {"backstay.dev/abort": f"{rollout}: all fail at once"}}}
        self._objects.patch_namespaced_custom_object(
            "backstay.dev", "v1alpha1", target.namespace, "modeldeployments", MODEL, patch
        )

    def _get(self, target: Target) -> dict[str, Any]:
        try:
            found: Any = self._objects.get_namespaced_custom_object(
                "backstay.dev", "v1alpha1", target.namespace, "modeldeployments", MODEL
            )
        except client.ApiException:
            return {}
        return dict(found)

    def _wait(self, what: str, condition: Any) -> None:
        waiting = list(self.targets)

        def done() -> bool:
            waiting[:] = [target for target in waiting if not condition(self.status(target))]
            return not waiting

        try:
            wait_until(f"every model {what}", done, timeout=_PATIENCE)
        except PlaygroundError as problem:
            raise PlaygroundError(f"{problem}; {len(waiting)} left, such as {self.status(waiting[0])}") from None


@contextmanager
def other_writers(stage: Stage) -> Iterator[dict[str, list[str]]]:
    """Let three people push to the branch all the time; yields the commits of each."""
    commits: dict[str, list[str]] = {f"writer-{number}": [] for number in range(WRITERS)}
    stop = threading.Event()

    def write(name: str) -> None:
        with stage.clone() as clone:
            while not stop.is_set():
                count = len(commits[name])

                def edit(root: Path, count: int = count) -> None:
                    file = root / "teams" / f"{name}.txt"
                    file.parent.mkdir(exist_ok=True)
                    file.write_text(f"{count}\n", encoding="utf-8")

                # Whoever pushes this often loses races too; a person would try again.
                with suppress(PlaygroundError):
                    commits[name].append(clone.push(edit, f"{name}: {count}"))
                stop.wait(_BETWEEN_PUSHES)

    with ThreadPoolExecutor(max_workers=WRITERS) as threads:
        running = [threads.submit(write, name) for name in commits]
        try:
            yield commits
        finally:
            stop.set()
            for one in running:
                one.result()


def run(stage: Stage, size: int) -> Outcome:
    """Fail a crowd beside other writers, and check what became of it.

    Raises:
        PlaygroundError: a rollback is missing, doubled or wrong, or somebody's commit is lost.
    """
    crowd = Crowd(stage, size)
    crowd.deliver()
    crowd.bump()
    before = metrics(stage.playground)
    with other_writers(stage) as commits:
        begun, ended = crowd.fail()
        rollbacks = crowd.wait_synced()
    with stage.clone() as clone:
        crowd.check(clone, commits)
    after = metrics(stage.playground)
    pushes, attempts = (round(after[name] - before.get(name, 0.0)) for name in _COUNTERS)

    def seconds(stage_name: str) -> tuple[float, ...]:
        return tuple(unix(rollback[stage_name]) - begun for rollback in rollbacks)

    return Outcome(
        models=size,
        failed_within=ended - begun,
        drained=seconds("drainedAt"),
        pushed=seconds("pushedAt"),
        synced=seconds("syncedAt"),
        pushes=pushes,
        attempts=attempts,
        others=sum(len(found) for found in commits.values()),
    )


_COUNTERS = tuple(("backstay_git_pushes_total", (("outcome", outcome),)) for outcome in ("done", "tried"))


def bench(playground: Playground, *, console: Console, size: int, report: Path) -> None:
    """Bring the playground up, fail a crowd, and print and keep what became of it."""
    playground.up()
    stage = Stage(playground, _PACE)
    stage.train()
    playground.install_controller()
    stage.push_repository(GOOD)
    outcome = run(stage, size)
    console.print(outcome.sentence(), highlight=False)
    report.parent.mkdir(parents=True, exist_ok=True)
    fields = {name: getattr(outcome, name) for name in Outcome.__dataclass_fields__}
    report.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def check_rollback(  # noqa: PLR0913 - what is expected, by keyword
    clone: Clone, commits: list[str], *, file: str, name: str, good: str, bad: str
) -> None:
    """Check that a model's rollback is one commit that changes its own version file alone, to the good version.

    Raises:
        PlaygroundError: naming what is wrong.
    """
    if len(commits) != 1:
        raise PlaygroundError(f"{file} has {len(commits)} rollback commits, not one")
    if clone.files(commits[0]) != [file]:
        raise PlaygroundError(f"The rollback of {file} changed {clone.files(commits[0])}")
    declared = read_version_file(clone.show("HEAD", file), name=name)
    if declared.identity.version != good or [entry.version for entry in declared.rejected] != [bad]:
        raise PlaygroundError(f"{file} says {declared.identity.version} after the rollback")


def _idle_template() -> dict[str, Any]:
    container = {
        "name": "server",
        "image": "idle",
        "command": [sys.executable, "-I", str(Path(idle_server.__file__))],
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5},
    }
    # Kustomize merges a custom resource's maps, so what the base has of a pod is taken away by name.
    return {"spec": {"containers": [container], "volumes": None, "terminationGracePeriodSeconds": 1}}
