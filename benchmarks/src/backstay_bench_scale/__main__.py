"""`make bench-scale`: live canaries by the hundred under one controller: memory, processor, queries, drains."""

import asyncio
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil
import typer
from rich.console import Console
from rich.table import Table

from backstay_bench_scale.cluster import AcceptingGateway, ReadyNode
from backstay_bench_scale.prometheus import NEW, Evidence
from backstay_playground.environment import environment
from backstay_playground.errors import PlaygroundError
from backstay_playground.layout import repository_root
from backstay_playground.node.api import Api, Informer
from backstay_playground.playground import Playground

_CONSOLE = Console()
_NAMESPACE = "scale"
_MODEL = "scale"
_INTERVAL = 5.0
_WEIGHT = 20
_PATIENCE = 900.0
_MODELS = f"/apis/backstay.dev/v1alpha1/namespaces/{_NAMESPACE}/modeldeployments"
_PORTS = {
    "etcd": 31379,
    "etcd-peer": 31380,
    "kube-apiserver": 31443,
    "kube-controller-manager": 31257,
    "mlflow": 31500,
}
_PROMETHEUS, _METRICS, _HEALTH = 31090, 31082, 31081


class Scene:
    """A cluster with many models, and one controller."""

    def __init__(self, playground: Playground, api: Api, controller: psutil.Process) -> None:
        self.playground = playground
        self.api = api
        self.controller = controller
        self.node = ReadyNode(api)
        self.gateway = AcceptingGateway(api)
        self.models = Informer(api, "/apis/backstay.dev/v1alpha1/modeldeployments")
        self.evidence = Evidence(self.node.pods.store.values)

    async def add(self, count: int) -> None:
        """Declare models of version 1 and wait until all are stable."""
        await self._all(
            count, lambda number: self.api.request("POST", _MODELS, body=_declared(number, self.playground.mlflow_url))
        )
        await self._wait("is stable", count, lambda status: status.get("phase") == "Stable")

    async def bump(self, count: int) -> None:
        """Declare version 2 everywhere and wait until every canary has its weight."""
        change = {"spec": {"model": {"version": NEW}}}
        await self._all(count, lambda number: self.api.patch(f"{_MODELS}/{_name(number)}", change))
        await self._wait("has traffic", count, lambda status: status.get("weight") == _WEIGHT)

    async def wait_judged(self, count: int) -> None:
        """Wait until there is a verdict on every canary."""
        await self._wait("is judged", count, lambda status: status.get("verdict") in ("Pass", "Inconclusive"))

    async def breach(self, numbers: list[int]) -> list[tuple[float, float]]:
        """Let canaries fail now; return for each the seconds from then, and from the first bad answer, to weight 0."""
        backends = {
            number: f"{_name(number)}-{self.models.store[_NAMESPACE, _name(number)]['status']['rollout']['revision']}"
            for number in numbers
        }
        begun = time.time()
        for number in numbers:
            self.evidence.bad[_name(number)] = begun
        drained: dict[int, float] = {}
        while len(drained) < len(numbers):
            if time.time() > begun + _PATIENCE:
                raise PlaygroundError(f"{len(numbers) - len(drained)} of {len(numbers)} were not drained")
            for number in numbers:
                if number not in drained and not self._weight(number, backends[number]):
                    drained[number] = time.time()
            await asyncio.sleep(0.01)
        return [(at - begun, at - self.evidence.told[_name(number)]) for number, at in drained.items()]

    def _weight(self, number: int, backend: str) -> int:
        route = self.gateway.routes.store[_NAMESPACE, _name(number)]
        refs = route["spec"]["rules"][0]["backendRefs"]
        return next((int(ref["weight"]) for ref in refs if ref["name"] == backend), 0)

    async def _all(self, count: int, work: Any) -> None:
        slots = asyncio.Semaphore(32)

        async def one(number: int) -> None:
            async with slots:
                await work(number)

        await asyncio.gather(*(one(number) for number in range(count)))

    async def _wait(self, what: str, count: int, condition: Any) -> None:
        deadline = time.monotonic() + _PATIENCE
        while True:
            waiting = [model for model in self.models.store.values() if not condition(model.get("status", {}))]
            if not waiting and len(self.models.store) == count:
                return
            if time.monotonic() > deadline:
                raise PlaygroundError(
                    f"Not every model {what}: {waiting[0].get('status') if waiting else 'none there'}"
                )
            await asyncio.sleep(0.1)


def _name(number: int) -> str:
    return f"model-{number:05}"


def _declared(number: int, registry: str) -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "server", "image": "server:1"}]}}
    steps = [{"weight": _WEIGHT, "minDuration": "24h"}, {"weight": 100}]
    return {
        "apiVersion": "backstay.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": _name(number), "namespace": _NAMESPACE},
        "spec": {
            "model": {"name": _MODEL, "version": "1"},
            "registry": {"uri": registry},
            "serving": {"template": template},
            "traffic": {
                "gatewayAPI": {
                    "gateway": {"name": "models", "namespace": "gateways"},
                    "hostnames": [f"{_name(number)}.example.com"],
                }
            },
            "rollout": {"steps": steps, "baseline": {"warmup": "0s"}, "deadline": "48h"},
            "analysis": {"interval": f"{_INTERVAL:g}s"},
        },
    }


