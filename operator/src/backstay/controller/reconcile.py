"""One look at one ModelDeployment: observe, decide, do, remember."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from backstay.adapters.kubernetes import manifests
from backstay.adapters.kubernetes.client import (
    MODEL_DEPLOYMENT,
    POD,
    ApiError,
    Cluster,
    ConflictError,
    NotFoundError,
    Object,
    RefusedError,
    UnavailableError,
)
from backstay.adapters.registry.errors import RegistryUnavailableError
from backstay.adapters.traffic import TrafficProvider
from backstay.controller import observe
from backstay.controller.act import BlockedError, Hands, PendingError
from backstay.controller.evidence.loop import EvidenceLoop
from backstay.controller.interest import interest_in
from backstay.controller.pods import with_pods
from backstay.controller.runtime import faults, metrics
from backstay.controller.runtime.queue import WorkQueue
from backstay.controller.runtime.settings import Settings
from backstay.controller.runtime.store import Children, Snapshot, Store
from backstay.controller.services.gitops import GitOps
from backstay.controller.services.incidents import Incidents
from backstay.controller.services.notifications import Notifications
from backstay.controller.services.promotion_policy import PromotionPolicy
from backstay.controller.services.promotions import Promotions
from backstay.controller.services.registry_gates import RegistryGates
from backstay.domain.actions import Announce, Decision, ShiftTraffic
from backstay.domain.conditions import conditions
from backstay.domain.decide import decide
from backstay.domain.observed import Backend, Observed, Workload
from backstay.domain.resource import GROUP, KIND, VERSION, Key, ModelDeployment
from backstay.domain.status import Phase, Status

_LOG = logging.getLogger(__name__)

# A model that waits for its turn is woken when that comes; this is for the case that no other model is left to wake it.
_TURN_COMES_WITHIN = 15.0


@dataclass(frozen=True, slots=True)
class _Pods:
    """What a model's pods told when they were read (Unix seconds)."""

    read_at: float
    told: Mapping[Backend, Workload]


