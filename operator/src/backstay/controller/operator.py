"""kopf watches, probes and starts; everything else is ours."""

import asyncio
import gc
import itertools
import logging
import os
from pathlib import Path
from typing import Any

import kopf
from prometheus_client import start_http_server

from backstay.adapters.kubernetes.client import (
    ACCESS_REVIEW,
    APPLICATION,
    CONFIG_MAP,
    EVENT,
    HTTP_ROUTE,
    MODEL_DEPLOYMENT,
    NAMESPACE,
    PAGE,
    POD,
    ApiError,
    Cluster,
    Kind,
    MissingKindError,
    Object,
)
from backstay.adapters.kubernetes.manifests import SELECTOR
from backstay.adapters.shipped import PROMOTION_POLICY, shipped_files
from backstay.adapters.traffic.gateway_api import GatewayApi
from backstay.controller.evidence.loop import EvidenceLoop
from backstay.controller.evidence.recorder import Recorder
from backstay.controller.neighbours import Neighbours
from backstay.controller.reconcile import Reconciler
from backstay.controller.runtime import metrics
from backstay.controller.runtime.background import Background
from backstay.controller.runtime.listing import list_into
from backstay.controller.runtime.queue import WorkQueue
from backstay.controller.runtime.settings import Settings
from backstay.controller.runtime.store import CHILDREN, Store
from backstay.controller.services.gitops import GitOps
from backstay.controller.services.incidents import Incidents
from backstay.controller.services.notifications import Notifications
from backstay.controller.services.promotion_policy import PromotionPolicy
from backstay.controller.services.promotions import Promotions
from backstay.controller.services.registry_gates import RegistryGates
from backstay.domain.resource import GROUP, Key

_LOG = logging.getLogger(__name__)

# In so many seconds all kinds are listed again, one after the other; where that would be more than a page in ten
# seconds, later: what it takes from the API server must not grow with the number of models.
_RESYNC = 300.0
_SECONDS_A_PAGE = 10.0
_LOOK_FOR_KINDS = 2.0
_SET_ASIDE_EVERY = 300.0
_PATIENCE = 120.0
_START_AGAIN_AFTER = 5.0
# Workers beside the usual ones that only drain. Where many rollouts begin, the usual ones all wait for Services.
_FOR_DRAINS = 4
_RIGHTS: tuple[tuple[Kind, str, str], ...] = (
    *((MODEL_DEPLOYMENT, "", verb) for verb in ("get", "list", "watch")),
    (MODEL_DEPLOYMENT, "status", "update"),
    *((kind, "", verb) for kind in CHILDREN for verb in ("get", "list", "watch", "create", "patch", "delete")),
    (HTTP_ROUTE, "", "update"),
    (CONFIG_MAP, "", "create"),
    (CONFIG_MAP, "", "patch"),
    (POD, "", "list"),
    (EVENT, "", "create"),
    (APPLICATION, "", "get"),
    (APPLICATION, "", "patch"),
)


