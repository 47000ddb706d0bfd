"""The world as a test uses it: models in Git, a controller, and time that goes on until something is so."""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from backstay.adapters.kubernetes.client import HTTP_ROUTE, MODEL_DEPLOYMENT
from backstay.adapters.kubernetes.manifests import NAME
from backstay.adapters.traffic.gateway_api import GatewayApi
from backstay.domain.observed import Backend
from backstay.domain.resource import Key
from backstay.domain.status import Status
from backstay_world.apiserver import ApiServer, Fault, Request
from backstay_world.argocd import ArgoCD, path_of
from backstay_world.controllers import KilledError, Running, Surroundings, owned_task
from backstay_world.fields import Object
from backstay_world.forge import SimulatedForge
from backstay_world.git import FILE, Commit, GitServer, version_file
from backstay_world.invariants import Invariants
from backstay_world.looptime import SimulatedLoop
from backstay_world.nodes import Behaviour, Gateway, Nodes, version_of
from backstay_world.objects import Change, Objects
from backstay_world.registry import SimulatedAccess, SimulatedRegistry
from backstay_world.traffic import SimulatedPrometheus, Traffic

BEGINNING = 1_800_000_000.0
"""The Unix time at which every world begins."""
NAMESPACE = "fraud-production"
MODEL = Key(NAMESPACE, "fraud-detector")
REGISTRY = "http://mlflow.example.com:5000"
SECOND_REGISTRY = "http://mlflow.second.example.com:5000"


class TooLateError(AssertionError):
    """What was waited for did not come in time."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a model's rollouts are meant to go, as in its spec."""

    steps: tuple[int, ...] = (10, 50, 100)
    stay: str = "30s"
    interval: str = "5s"
    replicas: int = 2
    registry: str = REGISTRY
    more: Mapping[str, Any] = field(default_factory=dict)

    def base(self, key: Key) -> Object:
        """Write the manifest that the version files patch."""
        return {
            "apiVersion": MODEL_DEPLOYMENT.api_version,
            "kind": MODEL_DEPLOYMENT.kind,
            "metadata": {"name": key.name, "namespace": key.namespace},
            "spec": {
                "model": {"name": key.name},
                "registry": {"uri": self.registry},
                "serving": {
                    "replicas": self.replicas,
                    "template": {"spec": {"containers": [{"name": "model", "image": "backstay/serving:0.1.0"}]}},
                },
                "traffic": {
                    "gatewayAPI": {
                        "gateway": {"name": "models", "namespace": "gateways"},
                        "pathPrefix": f"/{key.name}",
                    }
                },
                "rollout": {"steps": [{"weight": weight, "minDuration": self.stay} for weight in self.steps]},
                "analysis": {"interval": self.interval},
                **self.more,
            },
        }


