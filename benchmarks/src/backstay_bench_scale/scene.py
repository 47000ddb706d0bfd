"""A cluster with many models under one controller, on stand-ins for nodes, gateway and Prometheus."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from backstay_bench_scale.audit import Audit
from backstay_bench_scale.cluster import AcceptingGateway, ReadyNode
from backstay_bench_scale.contender import NAMESPACE, WEIGHT, Contender, name
from backstay_bench_scale.process import ControllerProcess
from backstay_bench_scale.prometheus import Evidence
from backstay_playground.errors import PlaygroundError
from backstay_playground.node.api import Api, Informer
from backstay_playground.playground import Playground

# So long, in seconds, nothing may become what is waited for.
_PATIENCE = 600.0
_LOOK_EVERY = 0.02
_PORTS = {
    "etcd": 31379,
    "etcd-peer": 31380,
    "kube-apiserver": 31443,
    "kube-controller-manager": 31257,
    "mlflow": 31500,
}
# With its own limit of 20 requests a second it would be the controller manager that is measured.
_MANAGER = (
    "--kube-api-qps=2000",
    "--kube-api-burst=4000",
    "--concurrent-deployment-syncs=20",
    "--concurrent-replicaset-syncs=20",
)
# It asks Git by itself as seldom as it does without settings, not every ten seconds as for a demo.
_ARGOCD = ("--app-resync=180",)


class Scene:
    """The cluster, seen through its own watches."""

    def __init__(self, api: Api, contender: Contender, controller: ControllerProcess, audit: Audit) -> None:
        self.contender = contender
        self.controller = controller
        self.audit = audit
        self.node = ReadyNode(api)
        self.gateway = AcceptingGateway(api) if "gateway-types" in contender.components else None
        self.stores = {path: Informer(api, path) for path in contender.watched}
        self.evidence = Evidence(self.node.pods.store.values)
        self.api = api

    async def run(self) -> None:
        """Keep what is seen up to date, and be node and gateway, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in (self.node, self.gateway, *self.stores.values()):
                if one is not None:
                    group.create_task(one.run())

    async def add(self, numbers: Iterable[int]) -> None:
        """Declare models of version 1 and wait until all are stable."""
        numbers = list(numbers)

        async def declare(number: int) -> None:
            for path, body in self.contender.objects(number):
                await self.api.request("POST", path, body=body)

        await self._all(numbers, declare)
        await self.wait("is stable", numbers, lambda number: self.contender.is_stable(self.stores, number), every=0.2)

    async def bump(self, numbers: Iterable[int]) -> None:
        """Declare version 2 of some and wait until each canary has its weight."""
        numbers = list(numbers)

        async def declare(number: int) -> None:
            await self.api.patch(*self.contender.bump(number))

        await self._all(numbers, declare)
        await self.wait("has traffic", numbers, lambda number: self.weight(number) == WEIGHT, every=0.2)

    async def wait_asked(self, numbers: Iterable[int]) -> float:
        """Wait until all canaries have been asked about since the controller started; return seconds from then."""
        begun = self.controller.started_at
        await self.wait("is judged", numbers, lambda number: self.evidence.asked.get(name(number), 0.0) > begun)
        return time.time() - begun

    def break_now(self, numbers: Iterable[int]) -> float:
        """Let canaries fail from now on; returns now."""
        now = time.time()
        self.evidence.bad.update((name(number), now) for number in numbers)
        return now

    async def drained(self, numbers: Iterable[int]) -> dict[int, float]:
        """Wait until all these canaries have weight 0; return when each had, in Unix seconds."""
        return await self.wait("is drained", numbers, lambda number: not self.weight(number))

    async def breach(self, numbers: Iterable[int]) -> list[tuple[float, float]]:
        """Let canaries fail now; return for each the seconds from then, and from the first bad answer, to weight 0."""
        numbers = list(numbers)
        begun = self.break_now(numbers)
        drained = await self.drained(numbers)
        return [(at - begun, at - self.evidence.told[name(number)]) for number, at in drained.items()]

    def weight(self, number: int) -> int:
        """Return the canary's share of a model's traffic in percent."""
        return self.contender.weight(self.stores, number)

    async def _all(self, numbers: Iterable[int], work: Callable[[int], Awaitable[Any]]) -> None:
        slots = asyncio.Semaphore(32)

        async def one(number: int) -> None:
            async with slots:
                await work(number)

        await asyncio.gather(*(one(number) for number in numbers))

    async def wait(
        self, what: str, numbers: Iterable[int], condition: Callable[[int], bool], *, every: float = _LOOK_EVERY
    ) -> dict[int, float]:
        """Wait until a condition holds for all; return since when (Unix seconds) it was seen to hold for each."""
        deadline, waiting, since = time.monotonic() + _PATIENCE, set(numbers), dict[int, float]()
        while True:
            now = time.time()
            reached = {number for number in waiting if condition(number)}
            since |= dict.fromkeys(reached, now)
            waiting -= reached
            if not waiting:
                return since
            if reached:
                deadline = time.monotonic() + _PATIENCE
            if time.monotonic() > deadline:
                raise PlaygroundError(
                    f"Of {len(waiting)} models none {what} within {_PATIENCE:g} s: {sorted(waiting)[:5]} ..."
                )
            await asyncio.sleep(every)


@asynccontextmanager
async def scene(contender: Contender, folder: Path) -> AsyncIterator[Scene]:
    """Bring everything up in a folder, and take it down."""
    audit = Audit(folder)
    arguments = {
        "kube-apiserver": audit.arguments,
        "kube-controller-manager": _MANAGER,
        "argocd-application-controller": _ARGOCD,
    }
    playground = Playground(
        folder / "playground", ports=_PORTS, console=Console(quiet=True), arguments=arguments, without=("node",)
    )
    async with AsyncExitStack() as ends:
        ends.push_async_callback(asyncio.to_thread, playground.down)
        await asyncio.to_thread(playground.up, contender.components)
        await asyncio.to_thread(playground.kubectl, "create", "namespace", NAMESPACE)
        await asyncio.to_thread(contender.install, playground)
        controller = await asyncio.to_thread(contender.process, playground, folder)
        api = await Api.open(playground.kubeconfig)
        ends.push_async_callback(api.close)
        found = Scene(api, contender, controller, audit)
        runner = await found.evidence.serve()
        ends.push_async_callback(runner.cleanup)
        running = asyncio.create_task(found.run())
        ends.push_async_callback(_cancel, running)
        ends.push_async_callback(asyncio.to_thread, controller.stop)
        controller.start()
        yield found


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