class Reconciler:
    """Joins the parts; one call for one key at a time."""

    def __init__(  # noqa: PLR0913 - the composition root names every part once
        self,
        *,
        settings: Settings,
        cluster: Cluster,
        store: Store,
        queue: WorkQueue[Key],
        provider: TrafficProvider,
        gitops: GitOps,
        promotions: Promotions,
        policy: PromotionPolicy,
        gates: RegistryGates,
        incidents: Incidents,
        notifications: Notifications,
        evidence: EvidenceLoop,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._store = store
        self._queue = queue
        self._provider = provider
        self._gitops = gitops
        self._promotions = promotions
        self._evidence = evidence
        self._clock = clock
        self._policy = policy
        self._gates = gates
        self._incidents = incidents
        self._notifications = notifications
        self._hands = Hands(
            cluster=cluster,
            store=store,
            provider=provider,
            gitops=gitops,
            promotions=promotions,
            gates=gates,
            incidents=incidents,
            clock=clock,
        )
        self._shifted: dict[Key, float] = {}
        self._pods: dict[Key, _Pods] = {}
        # Of which object of a name something is remembered here and beside: another one has nothing to do with it.
        self._uids: dict[Key, str] = {}
        self._drained: dict[Key, dict[Backend, float]] = {}
        self._written: dict[Key, float] = {}
        self._started_at = clock()

    async def reconcile(self, key: Key) -> None:
        """Look at one ModelDeployment; whatever goes wrong is logged, shown in its status, and tried again."""
        try:
            snapshot = self._store.snapshot(key)
            if snapshot is None or snapshot.deleting:
                # The API server collects its children; nothing may be made again meanwhile.
                self._forget(key)
                return
            await self._look(key, snapshot)
            self._queue.succeeded(key)
            metrics.RECONCILES.labels("done").inc()
        except ConflictError:
            metrics.RECONCILES.labels("conflict").inc()
            # Somebody else wrote first; the decision is made again on what they wrote.
            await self._fetch(key)
            self._queue.retry(key)
        except PendingError:
            self._queue.add_after(key, _TURN_COMES_WITHIN)
            metrics.RECONCILES.labels("waiting").inc()
        except NotFoundError:
            self._queue.retry(key)
        except (ApiError, BlockedError, RegistryUnavailableError) as problem:
            pause = self._queue.retry(key)
            metrics.RECONCILES.labels("blocked").inc()
            _LOG.warning("%s: %s; trying again in %.1f s", key, problem, pause)
            await self._show_problem(key, problem)
        except Exception:  # noqa: BLE001 - one model's trouble must not end the worker
            self._queue.retry(key)
            metrics.RECONCILES.labels("failed").inc()
            _LOG.exception("%s: unexpected failure", key)

    async def _look(self, key: Key, snapshot: Snapshot) -> None:
        desired = snapshot.desired
        if self._uids.setdefault(key, snapshot.uid) != snapshot.uid:
            self._forget(key)
            self._uids[key] = snapshot.uid
        if desired is None:
            raise BlockedError(snapshot.problem)
        await self._hands.require_gateway()
        now = self._clock()
        children = self._store.owned(key, snapshot.uid)
        if children.get(self._provider.kind, key.name) is None:
            self._refuse_overlap(desired)
        seen = self._observe(key, snapshot, desired, children)
        decision = decide(desired, snapshot.status, self._with_pods(key, seen), now)
        if decision.lacks_pods:
            await self._read_pods(desired, now)
            decision = decide(desired, snapshot.status, self._with_pods(key, seen), now)
        self._drop_used_answers(key, decision.status)
        await self._act(desired, decision)
        if decision.status.rollback is not None and snapshot.status.rollback != decision.status.rollback:
            self._measure_drain(key, snapshot.status, decision.status)
        await self._keep_evidence(desired, snapshot.status, decision.status)
        status = self._with_gateway_problem(key, children, decision.status)
        await self._remember(key, snapshot, status, now)
        announced = [act for act in decision.actions if isinstance(act, Announce)]
        self._notifications.tell(desired, announced, status.addresses)
        self._follow(desired, status, seen)
        if decision.requeue_after is not None:
            self._queue.add_after(key, decision.requeue_after)

    def _refuse_overlap(self, desired: ModelDeployment) -> None:
        rival = observe.older_rival(desired, self._store.rivals(desired))
        if rival:
            raise BlockedError(
                f"ModelDeployment {rival} takes the same requests and is older: change hostnames or pathPrefix"
            )

    def _observe(self, key: Key, snapshot: Snapshot, desired: ModelDeployment, children: Children) -> Observed:
        found = observe.workloads(children)
        route = self._hands.observe_route(desired)
        record = snapshot.status.rollback
        idle = [backend for backend in found if route is None or not route.feeds(backend)]
        known, now = self._drained.get(key, {}), self._clock()
        drained = self._drained[key] = {backend: known.get(backend, now) for backend in idle}
        quiet = {backend for backend, since in drained.items() if self._evidence.quiet(key, backend, since)}
        return Observed(
            cluster=self._gitops.cluster_name,
            workloads=found,
            served=observe.served(children, desired),
            plans=observe.plans(children),
            route=route,
            evidence=self._evidence.evidence(key),
            quiet=frozenset(quiet),
            recall=self._gitops.recalled(key),
            set_by=self._gitops.set_by(desired, snapshot.status.stable),
            write_back=self._gitops.write_back(key, record),
            sync=self._gitops.sync(key, record),
            violations=self._violations(desired, snapshot.status),
            promotion=self._promotions.answer(key, snapshot.status.promotion),
            gates=self._gates.answer(desired),
            told_registry=self._gates.told(key, record),
            incident=self._incidents.answer(key, record),
        )

    def _violations(self, desired: ModelDeployment, status: Status) -> tuple[str, ...]:
        """Ask the promotion policy about what is to be started; what serves already, or is on its way, is not asked."""
        known = {served.revision for served in (status.stable, status.previous, status.rollout) if served is not None}
        return () if desired.plan.revision in known else self._policy.violations(desired)

    async def _read_pods(self, desired: ModelDeployment, now: float) -> None:
        """Read a model's pods: only they tell what keeps them from starting, and how often their containers ended."""
        selector = f"{manifests.SELECTOR},{manifests.NAME}={desired.key.name}"
        found: dict[Backend, list[Object]] = {}
        for pod in await self._cluster.list(POD, labels=selector, namespace=desired.key.namespace):
            backend = manifests.backend_of(pod["metadata"])
            if backend is not None:
                found.setdefault(backend, []).append(pod)
        told = {backend: with_pods(Workload(0, 0), pods) for backend, pods in found.items()}
        self._pods[desired.key] = _Pods(now, told)

    def _with_pods(self, key: Key, seen: Observed) -> Observed:
        """Add what the pods told when they were last read."""
        pods = self._pods.get(key)
        if pods is None:
            return seen
        workloads = dict(seen.workloads)
        for backend, told in pods.told.items():
            if backend in workloads:
                live = workloads[backend]
                workloads[backend] = replace(
                    told, replicas=live.replicas, ready=live.ready, blocked=told.blocked or live.blocked
                )
        return replace(seen, workloads=workloads, pods_read_at=pods.read_at)

    def _drop_used_answers(self, key: Key, after: Status) -> None:
        """Ask again the next time: what was true of a model's past or of its version may be so no longer then."""
        if after.stable is not None or after.rollout is not None:
            self._gitops.forget_recall(key)
        if after.rollout is not None:
            self._gates.forget_answer(key)
        else:
            self._pods.pop(key, None)

    async def _act(self, desired: ModelDeployment, decision: Decision) -> None:
        for action in decision.actions:
            await self._hands.carry_out(desired, action)
            if isinstance(action, ShiftTraffic):
                self._shifted[desired.key] = self._clock()

    async def _keep_evidence(self, desired: ModelDeployment, before: Status, after: Status) -> None:
        """Put the evidence of a rollout that has ended where people find it; that must never hold anything up."""
        if before.rollout is None or after.rollout is not None:
            return
        document = self._evidence.document(desired.key, before.rollout.id)
        if document:
            try:
                await self._hands.publish_evidence(desired, before.rollout, document)
            except (ApiError, BlockedError) as problem:
                _LOG.warning("%s: its evidence is not kept: %s", desired.key, problem)

    def _measure_drain(self, key: Key, before: Status, after: Status) -> None:
        """Measure our own part of a drain: from the answer that failed the version to the route's update."""
        answered_at, shifted = self._evidence.answered_at(key), self._shifted.get(key, 0.0)
        record = after.rollback
        judged = before.rollout is not None and after.rollout is None and record is not None and record.evidence
        if judged and answered_at and shifted > answered_at:
            metrics.DRAIN_SECONDS.observe(shifted - answered_at)
            _LOG.info("%s: weight 0 is in the API server %.3f s after Prometheus' answer", key, shifted - answered_at)

    def _with_gateway_problem(self, key: Key, children: Children, status: Status) -> Status:
        live = children.get(self._provider.kind, key.name)
        problem = self._provider.problem(live) if live is not None else ""
        if not problem or status.stalled:
            return status
        return replace(status, message=f"{status.message}. {problem}", stalled="RouteNotAccepted")

    async def _remember(self, key: Key, snapshot: Snapshot, status: Status, now: float) -> None:
        """Write status when it changed: at once when it matters, now and then when it is only progress."""
        current = snapshot.observed_generation == snapshot.generation
        if current and _essence(status) == _essence(snapshot.status):
            if status.to_dict() == snapshot.status.to_dict():
                return
            wrote_at = self._written.get(key, 0.0)
            if status.rollout is not None:
                # What is live has its turn once it is followed, which nothing is before its first look.
                if (self._evidence.turn(key) or 0.0) <= wrote_at:
                    return
            elif (left := self._settings.progress - (now - wrote_at)) > 0:
                self._queue.add_after(key, left)
                return
        document = status.to_dict()
        document["observedGeneration"] = snapshot.generation
        document["conditions"] = conditions(status, snapshot.conditions, generation=snapshot.generation, now=now)
        faults.point("before:status")
        written = await self._cluster.replace_status(
            MODEL_DEPLOYMENT,
            {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "metadata": {
                    "name": key.name,
                    "namespace": key.namespace,
                    "resourceVersion": str(snapshot.resource_version),
                },
                "status": document,
            },
        )
        faults.point("after:status")
        self._written[key] = now
        metrics.count_changes(snapshot.status, status)
        self._store.put(written)

    async def _show_problem(self, key: Key, problem: Exception) -> None:
        """Put a sentence about what is in the way into status, keeping everything else."""
        snapshot = self._store.snapshot(key)
        if snapshot is None or isinstance(problem, UnavailableError):
            return
        reason = "Refused" if isinstance(problem, RefusedError) else "Blocked"
        message = str(problem)
        if snapshot.status.message == message and snapshot.status.stalled == reason:
            return
        phase = snapshot.status.phase if snapshot.observed_generation else Phase.PENDING
        status = replace(snapshot.status, phase=phase, message=message, stalled=reason)
        try:
            await self._remember(key, snapshot, status, self._clock())
        except ApiError as again:
            _LOG.info("%s: its status could not be written: %s", key, again)

    async def _fetch(self, key: Key) -> None:
        try:
            self._store.put(await self._cluster.get(MODEL_DEPLOYMENT, key.namespace, key.name))
        except NotFoundError:
            return
        except ApiError as problem:
            _LOG.info("%s: could not be read again: %s", key, problem)

    def _follow(self, desired: ModelDeployment, status: Status, seen: Observed) -> None:
        """Tell the evidence loop what has to be read from now on."""
        key = desired.key
        # Where the step's begin is not remembered, its weight may be on the route from before this start.
        began = (status.rollout.step_since if status.rollout else 0.0) or self._started_at
        interest = interest_in(desired, status, seen, changed_at=max(began, self._shifted.get(key, 0.0)))
        if interest is None:
            self._evidence.forget(key)
        else:
            self._evidence.watch(key, interest)

    def _forget(self, key: Key) -> None:
        self._evidence.forget(key)
        self._gitops.forget(key)
        self._promotions.forget(key)
        self._gates.forget(key)
        self._incidents.forget(key)
        self._hands.forget(key)
        self._shifted.pop(key, None)
        self._pods.pop(key, None)
        self._uids.pop(key, None)
        self._written.pop(key, None)
        self._drained.pop(key, None)


def _essence(status: Status) -> Any:
    """Take away what is only progress: the counts, the sentence about them, the evidence gathered."""
    progressing = status.phase in (Phase.PROGRESSING, Phase.BAKING, Phase.STARTING)
    return replace(status, analysis={}, message="" if progressing and not status.stalled else status.message)
