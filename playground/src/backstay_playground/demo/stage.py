"""What demo, benchmark and end-to-end tests play on: registered models, a repository, Applications, bumps."""

import base64
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random

from backstay.adapters.gitops.version_file import read_version_file, restore
from backstay_playground.demo.clone import Clone, cloned
from backstay_playground.demo.traffic import Traffic, bodies
from backstay_playground.demo.watcher import MODEL_DEPLOYMENTS, ROUTES, Watcher
from backstay_playground.errors import PlaygroundError
from backstay_playground.layout import repository_root
from backstay_playground.playground import Playground

MODEL = "fraud-detector"
REPOSITORY = "models"
BRANCH = "main"
_ALREADY_THERE = 422


@dataclass(frozen=True, slots=True)
class Target:
    """One environment of the example model."""

    environment: str
    namespace: str
    hostname: str
    application: str

    @staticmethod
    def named(environment: str) -> "Target":
        """Name an environment that is made like production."""
        hostname = f"{environment}.{PRODUCTION.hostname}"
        return Target(environment, f"fraud-{environment}", hostname, f"{MODEL}-{environment}")

    @property
    def folder(self) -> str:
        """Return the overlay's folder in the repository."""
        return f"applications/{MODEL}/overlays/{self.environment}"

    @property
    def version_file(self) -> str:
        """Return the file that a version bump changes."""
        return f"{self.folder}/model-version.yaml"


STAGING = Target("staging", "fraud-staging", "staging.fraud-detector.example.com", f"{MODEL}-staging")
PRODUCTION = Target("production", "fraud-production", "fraud-detector.example.com", f"{MODEL}-production")


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version: what a version file needs to name it."""

    version: str
    digest: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast rollouts go here: minutes in production, seconds on this machine."""

    steps: tuple[dict[str, Any], ...] = (
        {"weight": 10, "minDuration": "6s", "minRequests": 20},
        {"weight": 25, "minDuration": "6s", "minRequests": 40},
        {"weight": 50, "minDuration": "6s", "minRequests": 80},
        {"weight": 100, "minDuration": "8s"},
    )
    interval: str = "2s"
    warmup: str = "3s"
    warm_for: str = "30s"
    replicas: int = 1
    baseline: bool = True
    progress_deadline: str = "10m"
    rescue_after: str = "2m"
    on_gate_failure: str = "hold"
    feature_schemas: tuple[str, ...] = ()
    incident: str = "none"
    config: tuple[tuple[str, str], ...] = ()
    write_back: str = "commit"
    merge: str = "automatic"
    promotion: dict[str, str] | None = None
    # None leaves the base's signals as they are.
    signals: tuple[dict[str, Any], ...] | None = None

    def patch(self) -> str:
        """Write the Kustomize patch that an overlay gets."""
        signals = {} if self.signals is None else {"signals": [dict(signal) for signal in self.signals]}
        promotion = {} if self.promotion is None else {"promotion": self.promotion}
        schemas = {"featureSchemaVersions": list(self.feature_schemas)} if self.feature_schemas else {}
        return yaml.safe_dump(
            {
                "apiVersion": "backstay.dev/v1alpha1",
                "kind": "ModelDeployment",
                "metadata": {"name": MODEL},
                "spec": {
                    "registry": {"onGateFailure": self.on_gate_failure, **schemas},
                    "serving": {"replicas": self.replicas, "config": dict(self.config)},
                    "rollout": {
                        "steps": [dict(step) for step in self.steps],
                        "baseline": {"enabled": self.baseline, "warmup": self.warmup},
                        "progressDeadline": self.progress_deadline,
                        "rescueAfter": self.rescue_after,
                    },
                    "analysis": {"interval": self.interval, **signals},
                    "rollback": {
                        "writeBack": self.write_back,
                        "merge": self.merge,
                        "warmFor": self.warm_for,
                        "incident": self.incident,
                    },
                    **promotion,
                },
            },
            sort_keys=False,
        )


