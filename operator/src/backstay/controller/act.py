"""Carrying out actions. Every act is idempotent: what is already so is left alone."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import assert_never

from backstay.adapters.kubernetes import manifests
from backstay.adapters.kubernetes.client import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    EVENT,
    SERVICE,
    ApiError,
    Cluster,
    ConflictError,
    Kind,
    MissingKindError,
    NotFoundError,
    Object,
)
from backstay.adapters.messages.plain import event_text
from backstay.adapters.traffic import TrafficProvider
from backstay.controller import observe
from backstay.controller.runtime import faults
from backstay.controller.runtime.listing import list_into
from backstay.controller.runtime.store import Children, Store
from backstay.controller.services.gitops import GitOps
from backstay.controller.services.incidents import Incidents
from backstay.controller.services.promotions import Promotions
from backstay.controller.services.registry_gates import RegistryGates
from backstay.domain.actions import (
    Action,
    Announce,
    AskGates,
    CommitRollback,
    EnsureStableService,
    EnsureWorkload,
    KeepPlan,
    LocateRollback,
    LocateSource,
    ProposePromotion,
    RecallStable,
    RefreshApplication,
    RememberStable,
    ReportIncident,
    Retire,
    ShiftTraffic,
    TellRegistry,
    WithdrawPromotion,
    WithdrawRollback,
)
from backstay.domain.observed import Route
from backstay.domain.resource import GROUP, KIND, VERSION, Key, ModelDeployment, Plan
from backstay.domain.status import RolloutState


class BlockedError(Exception):
    """An act has to wait for something outside; the text is a sentence for people."""


class PendingError(Exception):
    """An act has to wait for its turn; the model is woken when that comes, and the same is decided again then."""


class Hands:
    """Does what was decided, and lets the store see the result at once."""

    def __init__(  # noqa: PLR0913 - all that it has hands for
        self,
        *,
        cluster: Cluster,
        store: Store,
        provider: TrafficProvider,
        gitops: GitOps,
        promotions: Promotions,
        gates: RegistryGates,
        incidents: Incidents,
        clock: Callable[[], float],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._provider = provider
        self._gitops = gitops
        self._promotions = promotions
        self._gates = gates
        self._incidents = incidents
        self._clock = clock
        # What an object looked like after we wrote it although it held something else than what we asked for (an
        # admission webhook, a normalised quantity): without this memory it would be written again at each look.
        self._settled: dict[tuple[Key, str, str], tuple[str, str]] = {}

    async def require_gateway(self) -> None:
        """Make sure that the kind of object that traffic is shared by has been listed.

        Raises:
            BlockedError: while the API server does not know it.
        """
        if self._store.has_listed(self._provider.kind):
            return
        try:
            await list_into(self._store, self._cluster, self._provider.kind)
        except MissingKindError as missing:
            raise BlockedError(_no_gateway(missing)) from missing

    async def carry_out(  # noqa: C901, PLR0912 - one case for each action
        self, desired: ModelDeployment, action: Action
    ) -> None:
        """Do one action.

        Raises:
            BlockedError: when it has to wait for something.
            PendingError: when its turn has not come.
            RegistryUnavailableError: when the registry did not do it.
            ApiError: when the API server did not do it.
        """
        match action:
            case ShiftTraffic():
                await self._shift(desired, action)
            case KeepPlan():
                await self._keep_plan(desired, action)
            case EnsureWorkload(backend, plan, replicas):
                await self._ensure(
                    desired, DEPLOYMENT, manifests.deployment(desired, backend, plan, replicas), "workload"
                )
                await self._ensure(desired, SERVICE, manifests.service(desired, backend, plan), "service")
            case EnsureStableService(revision, plan):
                service = manifests.stable_service(desired, revision, plan)
                await self._publish(desired, plan, service)
                await self._ensure(desired, SERVICE, service, "stable-service")
            case Retire():
                await self._retire(desired, action)
            case RecallStable():
                self._gitops.recall(desired)
            case LocateSource():
                self._gitops.locate(desired)
            case LocateRollback(record):
                self._gitops.locate_rollback(desired, record)
            case CommitRollback(record, good):
                self._gitops.commit(desired, record, good)
            case WithdrawRollback(record):
                self._gitops.withdraw(desired, record)
            case ProposePromotion(promotion, model, gathered):
                self._promotions.propose(desired, promotion, model, gathered)
            case WithdrawPromotion(promotion, why):
                self._promotions.withdraw(desired, promotion, why)
            case AskGates():
                self._gates.ask(desired)
            case TellRegistry(record):
                self._gates.tell(desired, record)
            case ReportIncident(record, started_at):
                self._incidents.report(desired, record, started_at)
            case RefreshApplication(commit, every):
                self._gitops.refresh(desired, commit, every)
            case RememberStable(version):
                if not await self._gitops.stable_versions.remember(desired, version):
                    raise PendingError
            case Announce():
                await self._announce(desired, action)
            case _:
                assert_never(action)

    async def publish_evidence(self, desired: ModelDeployment, rollout: RolloutState, document: Object) -> None:
        """Keep the evidence of the model's last rollout in a ConfigMap.

        Raises:
            ApiError: when the API server did not take it.
        """
        await self._cluster.apply(CONFIG_MAP, manifests.evidence(desired, rollout, document))

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a deleted ModelDeployment."""
        self._settled = {slot: value for slot, value in self._settled.items() if slot[0] != key}

    def _children(self, desired: ModelDeployment) -> Children:
        return self._store.owned(desired.key, desired.uid)

    def observe_route(self, desired: ModelDeployment) -> Route | None:
        """Read the route; what became of our last write of it counts as what was asked for."""
        children, kind = self._children(desired), self._provider.kind
        found, live = observe.route(children, self._provider, desired), children.get(kind, desired.key.name)
        if found is None or live is None or found.as_declared:
            return found
        return replace(found, as_declared=self._is_settled(desired.key, kind, live))

    async def _ensure(self, desired: ModelDeployment, kind: Kind, body: Object, name: str) -> None:
        live = self._children(desired).get(kind, body["metadata"]["name"])
        if live is not None and "deletionTimestamp" in live["metadata"]:
            raise BlockedError(f"Waiting for the former {kind.kind} {body['metadata']['name']} to be gone")
        if live is not None and (
            manifests.is_as_wanted(body, live) or self._is_settled(desired.key, kind, live, manifests.digest(body))
        ):
            return
        if live is None:
            await self._refuse_foreign(desired, kind, body["metadata"]["name"])
        faults.point(f"before:{name}")
        applied = await self._cluster.apply(kind, body)
        faults.point(f"after:{name}")
        if not manifests.is_as_wanted(body, applied):
            # Applying takes back what we set; what somebody has added beside it goes only with the whole spec.
            faults.point("before:restore")
            applied = await self._cluster.replace_spec(kind, body)
            faults.point("after:restore")
        if not manifests.is_as_wanted(body, applied):
            self._settle(desired.key, kind, applied, manifests.digest(body))
        self._store.put_child(kind, applied)

    def _settle(self, key: Key, kind: Kind, written: Object, wanted: str = "") -> None:
        self._settled[key, kind.kind, written["metadata"]["name"]] = (wanted, _edition(written))

    def _is_settled(self, key: Key, kind: Kind, live: Object, wanted: str = "") -> bool:
        return self._settled.get((key, kind.kind, live["metadata"]["name"])) == (wanted, _edition(live))

    async def _refuse_foreign(self, desired: ModelDeployment, kind: Kind, name: str) -> None:
        """Wait for an object of somebody else's: it is never adopted."""
        try:
            live = await self._cluster.get(kind, desired.key.namespace, name)
        except NotFoundError:
            return
        owner = manifests.owner_of(live["metadata"])
        if owner is not None and owner[1] == desired.uid:
            return
        whose = "a former ModelDeployment of this name" if owner else "somebody else"
        raise BlockedError(f"{kind.kind} {name} belongs to {whose}: it must be gone before it can be made for this one")

    async def _publish(self, desired: ModelDeployment, plan: Plan, service: Object) -> None:
        """Apply the ConfigMap of facts, which is not watched, unless the Service says that this was done."""
        live = self._children(desired).get(SERVICE, service["metadata"]["name"])
        told = (live["metadata"].get("annotations") or {}).get(manifests.FACTS) if live is not None else None
        if told != service["metadata"]["annotations"][manifests.FACTS]:
            faults.point("before:config")
            await self._cluster.apply(CONFIG_MAP, manifests.facts(desired, plan))
            faults.point("after:config")

    async def _keep_plan(self, desired: ModelDeployment, action: KeepPlan) -> None:
        body = manifests.stored_plan(desired, action.plan)
        name = body["metadata"]["name"]
        live = self._children(desired).get(CONTROLLER_REVISION, name)
        if live is not None and (live["data"] == body["data"] or not action.renew):
            return
        if live is not None:
            # Their data is immutable, so a plan that an earlier rollout left makes way for the new one.
            faults.point("before:old-plan")
            await self._cluster.delete(CONTROLLER_REVISION, desired.key.namespace, name)
            faults.point("after:old-plan")
            self._store.drop_child(CONTROLLER_REVISION, live)
        faults.point("before:plan")
        self._store.put_child(CONTROLLER_REVISION, await self._create(desired, CONTROLLER_REVISION, body))
        faults.point("after:plan")

    async def _create(self, desired: ModelDeployment, kind: Kind, body: Object) -> Object:
        """Create an object, or find the one of ours that is there already."""
        try:
            return await self._cluster.create(kind, body)
        except ConflictError:
            await self._refuse_foreign(desired, kind, body["metadata"]["name"])
            return await self._cluster.get(kind, desired.key.namespace, body["metadata"]["name"])

    async def _shift(self, desired: ModelDeployment, action: ShiftTraffic) -> None:
        kind = self._provider.kind
        body = self._provider.build(desired, action.weights, action.copies, action.marks)
        live = self._children(desired).get(kind, desired.key.name)
        try:
            faults.point("before:route")
            if live is None:
                written = await self._create(desired, kind, body)
            else:
                body["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
                written = await self._cluster.replace(kind, body)
            faults.point("after:route")
        except NotFoundError:
            if live is not None:
                self._store.drop_child(kind, live)
            raise
        except ConflictError:
            await self._look_again(desired, kind)
            raise
        except MissingKindError as missing:
            raise BlockedError(_no_gateway(missing)) from missing
        self._store.put_child(kind, written)
        self._settle(desired.key, kind, written)

    async def _look_again(self, desired: ModelDeployment, kind: Kind) -> None:
        """Fetch what somebody else changed, so that the next decision is made on it."""
        self._store.put_child(kind, await self._cluster.get(kind, desired.key.namespace, desired.key.name))

    async def _retire(self, desired: ModelDeployment, action: Retire) -> None:
        children, name = self._children(desired), manifests.workload_name(desired.key.name, action.backend)
        for kind, what in ((SERVICE, "service"), (CONTROLLER_REVISION, "plan"), (DEPLOYMENT, "workload")):
            live = children.get(kind, name)
            if live is not None:
                faults.point(f"before:retire-{what}")
                await self._cluster.delete(kind, desired.key.namespace, name)
                faults.point(f"after:retire-{what}")
                self._store.drop_child(kind, live)
            self._settled.pop((desired.key, kind.kind, name), None)

    async def _announce(self, desired: ModelDeployment, action: Announce) -> None:
        """Send an Event. Events inform people; losing one must never hold up a drain."""
        faults.point("before:event")
        try:
            await self._cluster.create(EVENT, event_of(desired, action, datetime.fromtimestamp(self._clock(), UTC)))
        except ApiError:
            return
        faults.point("after:event")


def event_of(desired: ModelDeployment, action: Announce, now: datetime) -> Object:
    """Write an announcement as an Event about its ModelDeployment."""
    key = desired.key
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        # kubectl describe lists them by name.
        "metadata": {"name": f"{key.name}.{round(now.timestamp() * 1e6):x}", "namespace": key.namespace},
        "eventTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": f"{GROUP}/controller",
        "reportingInstance": "backstay-controller",
        "action": action.reason,
        "reason": action.reason,
        "type": str(action.severity),
        "note": event_text(action.message),
        "regarding": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "name": key.name,
            "namespace": key.namespace,
            "uid": desired.uid,
        },
    }


def _no_gateway(missing: MissingKindError) -> str:
    return f"{missing}: install the Gateway API (standard channel, v1) and a gateway that implements it"


def _edition(live: Object) -> str:
    """Name the state of an object's spec; kinds without a generation change only when somebody writes them."""
    meta = live["metadata"]
    return str(meta.get("generation") or meta["resourceVersion"])