@asynccontextmanager
async def _scene(folder: Path) -> AsyncIterator[Scene]:
    playground = Playground(folder, ports=_PORTS, console=Console(quiet=True))
    try:
        await asyncio.to_thread(playground.up, ["kube-controller-manager", "gateway-types", "mlflow"])
        await asyncio.to_thread(_install, playground)
        api = await Api.open(playground.kubeconfig)
        process = await asyncio.to_thread(_controller, playground, folder)
        scene = Scene(playground, api, psutil.Process(process.pid))
        runner = await scene.evidence.serve(_PROMETHEUS)
        tasks = [asyncio.create_task(one.run()) for one in (scene.node, scene.gateway, scene.models)]
        try:
            yield scene
        finally:
            process.terminate()
            process.wait(timeout=30)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await runner.cleanup()
            await api.close()
    finally:
        await asyncio.to_thread(playground.down)


def _install(playground: Playground) -> None:
    config = repository_root() / "operator" / "config"
    playground.kubectl("apply", "--server-side", "-k", str(config / "crd"))
    playground.kubectl("wait", "--for=condition=Established", "crd/modeldeployments.backstay.dev")
    for namespace in (_NAMESPACE, "backstay-system"):
        playground.kubectl("create", "namespace", namespace)
    for what, content in (
        ("registered-models", {"name": _MODEL}),
        *[("model-versions", {"name": _MODEL, "source": "s3://models.example.com/scale"})] * 2,
    ):
        url = f"{playground.mlflow_url}/api/2.0/mlflow/{what}/create"
        httpx.post(url, json=content, trust_env=False, timeout=30).raise_for_status()


def _controller(playground: Playground, folder: Path) -> subprocess.Popen[bytes]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "BACKSTAY"))}
    variables = {
        **kept,
        "KUBECONFIG": str(playground.kubeconfig),
        "BACKSTAY_CLUSTER_NAME": "scale",
        "BACKSTAY_STATE": str(folder / "state"),
        "BACKSTAY_PROMETHEUS_URL": f"http://127.0.0.1:{_PROMETHEUS}",
        "NO_PROXY": "127.0.0.1",
        "POD_IP": "127.0.0.1",
        "BACKSTAY_HEALTH_PORT": str(_HEALTH),
        "BACKSTAY_METRICS_PORT": str(_METRICS),
        "PYTHONPATH": str(repository_root() / "operator" / "src"),
    }
    # With what is in the image alone: the project's own environment has more, which MLflow would load.
    python = environment(repository_root() / "requirements" / "controller.txt") / "bin" / "python"
    with (folder / "controller.log").open("wb") as log:
        return subprocess.Popen(
            [str(python), "-m", "backstay.controller"], env=variables, stdout=log, stderr=subprocess.STDOUT
        )


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def _measure(count: int, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="backstay-scale-") as place:
        async with _scene(Path(place)) as scene:
            begun = time.monotonic()
            await scene.add(count)
            stable = time.monotonic() - begun
            begun = time.monotonic()
            await scene.bump(count)
            live = time.monotonic() - begun
            await scene.wait_judged(count)
            before, at = _seconds(scene.controller), time.monotonic()
            queries, told = scene.evidence.queries, scene.evidence.bytes
            await asyncio.sleep(seconds)
            minutes = (time.monotonic() - at) / 60
            figures: dict[str, Any] = {
                "live canaries": count,
                "stable after, s": round(stable, 1),
                "live after, s": round(live, 1),
                "memory, MiB": round(scene.controller.memory_info().rss / 2**20),
                "CPU s/min": round((_seconds(scene.controller) - before) / minutes, 2),
                "queries/min": round((scene.evidence.queries - queries) / minutes, 1),
                "MB read/min": round((scene.evidence.bytes - told) / minutes / 1e6, 2),
            }
            single = []
            for number in range(min(8, count // 4)):
                await asyncio.sleep(random.uniform(0, _INTERVAL))  # noqa: S311 - at no fixed place in the tick
                single += await scene.breach([number])
            crowd = await scene.breach(list(range(count // 4, count // 4 + min(20, count // 4))))
            for what, times in (("breach", single), (f"{len(crowd)} breaches", crowd)):
                for name, values in zip(("-> 0", "bad answer -> 0"), zip(*times, strict=True), strict=True):
                    words = f"{min(values):.2f} / {statistics.median(values):.2f} / {max(values):.2f}"
                    figures[f"{what} {name}, s"] = words
            return figures


def bench(
    sizes: Annotated[
        list[int] | None, typer.Argument(help="How many live canaries; several one after the other.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=5, help="How long each is watched at rest.")] = 60.0,
) -> None:
    """Measure one controller with many live canaries on this machine."""
    found = []
    for size in sizes or [50, 200]:
        found.append(asyncio.run(_measure(size, seconds)))
        _CONSOLE.print(json.dumps(found[-1]))
    table = Table("", *(str(one["live canaries"]) for one in found))
    for what in list(found[0])[1:]:
        table.add_row(what, *(str(one.get(what, "")) for one in found))
    _CONSOLE.print(table)


if __name__ == "__main__":
    typer.run(bench)