class Controller:
    """Everything that lives as long as the process."""

    def __init__(self, settings: Settings, cluster: Cluster, neighbours: Neighbours) -> None:
        clock, prometheus = neighbours.clock, neighbours.prometheus
        self.settings = settings
        self.cluster = cluster
        self.queue: WorkQueue[Key] = WorkQueue(neighbours.monotonic)
        self.store = Store(self.queue.add)
        self.background = Background(self.queue.add, self.queue.calm)
        if prometheus is None:
            _LOG.error("BACKSTAY_PROMETHEUS_URL is not set: no version can be judged, and every rollout will hold")
        recorder = Recorder(settings.state / "evidence")
        policy = PromotionPolicy(settings.policy)
        self.notifications = Notifications(settings.notifications)
        self.evidence = EvidenceLoop(prometheus, self.queue.add, clock, recorder, self.queue.calm)
        self.gitops = GitOps(settings, cluster, self.background, clock, self.evidence.settled, git=neighbours.git)
        self.reconciler = Reconciler(
            settings=settings,
            cluster=cluster,
            store=self.store,
            queue=self.queue,
            provider=GatewayApi(),
            gitops=self.gitops,
            promotions=Promotions(self.gitops, self.background, clock, settings.registries),
            policy=policy,
            notifications=self.notifications,
            incidents=Incidents(self.gitops, self.background, clock),
            gates=RegistryGates(policy, self.background, clock, lambda: self.gitops.cluster_name, settings.registries),
            evidence=self.evidence,
            clock=clock,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._missing: tuple[Kind, ...] = ()
        self.has_new_kinds = asyncio.Event()
        metrics.QUEUE_DEPTH.set_function(lambda: len(self.queue))
        metrics.QUEUE_AGE.set_function(self.queue.oldest_age)
        self._collectors = neighbours.collectors
        self._models = metrics.Models(self.store.statuses, self.evidence.answered, clock)

    async def start(self) -> None:
        """Say which rights are missing, fill the store before anything is decided, then start to work.

        Raises:
            ApiError: the API server does not let it, or not now; it can be started again.
        """
        missing = await self.missing_rights()
        if missing:
            _LOG.error("The controller may not: %s. Apply operator/config/rbac", ", ".join(missing))
        if not self.gitops.cluster_name:
            system = await self.cluster.get(NAMESPACE, None, "kube-system")
            self.gitops.cluster_name = system["metadata"]["uid"]
            _LOG.warning(
                "BACKSTAY_CLUSTER_NAME is not set; using the UID of kube-system, which a rebuilt cluster does not keep"
            )
        if not await self.cluster.serves(MODEL_DEPLOYMENT):
            raise MissingKindError(f"The API server does not know {MODEL_DEPLOYMENT}: apply operator/config/crd")
        self._missing = tuple([kind for kind in CHILDREN if not await self.cluster.serves(kind)])
        for kind in self._missing:
            _LOG.warning("The API server does not know %s; models wait until it is installed", kind)
        await self._list()
        self.queue.put_first(self.store.at_stake())
        workers = [
            *(self.queue.work(self.reconciler.reconcile) for _ in range(self.settings.workers)),
            *(self.queue.work(self.reconciler.reconcile, urgent_only=True) for _ in range(_FOR_DRAINS)),
        ]
        loops = (self.evidence.run(), self._resync(), self._look_for_kinds())
        self._tasks = [asyncio.create_task(work) for work in (*workers, *loops)]
        loop = asyncio.get_running_loop()
        metrics.TASKS.set_function(lambda: len(asyncio.all_tasks(loop)))
        self._collectors.register(self._models)

    async def stop(self) -> None:
        """End the work; nothing has to be finished, since everything can be taken up again."""
        if self._tasks:
            self._collectors.unregister(self._models)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.background.stop()
        await self.notifications.stop()
        await self.cluster.close()

    def healthy(self) -> bool:
        """Tell whether keys and ticks are taken in time."""
        return (
            self.queue.oldest_age() < _PATIENCE and self.evidence.healthy() and not any(t.done() for t in self._tasks)
        )

    def saw(self, kind: Kind, event: str | None, body: Object) -> None:
        """Take in what a watch shows; ``event`` is DELETED where the object is gone."""
        meta = body["metadata"]
        if kind is not MODEL_DEPLOYMENT:
            (self.store.drop_child if event == "DELETED" else self.store.put_child)(kind, body)
        elif event == "DELETED":
            self.store.drop(meta["namespace"], meta["name"], meta["uid"])
        else:
            self.store.put(body)

    async def missing_rights(self) -> list[str]:
        """Ask the API server which of the rights that the controller needs it does not have."""
        answers = await asyncio.gather(*(self._may(*right) for right in _RIGHTS))
        return [
            f"{verb} {kind.plural}{'/' + sub if sub else ''}.{kind.group or 'core'}"
            for (kind, sub, verb), allowed in zip(_RIGHTS, answers, strict=True)
            if not allowed
        ]

    async def _may(self, kind: Kind, sub: str, verb: str) -> bool:
        attributes = {"group": kind.group, "resource": kind.plural, "subresource": sub, "verb": verb}
        answer = await self.cluster.create(
            ACCESS_REVIEW,
            {
                "apiVersion": ACCESS_REVIEW.api_version,
                "kind": ACCESS_REVIEW.kind,
                "metadata": {},
                "spec": {"resourceAttributes": attributes},
            },
        )
        return bool(answer["status"]["allowed"])

    async def _list(self) -> None:
        for kind in self._kinds():
            await list_into(self.store, self.cluster, kind)

    def _kinds(self) -> list[Kind]:
        return [kind for kind in (*CHILDREN, MODEL_DEPLOYMENT) if kind not in self._missing]

    async def _resync(self) -> None:
        """Compare with full listings now and then: a watch that lost an event must not matter for long."""
        kinds = self._kinds()
        pause = usual = _RESYNC / len(kinds)
        for kind in itertools.cycle(kinds):
            await asyncio.sleep(pause)
            try:
                pause = max(usual, await list_into(self.store, self.cluster, kind) * _SECONDS_A_PAGE)
            except ApiError as problem:
                pause = usual
                _LOG.warning("The periodic listing of %s failed: %s", kind, problem)

    async def _look_for_kinds(self) -> None:
        """Wait until one of the kinds that are missing is installed; without any, forever."""
        while True:
            await asyncio.sleep(_LOOK_FOR_KINDS)
            for kind in self._missing:
                try:
                    is_served = await self.cluster.serves(kind)
                except ApiError as problem:
                    _LOG.warning("Cannot ask for %s: %s", kind, problem)
                    continue
                if is_served:
                    _LOG.warning("%s is installed now; starting again to watch it", kind)
                    self.has_new_kinds.set()
                    return


class NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no last-seen copies, neither on the objects nor in between: no handler here asks for differences."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """Copy nothing."""
        del body, extra_fields
        return {}

    def fetch(self, *, body: Any) -> None:
        """Know nothing."""
        del body

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Keep nothing."""
        del body, patch, essence


def _as_service_account() -> kopf.ConnectionInfo | None:
    """Log in by the address that the pod was told; kopf's own way wants a cluster DNS that names the API server."""
    address, folder = os.environ.get("KUBERNETES_SERVICE_HOST"), Path("/var/run/secrets/kubernetes.io/serviceaccount")
    if address is None:
        return None
    host = f"[{address}]" if ":" in address else address
    return kopf.ConnectionInfo(
        server=f"https://{host}:{os.environ['KUBERNETES_SERVICE_PORT']}",
        ca_path=str(folder / "ca.crt"),
        scheme="Bearer",
        token=(folder / "token").read_text(encoding="ascii").strip(),
    )


def register(controller: Controller, registry: kopf.OperatorRegistry) -> None:
    """Attach the controller to kopf."""

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        _set(settings)
        try:
            await controller.start()
        except ApiError as problem:
            # What is missing may come; kopf says this in one line and tries again.
            raise kopf.TemporaryError(str(problem), delay=_START_AGAIN_AFTER) from problem

    @kopf.on.login(registry=registry)
    def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        return _as_service_account() or kopf.login_with_kubeconfig(**arguments)

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        await controller.stop()

    @kopf.on.probe(registry=registry, id="working")
    async def working(**_: Any) -> str:
        if not controller.healthy():
            raise kopf.PermanentError("keys or ticks are overdue")
        return "yes"

    @kopf.on.event(GROUP, "modeldeployments", registry=registry)
    async def model_deployment(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - kopf's name
        controller.saw(MODEL_DEPLOYMENT, type, dict(body))

    for kind in CHILDREN:
        _watch_child(controller, registry, kind)


def _set(settings: kopf.OperatorSettings) -> None:
    """Let kopf watch, and nothing else."""
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.client_timeout = 600
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 120
    settings.watching.chunk_size = PAGE
    for kind in CHILDREN:
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = SELECTOR
    settings.queueing.worker_limit = 50
    settings.queueing.idle_timeout = 0.05


def _watch_child(controller: Controller, registry: kopf.OperatorRegistry, kind: Kind) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=f"child-{kind.plural}")
    async def child(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002 - kopf's name
        controller.saw(kind, type, {**body, "metadata": dict(body["metadata"])})


async def _set_aside() -> None:
    """Now and then let the garbage collector set aside what is there to stay, such as all that libraries have made.

    It looks at everything only once what is new is a quarter of what is old. Beside some hundred thousand objects that
    stay, a quarter as many pile up as garbage, and the process grows by it.
    """
    while True:
        await asyncio.sleep(_SET_ASIDE_EVERY)
        gc.unfreeze()
        gc.collect()
        gc.freeze()


def _count_request(verb: str, code: int) -> None:
    metrics.API_REQUESTS.labels(verb, code).inc()


async def run(settings: Settings) -> None:
    """Run until the process is told to end; start again when a kind is installed that was missing.

    Raises:
        ApiError: there is no cluster to connect to.
        NotShippedError: the promotion policy is to be asked, and this installation does not have it.
    """
    if settings.policy is not None:
        # Found missing at a model, it would stop that model, and every other one.
        shipped_files(f"{PROMOTION_POLICY}/policy.yaml")
    start_http_server(settings.metrics_port, addr=settings.address)
    setting_aside = asyncio.create_task(_set_aside())
    try:
        await _run_controllers(settings)
    finally:
        setting_aside.cancel()


async def _run_controllers(settings: Settings) -> None:
    while True:
        registry = kopf.OperatorRegistry()
        controller = Controller(settings, await Cluster.connect(_count_request), Neighbours.of(settings))
        register(controller, registry)
        await kopf.operator(
            registry=registry,
            clusterwide=True,
            liveness_endpoint=f"http://{settings.address}:{settings.health_port}/healthz",
            stop_flag=controller.has_new_kinds,
        )
        if not controller.has_new_kinds.is_set():
            return
