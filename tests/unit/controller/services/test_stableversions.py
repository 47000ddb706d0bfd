"""The registry is told by few at once: one that hangs must not take the workers that other models need."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from test_decide import declared

from backstay.adapters.registry.access import RegistryAccess
from backstay.adapters.registry.errors import RegistryUnavailableError
from backstay.controller.services import stable_versions as stableversions
from backstay.controller.services.stable_versions import StableVersions
from backstay.domain.resource import Key, ModelDeployment


class SlowRegistry:
    """Takes an alias once it may."""

    def __init__(self, uri: str) -> None:
        del uri
        self.may = threading.Event()
        self.told: list[str] = []
        self.problem = ""

    def set_stable_version(self, model: str, name: str, version: str) -> None:
        """Wait, then fail or take it."""
        del model, version
        self.may.wait(5.0)
        if self.problem:
            raise RegistryUnavailableError(self.problem)
        self.told.append(name)

    def note(self, *_: str) -> None:
        """Take any note."""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> SlowRegistry:
    made = SlowRegistry("")
    monkeypatch.setattr(stableversions, "Registry", lambda *_: made)
    return made


def versions(wake: Callable[[Key], None]) -> StableVersions:
    return StableVersions(wake, lambda: 1000.0, lambda: "test", RegistryAccess())


def model(number: int) -> ModelDeployment:
    return replace(declared("1"), key=Key("prod", f"model-{number}"))


async def two_tell(stable: StableVersions) -> list[asyncio.Task[bool]]:
    """Let as many tell the registry, which does not answer yet, as may at once."""
    telling = [asyncio.create_task(stable.remember(model(number), "1")) for number in range(2)]
    await asyncio.sleep(0)
    return telling


async def test_two_wait_for_the_registry_and_the_others_are_woken_in_turn(registry: SlowRegistry) -> None:
    woken: list[Key] = []
    stable = versions(woken.append)
    telling = await two_tell(stable)
    assert [await stable.remember(model(number), "1") for number in (2, 3, 4)] == [False] * 3
    stable.forget(model(3).key)
    assert woken == []
    registry.may.set()
    assert await asyncio.gather(*telling) == [True, True]
    assert woken == [model(2).key, model(4).key]
    assert await stable.remember(model(2), "1")
    assert len(registry.told) == 3


async def test_who_comes_before_its_turn_waits_for_it_no_longer(registry: SlowRegistry) -> None:
    woken: list[Key] = []
    stable = versions(woken.append)
    telling = await two_tell(stable)
    assert [await stable.remember(model(number), "1") for number in (2, 3, 4)] == [False] * 3
    registry.may.set()
    await asyncio.gather(*telling)
    assert woken == [model(2).key, model(3).key]
    assert await stable.remember(model(4), "1")
    assert await stable.remember(model(2), "1")
    assert woken == [model(2).key, model(3).key]


async def test_a_registry_that_refuses_gives_its_place_to_the_next(registry: SlowRegistry) -> None:
    woken: list[Key] = []
    stable = versions(woken.append)
    registry.problem = "it is full"
    telling = await two_tell(stable)
    assert not await stable.remember(model(2), "1")
    registry.may.set()
    assert [str(problem) for problem in await asyncio.gather(*telling, return_exceptions=True)] == ["it is full"] * 2
    assert woken == [model(2).key]
