"""What registry and Git remembered is used once: an answer that is kept stops being true with the next promotion."""

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from test_decide import declared

from backstay.controller.runtime.background import Background
from backstay.controller.runtime.settings import Settings
from backstay.controller.services import stable_versions as stableversions
from backstay.controller.services.gitops import GitOps
from backstay.domain.observed import NeverServed, NotRecalled, ServedBefore
from backstay.domain.resource import Key

if TYPE_CHECKING:
    from backstay.adapters.kubernetes.client import Cluster

MODEL = declared("2")


class Registry:
    """Names the version that was stable, once it may answer."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.may.set()
        self.stable = ""

    def stable_version(self, model: str, name: str) -> str:
        """Return what the alias names when the question comes, and let it wait."""
        del model, name
        answer = self.stable
        self.may.wait(5.0)
        return answer


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    made = Registry()
    monkeypatch.setattr(stableversions, "Registry", lambda *_: made)
    return made


class Asking:
    """GitOps without a cluster: nothing here is delivered by Argo CD."""

    def __init__(self, state: Path) -> None:
        self.woken = asyncio.Queue[Key]()
        background = Background(self.woken.put_nowait)
        settings = Settings(cluster_name="test", state=state)

        async def at_once() -> None:
            """Wait for no crowd."""

        self.gitops = GitOps(settings, cast("Cluster", None), background, lambda: 1000.0, at_once)

    async def answered(self) -> None:
        """Wait until the model is woken."""
        await asyncio.wait_for(self.woken.get(), 5.0)


async def test_after_it_was_used_an_answer_is_asked_for_again(registry: Registry, tmp_path: Path) -> None:
    asking = Asking(tmp_path)
    asking.gitops.recall(MODEL)
    await asking.answered()
    assert asking.gitops.recalled(MODEL.key) == NeverServed()
    asking.gitops.forget_recall(MODEL.key)
    assert asking.gitops.recalled(MODEL.key) == NotRecalled()
    registry.stable = "1"
    asking.gitops.recall(MODEL)
    await asking.answered()
    found = asking.gitops.recalled(MODEL.key)
    assert isinstance(found, ServedBefore)
    assert found.model.version == "1"


async def test_an_answer_that_is_on_its_way_at_a_promotion_counts_for_nothing(
    registry: Registry, tmp_path: Path
) -> None:
    asking = Asking(tmp_path)
    registry.may.clear()
    asking.gitops.recall(MODEL)
    await asyncio.sleep(0)
    asking.gitops.forget_recall(MODEL.key)
    registry.may.set()
    await asking.answered()
    assert asking.gitops.recalled(MODEL.key) == NotRecalled()
