"""The registry as the memory that outlives the cluster: which version of a model is stable here."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from backstay.adapters.registry.access import RegistryAccess
from backstay.adapters.registry.aliases import Registry, alias, promotion_tag
from backstay.controller.runtime import faults
from backstay.domain.resource import Key, ModelDeployment
from backstay.domain.units import timestamp

_THREADS = 2

_Answer = TypeVar("_Answer")


class StableVersions:
    """Asks and tells the registry, few at a time: one that hangs must not take the workers that other models need."""

    def __init__(
        self,
        wake: Callable[[Key], None],
        clock: Callable[[], float],
        cluster: Callable[[], str],
        access: RegistryAccess,
    ) -> None:
        self._wake = wake
        self._clock = clock
        self._cluster = cluster
        self._access = access
        self._registries: dict[str, Registry] = {}
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="registry")
        # How many are telling the registry, each in a worker that other models lack meanwhile; and who waits for that.
        self._telling = 0
        self._to_tell: OrderedDict[Key, None] = OrderedDict()

    def forget(self, key: Key) -> None:
        """Let a deleted ModelDeployment wait no longer."""
        self._to_tell.pop(key, None)

    async def recall(self, desired: ModelDeployment) -> str:
        """Return the version that the registry's alias names as stable here; empty where there is none.

        Raises:
            RegistryUnavailableError: when the registry gives no answer.
        """
        name = alias(self._cluster(), desired.key)
        return await self._in_thread(lambda: self._registry(desired).stable_version(desired.plan.model.name, name))

    async def remember(self, desired: ModelDeployment, version: str) -> bool:
        """Move the registry's alias, and note on the version since when it is stable here.

        Returns False where too many wait for the registry already; the model is woken when its turn has come.

        Raises:
            RegistryUnavailableError: when the registry does not take it.
        """
        if self._telling >= _THREADS:
            self._to_tell[desired.key] = None
            return False
        key, model, cluster = desired.key, desired.plan.model, self._cluster()
        # It may come before its turn, which is another's then.
        self._to_tell.pop(key, None)
        note = {
            "target": f"{cluster} {key}",
            "at": timestamp(self._clock()),
            "by": model.promoted_by,
            "evidence": f"configmap/{key.namespace}/{key.name}-evidence",
        }

        def write() -> None:
            registry = self._registry(desired)
            registry.set_stable_version(model.name, alias(cluster, key), version)
            registry.note(model.name, version, promotion_tag(cluster, key), json.dumps(note, ensure_ascii=False))

        self._telling += 1
        try:
            faults.point("before:alias")
            await self._in_thread(write)
            faults.point("after:alias")
        finally:
            self._telling -= 1
            if self._to_tell:
                self._wake(self._to_tell.popitem(last=False)[0])
        return True

    def _registry(self, desired: ModelDeployment) -> Registry:
        uri = desired.registry_uri
        if uri not in self._registries:
            self._registries[uri] = Registry(uri, self._access)
        return self._registries[uri]

    async def _in_thread(self, work: Callable[[], _Answer]) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