class Stage:
    """The example model, delivered through Git into a running playground."""

    def __init__(self, playground: Playground, pace: Pace | None = None) -> None:
        self.playground = playground
        self.pace = pace or Pace()
        self.versions: dict[str, Version] = {}
        self.payloads: list[bytes] = []
        self.labels: list[int] = []

    def train(self, *, variants: bool = False) -> list[Version]:
        """Train and register the example versions (and its variants), unless they are registered already."""
        file, truth = (self.playground.layout.root / name for name in ("payloads.jsonl", "labels.txt"))
        command = [sys.executable, str(repository_root() / "pipelines" / "fraud_detector" / "train.py")]
        command += ["--tracking-uri", self.playground.mlflow_url, "--payloads", str(file)]
        command += ["--labels", str(truth)]
        command += ["--variants"] if variants else []
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise PlaygroundError(f"The example models could not be trained: {answer.stderr.strip()[-1500:]}")
        found = [Version(str(v["version"]), v["digest"], v["run_id"]) for v in json.loads(answer.stdout)]
        self.versions = {version.version: version for version in found}
        self.payloads = bodies(file.read_text(encoding="utf-8"))
        self.labels = [int(label) for label in truth.read_text(encoding="utf-8").split()]
        return found

    def push_repository(self, version: str = "1") -> str:
        """Push the example applications, at this pace and version, as the whole content of the GitOps repository."""
        with tempfile.TemporaryDirectory(prefix="backstay-demo-") as place:
            root = Path(place)
            shutil.copytree(repository_root() / "applications", root / "applications")
            for target in (STAGING, PRODUCTION):
                self._set_pace(root / target.folder)
                file = root / target.version_file
                file.write_bytes(self.with_version(file.read_bytes(), version))
            return self.playground.gitea.push_folder(root, repository=REPOSITORY, message="Serve the first version")

    def _set_pace(self, overlay: Path) -> None:
        (overlay / "pace.yaml").write_text(self.pace.patch(), encoding="utf-8")
        file = overlay / "kustomization.yaml"
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        document["patches"] = [*document.get("patches", []), {"path": "pace.yaml"}]
        file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def bump(self, clone: Clone, target: Target, version: str) -> str:
        """Bump an environment by pushing to the branch; return the commit."""

        def edit(root: Path) -> None:
            file = root / target.version_file
            file.write_bytes(self.with_version(file.read_bytes(), version))

        return clone.push(edit, f"{MODEL}: {target.environment} to version {version}")

    def with_version(self, text: bytes, version: str, *, digest: str = "") -> bytes:
        """Return a version file that declares a registered version."""
        known = self.versions[version]
        identity = read_version_file(text, name=MODEL).identity
        changed = replace(identity, version=version, digest=digest or known.digest, run_id=known.run_id)
        return restore(text, name=MODEL, identity=changed, reject=None, drop_retry=False)

    def add_environment(self, environment: str, version: str) -> Target:
        """Add an environment made like production, at this pace, to the repository, and let Argo CD deliver it."""
        target = Target.named(environment)
        self.change(
            lambda root: self.write_overlay(root, target, version), f"{MODEL}: serve version {version} in {environment}"
        )
        self.deliver(target)
        return target

    def write_overlay(self, root: Path, target: Target, version: str) -> None:
        """Write an environment made like production, at this pace, into a clone of the repository."""
        folder = root / target.folder
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(repository_root() / PRODUCTION.folder, folder)
        for name in ("kustomization.yaml", "settings.yaml"):
            text = (folder / name).read_text(encoding="utf-8")
            text = text.replace(PRODUCTION.namespace, target.namespace)
            text = text.replace(PRODUCTION.hostname, target.hostname)
            (folder / name).write_text(text, encoding="utf-8")
        self._set_pace(folder)
        file = root / target.version_file
        file.write_bytes(self.with_version(file.read_bytes(), version))

    def remove_environment(self, target: Target) -> None:
        """Take an environment away again, with everything in its namespace."""
        for kind, name in (("applications.argoproj.io", target.application), ("namespace", target.namespace)):
            self.playground.kubectl("delete", kind, name, "--namespace=argocd", "--ignore-not-found", "--wait=false")

    def clone(self) -> AbstractContextManager[Clone]:
        """Clone the GitOps repository for a while."""
        gitea = self.playground.gitea
        return cloned(gitea, f"{gitea.url}/models/{REPOSITORY}.git", BRANCH)

    def change(self, edit: Callable[[Path], None], message: str) -> str:
        """Change the repository as a person with a clone does, and push; return the commit."""
        with self.clone() as clone:
            return clone.push(edit, message)

    @contextmanager
    def protected_branch(self, *, approvals: int = 0) -> Iterator[None]:
        """Let nobody push to the branch for a while; pull requests are merged once they have their approvals."""
        gitea, base = self.playground.gitea, f"/repos/models/{REPOSITORY}/branch_protections"
        rule = {"rule_name": BRANCH, "enable_push": False, "required_approvals": approvals}
        rule |= {"block_admin_merge_override": True}
        _expect(gitea.call("POST", base, rule), "protect the branch")
        try:
            yield
        finally:
            gitea.call("DELETE", f"{base}/{BRANCH}")

    def deliver(self, *targets: Target) -> None:
        """Let Argo CD deliver these environments."""
        for target in targets:
            file = repository_root() / "applications" / "argocd" / f"{PRODUCTION.application}.yaml"
            text = file.read_text(encoding="utf-8")
            for name in ("application", "namespace", "folder"):
                text = text.replace(getattr(PRODUCTION, name), getattr(target, name))
            self.playground.kubectl.apply(text)

    def merge_bump(self, target: Target, version: str, *, digest: str = "") -> str:
        """Bump an environment by a merged pull request, to another digest than the true one where one is given.

        Returns:
            The commit on the branch.
        """
        changed = self.with_version(self.read(target.version_file), version, digest=digest)
        return self.merge(target.version_file, changed, f"{MODEL}: {target.environment} to version {version}")

    def read(self, path: str) -> bytes:
        """Read a file of the repository's branch."""
        answer = self.playground.gitea.call("GET", f"/repos/models/{REPOSITORY}/raw/{path}?ref={BRANCH}")
        if answer.is_error:
            raise PlaygroundError(f"Gitea has no file {path}: {answer.text[:300]}")
        return answer.content

    def merge(self, path: str, content: bytes, title: str) -> str:
        """Change one file by a pull request that is merged at once; return the commit on the branch."""
        gitea, base = self.playground.gitea, f"/repos/models/{REPOSITORY}"
        branch = f"change-{time.time_ns()}"
        sha = gitea.call("GET", f"{base}/contents/{path}?ref={BRANCH}").json()["sha"]
        change = {"content": _base64(content), "message": title, "new_branch": branch, "branch": BRANCH, "sha": sha}
        _expect(gitea.call("PUT", f"{base}/contents/{path}", change), f"change {path}")
        opened = _expect(
            gitea.call("POST", f"{base}/pulls", {"title": title, "head": branch, "base": BRANCH}), "open a pull request"
        )
        number = opened["number"]
        self.merge_pull(number, title)
        merged = _expect(gitea.call("GET", f"{base}/pulls/{number}"), "show the pull request")
        return str(merged["merge_commit_sha"])

    @retry(
        retry=retry_if_exception_type(PlaygroundError),
        wait=wait_random(0.05, 0.5),
        stop=stop_after_delay(60),
        reraise=True,
    )
    def merge_pull(self, number: int, title: str) -> None:
        """Merge a pull request as a person does, again and again.

        Gitea refuses while it still checks for conflicts, and when somebody pushes to the branch at that moment.
        """
        pull = f"/repos/models/{REPOSITORY}/pulls/{number}"
        body = {"Do": "squash", "MergeTitleField": title, "delete_branch_after_merge": True}
        answer = self.playground.gitea.call("POST", f"{pull}/merge", body)
        if answer.is_error:
            raise PlaygroundError(f"Gitea did not merge: {answer.status_code} {answer.text[:300]}")

    def rollback_pulls(self, rollback_id: str) -> list[dict[str, Any]]:
        """List the pull requests of a rollback, whatever became of them."""
        answer = self.playground.gitea.call("GET", f"/repos/models/{REPOSITORY}/pulls?state=all&limit=50")
        pulls: list[dict[str, Any]] = _expect(answer, "list its pull requests")
        return [pull for pull in pulls if rollback_id in pull["head"]["label"]]

    def approve(self, pull: dict[str, Any], *, reviewer: str = "reviewer") -> None:
        """Approve a pull request as a person other than its author."""
        gitea, base = self.playground.gitea, f"/repos/models/{REPOSITORY}"
        person = {"username": reviewer, "email": f"{reviewer}@playground.invalid", "password": secrets.token_urlsafe()}
        answer = gitea.call("POST", "/admin/users", {**person, "must_change_password": False})
        if answer.status_code != _ALREADY_THERE:
            _expect(answer, f"make the account {reviewer}")
        answer = gitea.call("PUT", f"{base}/collaborators/{reviewer}", {"permission": "write"})
        if answer.is_error:
            raise PlaygroundError(f"Gitea did not let {reviewer} in: {answer.text[:300]}")
        review = {"event": "APPROVED", "body": "Take it back.", "commit_id": pull["head"]["sha"]}
        path = f"{base}/pulls/{pull['number']}/reviews?sudo={reviewer}"
        _expect(gitea.call("POST", path, review), "approve the pull request")

    def close_pull(self, number: int) -> None:
        """Close a pull request without merging it, as a person does."""
        path = f"/repos/models/{REPOSITORY}/pulls/{number}"
        _expect(self.playground.gitea.call("PATCH", path, {"state": "closed"}), "close the pull request")

    def refresh(self, target: Target) -> None:
        """Tell Argo CD to look at Git, as a forge's webhook does."""
        self.playground.kubectl(
            "annotate",
            "--overwrite",
            "applications.argoproj.io",
            target.application,
            "--namespace=argocd",
            "argocd.argoproj.io/refresh=normal",
        )

    def watch(self, target: Target) -> Watcher:
        """Watch an environment's ModelDeployment."""
        return Watcher(self.playground.kubeconfig, MODEL_DEPLOYMENTS, namespace=target.namespace, name=MODEL).start()

    def watch_route(self, target: Target) -> Watcher:
        """Watch an environment's HTTPRoute."""
        return Watcher(self.playground.kubeconfig, ROUTES, namespace=target.namespace, name=MODEL).start()

    def traffic(self, target: Target, *, rate: float) -> Traffic:
        """Make the requests for an environment; ``start`` starts them."""
        return Traffic(self.playground.gateway_url, host=target.hostname, bodies=self.payloads, rate=rate)

    def application(self, target: Target) -> dict[str, Any]:
        """Read an environment's Argo CD Application."""
        text = self.playground.kubectl(
            "get", "applications.argoproj.io", target.application, "--namespace=argocd", "--output=json"
        )
        document: dict[str, Any] = json.loads(text)
        return document


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _expect(answer: Any, what: str) -> Any:
    if answer.is_error:
        raise PlaygroundError(f"Gitea did not {what}: {answer.status_code} {answer.text[:300]}")
    return answer.json()
