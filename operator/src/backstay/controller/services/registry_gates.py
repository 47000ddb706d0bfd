"""The registry, asked in the background whether a version may be started, and told when one was rolled back."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from backstay.adapters.policy.gates import PolicyError, gates
from backstay.adapters.registry.access import RegistryAccess
from backstay.adapters.registry.aliases import Registry, rollback_tag
from backstay.adapters.registry.errors import RegistryUnavailableError
from backstay.adapters.registry.versions import ModelRegistry, ModelVersionError, RegisteredVersion
from backstay.controller.runtime import faults
from backstay.controller.runtime.background import Background
from backstay.controller.services.promotion_policy import PromotionPolicy
from backstay.domain import observed
from backstay.domain.resource import Key, ModelDeployment, ModelIdentity
from backstay.domain.status import FAILED, Gate, RollbackRecord
from backstay.domain.units import timestamp

# A version that is not let through now may be later, when somebody has set a tag.
_AGAIN_AFTER = 25.0
_RETRY_AFTER = 4.0
_LONGEST_REASON = 1000

_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class _Known:
    """The last answer about one model, and the version that it was about."""

    registry: str
    model: ModelIdentity
    answer: observed.GatesAnswer
    again_at: float


class RegistryGates:
    """Answers of the registry, by ModelDeployment."""

    def __init__(
        self,
        policy: PromotionPolicy,
        background: Background,
        clock: Callable[[], float],
        cluster: Callable[[], str],
        access: RegistryAccess,
    ) -> None:
        self._policy = policy
        self._background = background
        self._clock = clock
        self._cluster = cluster
        self._access = access
        self._known: dict[Key, _Known] = {}
        self._told: dict[Key, str] = {}
        self._tell_again: dict[Key, float] = {}
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="gates")

    def answer(self, desired: ModelDeployment) -> observed.GatesAnswer:
        """Return what the registry has said of the declared version."""
        known = self._known.get(desired.key)
        if known is None or (known.registry, known.model) != (desired.registry_uri, desired.plan.model):
            return observed.GatesUnasked()
        return known.answer

    def ask(self, desired: ModelDeployment) -> None:
        """Start asking, unless that was done a moment ago."""
        known = self._known.get(desired.key)
        same = known is not None and (known.registry, known.model) == (desired.registry_uri, desired.plan.model)
        if known is None or not same or self._clock() >= known.again_at:
            self._background.start(desired.key, "gates", lambda: self._ask(desired))

    def told(self, key: Key, record: RollbackRecord | None) -> bool:
        """Tell whether the registry has been told of the rollback on record."""
        return record is not None and self._told.get(key) == record.id

    def tell(self, desired: ModelDeployment, record: RollbackRecord) -> None:
        """Start noting the rollback on the failed version, unless that was tried a moment ago."""
        if self._clock() >= self._tell_again.get(desired.key, 0.0):
            self._background.start(desired.key, "tell-registry", lambda: self._tell(desired, record))

    def forget_answer(self, key: Key) -> None:
        """Drop the answer about a version that has been started."""
        self._known.pop(key, None)

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a deleted ModelDeployment."""
        for known in (self._known, self._told, self._tell_again):
            known.pop(key, None)

    async def _ask(self, desired: ModelDeployment) -> None:
        model, uri = desired.plan.model, desired.registry_uri
        answer: observed.GatesAnswer
        try:
            known = await self._in_thread(lambda: _read(uri, self._access, model))
            answer = observed.GatesAnswered(gates(model, known, self._policy.asked_of_registry(desired)))
        except RegistryUnavailableError as problem:
            answer = observed.GatesUnavailable(str(problem))
        except PolicyError as problem:
            sentence = f"the settings of the promotion policy cannot be used: {problem}"
            answer = observed.GatesAnswered((Gate("Policy", FAILED, sentence),))
        pause = _AGAIN_AFTER if isinstance(answer, observed.GatesAnswered) else _RETRY_AFTER
        self._known[desired.key] = _Known(uri, model, answer, self._clock() + pause)

    async def _tell(self, desired: ModelDeployment, record: RollbackRecord) -> None:
        note = {
            "target": f"{self._cluster()} {desired.key}",
            "id": record.id,
            "at": timestamp(record.failed_at),
            "to": record.to_version,
            "reason": record.reason[:_LONGEST_REASON],
            "conclusive": not record.inconclusive,
        }
        name, tag = desired.plan.model.name, rollback_tag(self._cluster(), desired.key)
        self._tell_again[desired.key] = self._clock() + _AGAIN_AFTER
        try:
            faults.point("before:rollback-tag")
            registry = Registry(desired.registry_uri, self._access)
            text = json.dumps(note, ensure_ascii=False)
            await self._in_thread(lambda: registry.note(name, record.from_version, tag, text))
            faults.point("after:rollback-tag")
        except RegistryUnavailableError:
            return
        self._told[desired.key] = record.id

    async def _in_thread(self, work: Callable[[], _Answer]) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _read(uri: str, access: RegistryAccess, model: ModelIdentity) -> RegisteredVersion | ModelVersionError:
    try:
        return ModelRegistry(uri, access).read(model.name, model.version)
    except ModelVersionError as error:
        return error
