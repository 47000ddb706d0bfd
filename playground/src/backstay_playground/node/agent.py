"""The node as a whole: informers feed the scheduler, the pods, the hosts file and the service proxy."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from backstay_playground.node.actions import Means
from backstay_playground.node.addresses import Addresses
from backstay_playground.node.api import Absent, Api, Change, Informer, Json, Present
from backstay_playground.node.environment import Objects
from backstay_playground.node.hosts import write_in_place
from backstay_playground.node.launch import Surroundings
from backstay_playground.node.life import Life
from backstay_playground.node.pod import Facilities, Pod
from backstay_playground.node.process import Ledger, kill_session
from backstay_playground.node.proxy import ServiceProxy
from backstay_playground.node.registration import Registration
from backstay_playground.node.scheduler import Scheduler
from backstay_playground.node.warm import WarmStart

if TYPE_CHECKING:
    from backstay_playground.processes import Identity

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How the node is run.

    Args:
        kubeconfig: The cluster and an administrator's credentials.
        state: The folder for everything the node keeps.
        logs: The folder for the containers' output.
        images: The JSON file that maps image names to command words.
        port: The port of /healthz and /pods on 127.0.0.1.
        name: The Node object's name.
        pod_network: The pods' addresses, inside 127.0.0.0/8.
        warm: Libraries that are imported once for all pods.
        stop_pods_on_exit: End all pods when the node ends.
    """

    kubeconfig: Path
    state: Path
    logs: Path
    images: Path
    port: int
    name: str
    pod_network: IPv4Network
    warm: Sequence[str]
    stop_pods_on_exit: bool


def ledger_folder(state: Path) -> Path:
    """Return where a node with this state folder records its processes."""
    return state / "processes"


class Agent:
    """A running node; `run` is its life.

    Args:
        settings: How it is run.
        api: The API server.
        means: What probes and hooks are performed with.
    """

    def __init__(self, settings: Settings, api: Api, means: Means) -> None:
        self._settings = settings
        self._pods: dict[str, Pod] = {}
        self._lives: dict[str, asyncio.Task[None]] = {}
        self._pod_informer = Informer(api, "/api/v1/pods")
        self._services = Informer(api, "/api/v1/services")
        self._config_maps = Informer(api, "/api/v1/configmaps")
        self._secrets = Informer(api, "/api/v1/secrets")
        self._scheduler = Scheduler(
            api, node=settings.name, labels=lambda: self._registration.labels, pods=lambda: self._pod_informer.store
        )
        self._registration = Registration(api, settings.name, self._scheduler.wake)
        self._proxy = ServiceProxy(self._pods.values)
        self._hosts = settings.state / "hosts"
        self._ledger = Ledger(ledger_folder(settings.state))
        self._warm = WarmStart(settings.warm)
        self._found: dict[str, dict[str, Identity]] = {}
        self._facilities = Facilities(
            api=api,
            surroundings=Surroundings(
                images=settings.images,
                hosts=self._hosts,
                logs=settings.logs,
                objects=Objects(self._config_maps.store, self._secrets.store),
                api_server=api.address,
            ),
            folder=settings.state / "pods",
            addresses=Addresses(settings.pod_network, cursor=settings.state / "next-address"),
            ledger=self._ledger,
            means=means,
            warm=self._warm,
        )

    @property
    def _informers(self) -> tuple[Informer, ...]:
        return (self._pod_informer, self._services, self._config_maps, self._secrets)

    async def run(self, stop: asyncio.Event) -> None:
        """Be the node until `stop` is set; the pods' processes stay, unless the settings say otherwise."""
        if not self._hosts.exists():
            write_in_place(self._hosts, [])
        serving = await self._serve()
        tasks = [asyncio.create_task(each.run()) for each in self._informers]
        tasks += [asyncio.create_task(self._registration.run()), asyncio.create_task(self._follow())]
        stopping = asyncio.create_task(stop.wait())
        try:
            ended, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            await serving.cleanup()
            await _cancel([stopping, *tasks, *self._lives.values()])
        if self._settings.stop_pods_on_exit:
            await asyncio.gather(*(Life(pod).stop() for pod in self._pods.values()))
        self._warm.close()

    async def _follow(self) -> None:
        """Do the node's work as soon as it knows the cluster; never returns."""
        for informer in self._informers:
            await informer.synced.wait()
        await self._registration.registered.wait()
        self._begin()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._scheduler.run())
            group.create_task(self._proxy.run())

    def _begin(self) -> None:
        """Adopt what an earlier node left, end what no pod stands behind, and follow all changes from here on."""
        known = {pod["metadata"]["uid"] for pod in self._pod_informer.store.values()}
        for owner, identity in self._ledger.load().items():
            if owner.uid in known:
                self._found.setdefault(owner.uid, {})[owner.container] = identity
            else:
                logger.info("%s: its pod is gone, the process is ended", owner)
                kill_session(identity)
                self._ledger.forget(owner)
        self._services.listen(self._on_service)
        self._pod_informer.listen(self._on_pod)
        self._found.clear()
        for informer in (self._config_maps, self._secrets):
            informer.listen(self._on_config)

    def _on_service(self, change: Change) -> None:
        write_in_place(self._hosts, self._services.store.values())
        self._proxy.on_change(change)

    def _on_config(self, change: Change) -> None:
        namespace = change.object["metadata"]["namespace"]
        for pod in self._pods.values():
            if pod.namespace == namespace:
                pod.refresh_volumes()

    def _on_pod(self, change: Change) -> None:
        uid = change.object["metadata"]["uid"]
        match change:
            case Absent():
                if uid in self._pods:
                    self._pods[uid].forget()
            case Present(pod):
                if pod["spec"].get("nodeName") == self._settings.name:
                    self._on_own_pod(uid, pod)
                elif not pod["spec"].get("nodeName"):
                    self._scheduler.wake()

    def _on_own_pod(self, uid: str, pod: Json) -> None:
        if uid in self._pods:
            self._pods[uid].update(pod)
        elif uid not in self._lives:
            own = self._pods[uid] = Pod(pod, self._facilities)
            own.resume(self._found.get(uid, {}))
            life = self._lives[uid] = asyncio.create_task(self._live(own))
            life.add_done_callback(lambda _: self._lives.pop(uid))

    async def _live(self, pod: Pod) -> None:
        try:
            await Life(pod).run()
        except Exception:
            logger.exception("%s/%s: the node failed to run this pod", pod.namespace, pod.name)
            return
        del self._pods[pod.uid]

    async def _serve(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/pods", self._list)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._settings.port).start()
        return runner

    async def _healthz(self, _: web.Request) -> web.Response:
        waiting = [each.path for each in self._informers if not each.synced.is_set()]
        if not self._registration.registered.is_set():
            waiting.append("the Node's registration")
        if waiting:
            return web.Response(status=503, text=f"waiting for {', '.join(waiting)}\n")
        return web.Response(text="ok")

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response([pod.summary() for pod in self._pods.values()])


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    pending = list(tasks)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
