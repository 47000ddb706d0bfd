"""Models that Git declares and Argo CD delivers: many fail at once, until the last commit is synced."""

import asyncio
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from backstay.adapters.argocd import refresh_patch
from backstay_bench_scale.contender import NAMESPACE, NEW, OLD, Object, Stores, name
from backstay_bench_scale.ours import Backstay
from backstay_bench_scale.report import spread
from backstay_bench_scale.scene import Scene, scene
from backstay_playground.demo.clone import cloned
from backstay_playground.demo.crowd import check_rollback
from backstay_playground.demo.rollouts import unix
from backstay_playground.gitea import Gitea
from backstay_playground.layout import repository_root, write_private
from backstay_playground.playground import Playground

# How long it takes until the last of them fails, in seconds.
_WITHIN = 10.0
_APPLICATIONS = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications"
_REPOSITORY = "models"
_TEMPLATE = repository_root() / "applications" / "argocd" / "fraud-detector-production.yaml"


class Delivered(Backstay):
    """This project's controller, with Gitea, and with an Argo CD Application for each model."""

    components = (
        *Backstay.components,
        *("gitea-account", "argocd-repo-server", "argocd-application-controller"),
    )

    def __init__(self, models: int) -> None:
        """Prepare for so many models."""
        super().__init__(models)
        self._gitea: Gitea | None = None

    @property
    def gitea(self) -> Gitea:
        """The forge of the playground that this was installed in."""
        if self._gitea is None:
            raise RuntimeError("install comes first")
        return self._gitea

    @property
    def url(self) -> str:
        """Return the repository's address."""
        return f"{self.gitea.url}/models/{_REPOSITORY}.git"

    def install(self, playground: Playground) -> None:
        """Push the repository besides."""
        super().install(playground)
        self._gitea = playground.gitea
        with tempfile.TemporaryDirectory(prefix="backstay-scale-") as place:
            for number in range(self._models):
                self._write(Path(place) / _folder(number), number)
            self.gitea.push_folder(Path(place), repository=_REPOSITORY, message=f"{self._models} models")

    def _write(self, folder: Path, number: int) -> None:
        model = self.declared(number)
        del model["metadata"]["namespace"], model["spec"]["model"]
        files = {
            "kustomization.yaml": {
                "namespace": NAMESPACE,
                "resources": ["modeldeployment.yaml"],
                "patches": [{"path": "model-version.yaml"}],
            },
            "modeldeployment.yaml": model,
        }
        folder.mkdir(parents=True)
        for file, content in files.items():
            (folder / file).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        (folder / "model-version.yaml").write_text(self._version(number, OLD), encoding="utf-8")

    def _version(self, number: int, version: str) -> str:
        model = self.declared(number)
        model["spec"] = {"model": {**model["spec"]["model"], "version": version}}
        del model["metadata"]["namespace"]
        return yaml.safe_dump(model, sort_keys=False)

    def declare(self, version: str) -> None:
        """Push another version of all models."""

        def edit(root: Path) -> None:
            for number in range(self._models):
                (root / _file(number)).write_text(self._version(number, version), encoding="utf-8")

        with cloned(self.gitea, self.url, "main") as clone:
            clone.push(edit, f"Version {version} everywhere")

    def objects(self, number: int) -> list[tuple[str, Object]]:
        """Return the example's Application for one model."""
        application = yaml.safe_load(_TEMPLATE.read_text(encoding="utf-8"))
        meta, spec = application["metadata"], application["spec"]
        meta |= {"name": name(number), "annotations": {"argocd.argoproj.io/manifest-generate-paths": "."}}
        spec["source"] = {"repoURL": self.url, "targetRevision": "main", "path": _folder(number)}
        spec["destination"]["namespace"] = NAMESPACE
        return [(_APPLICATIONS, application)]

    def bump(self, number: int, version: str = NEW) -> tuple[str, Object]:
        """Tell Argo CD of a push, as a forge's webhook does."""
        del version
        return f"{_APPLICATIONS}/{name(number)}", refresh_patch()

    def rollback(self, stores: Stores, number: int) -> dict[str, Any]:
        """Return the record of a model's rollback; an empty one while there is none."""
        record: dict[str, Any] = self.status(stores, number).get("rollback", {})
        return record

    def _variables(self, playground: Playground, folder: Path) -> dict[str, str]:
        credentials = folder / "credentials"
        credentials.mkdir()
        for key, value in {
            "url": f"{self.gitea.url}/",
            "username": self.gitea.user,
            "password": self.gitea.token,
            "forge": "gitea",
        }.items():
            write_private(credentials / f"playground.{key}", value)
        return super()._variables(playground, folder) | {
            "BACKSTAY_GIT_CREDENTIALS": str(credentials),
            "PATH": f"{playground.layout.bin}:/usr/local/bin:/usr/bin:/bin",
        }


async def crowd(models: int, console: Console) -> dict[str, Any]:
    """Let all of many canaries fail within ten seconds, and wait until Git and cluster have the version before.

    Returns:
        Figures to print, in seconds from the first failure on; three numbers are a minimum, a median and a maximum.

    Raises:
        PlaygroundError: a rollback is missing, doubled or wrong.
    """
    contender = Delivered(models)
    with tempfile.TemporaryDirectory(prefix="backstay-scale-") as place:
        async with scene(contender, Path(place)) as stage:
            await _bring_up(stage, contender, models, console)
            begun = time.time()
            watching = asyncio.create_task(stage.drained(range(models)))
            for number in range(models):
                stage.break_now([number])
                await asyncio.sleep(_WITHIN / models)
            drained = await watching
            console.print("  all are drained", highlight=False)
            rollback = partial(contender.rollback, stage.stores)
            await stage.wait("is synced", range(models), lambda number: rollback(number).get("state") == "Done")
            records = [rollback(number) for number in range(models)]
            await asyncio.to_thread(_check, contender, models)
    pushed, synced = ([unix(record[what]) for record in records] for what in ("pushedAt", "syncedAt"))
    late = sum(at > min(pushed) for at in drained.values())
    return {
        "crowd": f"{models} models",
        "drained": spread([at - begun for at in drained.values()]),
        "drained after the first push": late,
        "pushed": spread([at - begun for at in pushed]),
        "synced": spread([at - begun for at in synced]),
        "commits in Git, each right": len(records),
    }


async def _bring_up(stage: Scene, contender: Delivered, models: int, console: Console) -> None:
    await stage.add(range(models))
    console.print(f"  {models} models are stable", highlight=False)
    await asyncio.to_thread(contender.declare, NEW)
    await stage.bump(range(models))
    await stage.wait_asked(range(models))
    console.print(f"  {models} canaries are live", highlight=False)


def _check(contender: Delivered, models: int) -> None:
    """Check that each model has one rollback that changes its own file alone."""
    with cloned(contender.gitea, contender.url, "main") as clone:
        commits = clone.all_rollbacks()
        for number in range(models):
            found = commits.get(f"{NAMESPACE}/{name(number)}", [])
            check_rollback(clone, found, file=_file(number), name=name(number), good=OLD, bad=NEW)


def _folder(number: int) -> str:
    return f"models/{name(number)}"


def _file(number: int) -> str:
    return f"{_folder(number)}/model-version.yaml"