class World:
    """Everything around the controller, and controllers.

    Args:
        state: a folder for what a controller keeps on disk.
        seed: of the jitter in the controller's pauses.
        rate: requests a second to each model.
    """

    def __init__(self, state: Path, *, seed: int = 0, rate: float = 200.0) -> None:
        random.seed(seed)
        self.loop = SimulatedLoop()
        self.loop.set_exception_handler(self._trouble)
        self.loop.set_task_factory(owned_task)
        self.troubles: list[str] = []
        self.behaviours: dict[str, Behaviour] = {}
        self._special: dict[tuple[Key, str], Behaviour] = {}
        self.objects = Objects(self.now)
        self.server = ApiServer(self.objects, self.loop)
        self.git = GitServer(self.now)
        self.nodes = Nodes(self.objects, self.loop, self.behaviour)
        self.traffic = Traffic(self.objects, self.now, self.behaviour, rate=rate)
        self.gateway = Gateway(self.objects, self.loop, taken=self.traffic.take, gone=self.traffic.drop)
        self.argocd = ArgoCD(self.objects, self.git, self.loop)
        self.forge = SimulatedForge(self.git, self.loop)
        self.registry = SimulatedRegistry(self.loop)
        self.second_registry = SimulatedRegistry(self.loop)
        self.prometheus = SimulatedPrometheus(self.traffic, self.loop)
        self.invariants = Invariants(self.objects, self.git, self.traffic, self.now)
        self._around = Surroundings(
            server=self.server,
            git=self.git,
            forge=self.forge,
            registries=SimulatedAccess({REGISTRY: self.registry, SECOND_REGISTRY: self.second_registry}),
            prometheus=self.prometheus,
            clock=self.now,
            state=state,
        )
        self.lives: list[Running] = []
        self.restarts_after: float | None = 2.0
        self.dies_at: Callable[[str], bool] = lambda _: False
        self.dies_on: Callable[[str, Request], bool] = lambda *_: False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.restarts_after = None
        for life in self.lives:
            life.kill()
        self.run(asyncio.sleep(1.0))
        self.loop.close()

    def _trouble(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep what no task has caught, but for what a killed controller leaves behind."""
        del loop
        if not isinstance(context.get("exception"), KilledError | asyncio.CancelledError):
            self.troubles.append(f"{context.get('message')}: {context.get('exception')!r}")

    def now(self) -> float:
        """Return the Unix time."""
        return BEGINNING + self.loop.time()

    def behaviour(self, body: Object) -> Behaviour:
        """Return how the pods of a Deployment, or a pod, behave: as was said of their version, or else well."""
        version, meta = version_of(body), body["metadata"]
        usual = self.behaviours.get(version, Behaviour())
        return self._special.get((Key(meta["namespace"], meta["labels"][NAME]), version), usual)

    # What people do.

    def add(self, key: Key = MODEL, *, version: str = "1", pace: Pace | None = None) -> None:
        """Declare a model and let Argo CD deliver it."""
        self.register(key, version)
        self.git.commit({f"{path_of(key)}/{FILE}": version_file(key.name, version)}, f"add {key.name}")
        self.argocd.deliver(key, (pace or Pace()).base(key))

    def change(self, version: str, behaviour: Behaviour, *keys: Key) -> None:
        """Let the pods of a version of some models (usually the only one) behave in another way from now on."""
        for key in keys or (MODEL,):
            self._special[key, version] = behaviour
            self.traffic.share((key.namespace, key.name))

    def register(self, key: Key, version: str) -> None:
        """Put a version into the registries."""
        for registry in (self.registry, self.second_registry):
            registry.register(key.name, version)

    def declare(self, version: str, key: Key = MODEL, *, more: str = "") -> str:
        """Commit another version, which Argo CD syncs at once; returns the commit."""
        self.register(key, version)
        commit = self.git.commit(
            {f"{path_of(key)}/{FILE}": version_file(key.name, version, more=more)}, f"bump {key.name} to {version}"
        )

        self.argocd.sync(key)
        return commit

    # Controllers.

    def start(self, *, lag: float | None = None) -> Running:
        """Start a controller."""
        life = Running(self._around, self.loop, self._died, dies_at=self._dies, dies_on=self._dies_on)
        if lag is not None:
            life.lag = lag
        self.lives.append(life)
        life.begin()
        return life

    def _dies(self, point: str) -> bool:
        return self.dies_at(point)

    def _dies_on(self, when: str, request: Request) -> bool:
        return self.dies_on(when, request)

    def _died(self, life: Running) -> None:
        if self.restarts_after is not None:
            self.loop.call_later(self.restarts_after, lambda: self.start(lag=life.lag))

    def fault(self, fault: Fault) -> None:
        """Let something go wrong at the API server."""
        self.server.faults.append(fault)

    # What is seen.

    def body(self, key: Key = MODEL) -> Object:
        """Return a ModelDeployment as the API server has it."""
        return self.objects.get(MODEL_DEPLOYMENT, key.namespace, key.name)

    def status(self, key: Key = MODEL) -> Status:
        """Return its status."""
        return Status.of(self.body(key).get("status") or {})

    def phase(self, key: Key = MODEL) -> str:
        """Return its phase; empty before its first status."""
        return str(self.body(key).get("status", {}).get("phase", ""))

    def weights(self, key: Key = MODEL) -> dict[str, int]:
        """Return the weights of its route, by revision."""
        live = self.objects.find(HTTP_ROUTE, key.namespace, key.name)
        found: dict[str, int] = {}
        for backend, weight in (GatewayApi().read(live).weights if live is not None else {}).items():
            found[backend.revision] = found.get(backend.revision, 0) + weight
        return found

    def revision(self, key: Key = MODEL) -> str:
        """Return the revision that is tried, or else the stable one."""
        status = self.status(key)
        found = status.rollout or status.stable
        return found.revision if found is not None else ""

    def requests(self, revision: str, key: Key = MODEL) -> float:
        """Return how many requests a second a revision gets."""
        rates = self.traffic.rates(key)
        return sum(rate for backend, rate in rates.items() if backend == Backend(revision, backend.track))

    def rollbacks(self) -> list[Commit]:
        """List the commits on the main branch that are not a person's."""
        return [commit for commit in self.git.log() if commit.author != "person"]

    # Time.

    def run(self, work: Any) -> Any:
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(work)

    def let(self, seconds: float) -> None:
        """Let time pass."""
        self.run(asyncio.sleep(seconds))

    def until(self, what: str, holds: Callable[[], bool], *, within: float = 3600.0) -> float:
        """Let time pass until something holds of the cluster, and return how many seconds that took.

        Raises:
            TooLateError: it did not, within so many seconds.
        """
        began = self.loop.time()
        came = self.loop.create_future()

        def look(change: Change | None) -> None:
            del change
            if not came.done() and holds():
                came.set_result(True)

        def give_up() -> None:
            if not came.done():
                came.set_result(False)

        timer = self.loop.call_later(within, give_up)
        self.objects.listeners.append(look)
        try:
            look(None)
            if not self.loop.run_until_complete(came):
                statuses = [body.get("status", {}).get("message") for body in self.objects.all(MODEL_DEPLOYMENT)]
                raise TooLateError(f"Not within {within:g} s: {what}; statuses: {statuses}")
        finally:
            self.objects.listeners.remove(look)
            timer.cancel()
        return self.loop.time() - began
