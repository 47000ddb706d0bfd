"""The registry is told by few at once: one that hangs must not take the workers that other models need."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_decide import declared

from backstay.adapters.registry import RegistryUnavailableError
from backstay.controller import gitops
from backstay.controller.background import Background
from backstay.controller.gitops import GitOps
from backstay.controller.settings import Settings
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


async def settled() -> None:
    """Nobody waits for a crowd."""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> SlowRegistry:
    made = SlowRegistry("")
    monkeypatch.setattr(gitops, "Registry", lambda _: made)
    return made


def made(tmp_path: Path, wake: Callable[[Key], None]) -> GitOps:
    cluster: Any = None
    settings = Settings(cluster_name="test", state=tmp_path)
    return GitOps(settings, cluster, Background(wake), lambda: 1000.0, settled)


def model(number: int) -> ModelDeployment:
    return replace(declared("1"), key=Key("prod", f"model-{number}"))


async def test_two_wait_for_the_registry_and_the_others_are_woken_in_turn(
    tmp_path: Path, registry: SlowRegistry
) -> None:
    woken: list[Key] = []
    answers = made(tmp_path, woken.append)
    telling = [asyncio.create_task(answers.remember(model(number), "1")) for number in range(2)]
    await asyncio.sleep(0)
    assert [await answers.remember(model(number), "1") for number in (2, 3, 4)] == [False] * 3
    answers.forget(model(3).key)
    assert woken == []
    registry.may.set()
    assert await asyncio.gather(*telling) == [True, True]
    assert woken == [model(2).key, model(4).key]
    assert await answers.remember(model(2), "1")
    assert len(registry.told) == 3


async def test_a_registry_that_refuses_gives_its_place_to_the_next(tmp_path: Path, registry: SlowRegistry) -> None:
    woken: list[Key] = []
    answers = made(tmp_path, woken.append)
    registry.problem = "it is full"
    telling = [asyncio.create_task(answers.remember(model(number), "1")) for number in range(2)]
    await asyncio.sleep(0)
    assert not await answers.remember(model(2), "1")
    registry.may.set()
    assert [str(problem) for problem in await asyncio.gather(*telling, return_exceptions=True)] == ["it is full"] * 2
    assert woken == [model(2).key]
