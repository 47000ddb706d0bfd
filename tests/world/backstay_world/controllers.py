"""Controllers in the simulated world: the product's own, started, killed and started again."""

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prometheus_client import CollectorRegistry

from backstay.adapters.argocd import Source
from backstay.adapters.forge import Forge
from backstay.adapters.gitops.repository import Repository
from backstay.adapters.kubernetes.client import MODEL_DEPLOYMENT, ApiError, Cluster, Kind
from backstay.adapters.kubernetes.manifests import SELECTOR
from backstay.adapters.registry.access import RegistryAccess
from backstay.controller.neighbours import Neighbours
from backstay.controller.operator import Controller
from backstay.controller.runtime import faults
from backstay.controller.runtime.settings import Settings
from backstay.controller.runtime.store import CHILDREN
from backstay_world.apiserver import LATENCY, ApiServer, Client, Request, Watch
from backstay_world.fields import Object
from backstay_world.forge import SimulatedForge
from backstay_world.git import GitServer, SimulatedRepository
from backstay_world.looptime import SimulatedLoop
from backstay_world.traffic import SimulatedPrometheus

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

START_AGAIN_AFTER = 5.0
# As many do for the few models of a world; each is woken for every event.
_WORKERS = 2


_life: contextvars.ContextVar["Running | None"] = contextvars.ContextVar("life", default=None)


class KilledError(BaseException):
    """Ends what a dead controller was doing; nothing catches it, as nothing catches SIGKILL."""


@dataclass(slots=True)
class Surroundings:
    """What every controller of a world talks to."""

    server: ApiServer
    git: GitServer
    forge: SimulatedForge
    registries: RegistryAccess
    prometheus: SimulatedPrometheus
    clock: Callable[[], float]
    state: Path


@dataclass(slots=True)
class _GitSide:
    """The Git server and the forge, for one controller."""

    around: Surroundings
    loop: SimulatedLoop
    alive: Callable[[], None]

    def repository(self, source: Source, checkpoint: Callable[[str], None]) -> Repository:
        """Return the writer of the main branch."""
        del source

        def reached(point: str) -> None:
            self.alive()
            checkpoint(point)
            self.alive()

        return SimulatedRepository(self.around.git, self.loop, reached)

    def forge(self, source: Source) -> Forge:
        """Return the forge."""
        del source
        self.alive()
        return self.around.forge


@dataclass(slots=True)
class Running:
    """One life of a controller.

    ``points`` are the fault points that it has reached. ``dies_at`` is asked at each whether the controller dies there,
    and ``dies_on`` before and after each request to the API server.
    ``lag`` is how late its watches are, in seconds.
    """

    around: Surroundings
    loop: SimulatedLoop
    died: Callable[["Running"], None]
    dies_at: Callable[[str], bool] = lambda _: False
    dies_on: Callable[[str, Request], bool] = lambda *_: False
    lag: float = LATENCY
    controller: Controller | None = None
    client: Client | None = None
    points: list[str] = field(default_factory=list)
    dead: bool = False
    _watches: list[Watch] = field(default_factory=list)
    _tasks: "set[asyncio.Task[Any]]" = field(default_factory=set)

    def alive(self) -> None:
        """Do nothing while it lives.

        Raises:
            KilledError: it is dead.
        """
        if self.dead:
            raise KilledError

    def begin(self) -> None:
        """Start it, in a context in which it alone is told of fault points."""
        context = contextvars.copy_context()
        context.run(faults.reached.set, self._reached)
        context.run(_life.set, self)
        self.loop.create_task(self._start(), context=context)

    def _reached(self, point: str) -> None:
        self.alive()
        self.points.append(point)
        if self.dies_at(point):
            self.kill()
            raise KilledError

    def _sent(self, when: str, request: Request) -> None:
        if self.dies_on(when, request):
            self.kill()
            raise KilledError

    async def _start(self) -> None:
        around = self.around
        self.client = Client(around.server, self.alive, self._sent)
        settings = Settings(cluster_name="world", registries=around.registries, state=around.state, workers=_WORKERS)
        neighbours = Neighbours(
            around.prometheus,
            _GitSide(around, self.loop, self.alive),
            clock=around.clock,
            monotonic=self.loop.time,
            collectors=CollectorRegistry(),
        )
        self.controller = Controller(settings, Cluster(cast("ApiClient", self.client)), neighbours)
        while True:
            try:
                await self.controller.start()
                break
            except ApiError:
                await asyncio.sleep(START_AGAIN_AFTER)
        for kind in (MODEL_DEPLOYMENT, *CHILDREN):
            labels = "" if kind is MODEL_DEPLOYMENT else SELECTOR
            self._watches.append(around.server.watch(kind, self._saw, labels=labels, lag=self.lag))

    def _saw(self, kind: Kind, event: str | None, body: Object) -> None:
        if not self.dead and self.controller is not None:
            self.controller.saw(kind, event, body)

    def kill(self) -> None:
        """End it at once: nothing that it was about to do has any effect any more."""
        if self.dead:
            return
        self.dead = True
        for watch in self._watches:
            self.around.server.unwatch(watch)
        self.died(self)
        self._bury()

    def _bury(self) -> None:
        """End all its tasks; one that did not notice is told again."""
        left = [task for task in self._tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            self.loop.call_soon(self._bury)

    def own(self, task: "asyncio.Task[Any]") -> None:
        """Take in a task that it has started."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self.dead:
            task.cancel()


def owned_task(loop: asyncio.AbstractEventLoop, work: Any, **arguments: Any) -> "asyncio.Task[Any]":
    """Make a task that ends with the controller that has started it; a task factory."""
    task = asyncio.Task(work, loop=loop, **arguments)
    context = arguments.get("context")
    life = context.run(_life.get) if context is not None else _life.get()
    if life is not None:
        life.own(task)
    return task
