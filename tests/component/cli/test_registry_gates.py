"""The controller asks a real registry before it starts a version, and tells it of a rollback."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backstay.adapters.registry.access import RegistryAccess
from backstay.adapters.registry.aliases import rollback_tag
from backstay.controller.runtime.background import Background
from backstay.controller.services.promotion_policy import PromotionPolicy
from backstay.controller.services.registry_gates import RegistryGates
from backstay.domain.observed import GatesAnswer, GatesAnswered, GatesUnasked, GatesUnavailable
from backstay.domain.resource import Key, ModelDeployment
from backstay.domain.status import RollbackRecord

pytestmark = pytest.mark.component

MODEL = "fraud-detector"
KEY = Key("fraud-production", MODEL)
DIGEST, OTHER = "sha256:" + 64 * "a", "sha256:" + 64 * "b"
SETTINGS = {"namespaces": "-production$"}


def declared(uri: str, version: str, *, schemas: Sequence[str] = (), **model: str) -> ModelDeployment:
    return ModelDeployment.of(
        {
            "metadata": {"name": KEY.name, "namespace": KEY.namespace, "uid": "u", "generation": 1},
            "spec": {
                "model": {"name": MODEL, "version": version, **model},
                "registry": {"uri": uri, "featureSchemaVersions": schemas},
                "serving": {"template": {"spec": {"containers": [{"name": "server", "image": "server:1"}]}}},
                "traffic": {"gatewayAPI": {"gateway": {"name": "models", "namespace": "gateways"}}},
                "rollout": {"steps": [{"weight": 100}]},
            },
        }
    )


class Desk:
    """The controller's part, with a policy in a folder as a ConfigMap is mounted."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        folder.mkdir()
        for name, value in {**SETTINGS, **settings}.items():
            (folder / name).write_text(value)
        self.woken = asyncio.Event()
        self.now = 1000.0
        background = Background(lambda _: self.woken.set())
        self.gates = RegistryGates(
            PromotionPolicy(folder), background, lambda: self.now, lambda: "here", RegistryAccess()
        )

    async def ask(self, desired: ModelDeployment) -> GatesAnswer:
        self.woken.clear()
        self.gates.ask(desired)
        await asyncio.wait_for(self.woken.wait(), 60)
        return self.gates.answer(desired)


@pytest.fixture
def desk(tmp_path: Path) -> Callable[..., Desk]:
    return lambda **settings: Desk(tmp_path / "policy", settings)


@pytest.mark.parametrize(
    ("settings", "registered", "model", "failed"),
    [
        ({}, {}, {}, {}),
        ({}, {"tags": {"backstay.dev/digest": DIGEST}}, {"digest": DIGEST}, {}),
        (
            {},
            {"tags": {"backstay.dev/digest": DIGEST}},
            {"digest": OTHER},
            {"Lineage": f"digest is {OTHER}, and the registry has {DIGEST}"},
        ),
        (
            {},
            {"run_tags": {"mlflow.source.git.commit": 40 * "a"}, "params": {"data_checksum": "sha256:" + 64 * "c"}},
            {"codeCommit": 40 * "b", "dataChecksum": "sha256:" + 64 * "d"},
            {"Lineage": "; dataChecksum is sha256:dddd"},
        ),
        (
            {"requiredTags": "eval.approved=true"},
            {"tags": {"eval.approved": "false"}},
            {},
            {"Tags": "has eval.approved = 'false', and the policy asks for 'true'"},
        ),
        (
            {"metricLimits": "auc>=0.9, brier <= 0.2,loss<=1"},
            {"metrics": {"auc": 0.85, "brier": 0.1}},
            {},
            {"Metrics": "has auc = 0.85, and the policy asks for auc >= 0.9; train a better one; version"},
        ),
        ({"requireModelCard": "true"}, {}, {}, {"ModelCard": "has no description in the registry"}),
        ({"namespaces": "[", "requireModelCard": "true"}, {}, {}, {"Policy": "namespaces"}),
        ({"namespaces": "-staging$", "requireModelCard": "true"}, {}, {}, {}),
    ],
)
async def test_each_gate_has_a_result_and_a_sentence(  # noqa: PLR0913, PLR0917 - a table of what is asked
    registry: Any,
    desk: Callable[..., Desk],
    tmp_path: Path,
    settings: Mapping[str, str],
    registered: Mapping[str, Any],
    model: Mapping[str, str],
    failed: Mapping[str, str],
) -> None:
    version = registry.register(folder=tmp_path, **registered)
    answer = await desk(**settings).ask(declared(registry.uri, version, **model))
    assert isinstance(answer, GatesAnswered)
    assert {gate.name for gate in answer.gates if not gate.passed} == set(failed)
    for gate in answer.gates:
        assert failed.get(gate.name, "") in gate.message


@pytest.mark.parametrize(
    ("registered", "sentence"),
    [
        ({"params": {"feature_schema_version": "4"}}, ""),
        (
            {"tags": {"backstay.dev/feature-schema-version": "2"}},
            "expects feature schema 2, and this environment serves",
        ),
        ({}, "has no feature schema version of version"),
    ],
)
async def test_the_feature_schema_must_be_one_that_the_environment_serves(
    registry: Any, desk: Callable[..., Desk], tmp_path: Path, registered: Mapping[str, Any], sentence: str
) -> None:
    version = registry.register(folder=tmp_path, **registered)
    answer = await desk().ask(declared(registry.uri, version, schemas=("3", "4")))
    assert isinstance(answer, GatesAnswered)
    (gate,) = [gate for gate in answer.gates if gate.name == "Schema"]
    assert (gate.passed, sentence in gate.message) == (not sentence, True)


async def test_an_absent_and_a_broken_version_are_told_apart(
    registry: Any, desk: Callable[..., Desk], tmp_path: Path
) -> None:
    asked, version = desk(), registry.register(folder=tmp_path)
    registry.spoil(version)
    broken = await asked.ask(declared(registry.uri, version))
    absent = await asked.ask(declared(registry.uri, "77"))
    assert isinstance(broken, GatesAnswered)
    assert isinstance(absent, GatesAnswered)
    assert [gate.name for gate in broken.gates if not gate.passed] == ["Ready"]
    assert [gate.message for gate in absent.gates if not gate.passed] == [
        f"The registry {registry.uri} has no version 77 of {MODEL}: register it, or name another"
    ]


async def test_a_registry_that_is_away_is_asked_again_and_what_was_said_of_another_version_is_forgotten(
    registry: Any, desk: Callable[..., Desk], tmp_path: Path
) -> None:
    asked, version = desk(), registry.register(folder=tmp_path)
    away, there = declared("http://127.0.0.1:9", version), declared(registry.uri, version)
    answer = await asked.ask(away)
    assert isinstance(answer, GatesUnavailable)
    assert "does not answer" in answer.reason
    assert asked.gates.answer(there) == GatesUnasked()
    assert isinstance(await asked.ask(there), GatesAnswered)


async def test_a_rollback_is_noted_on_the_version_once_the_registry_is_there(
    registry: Any, desk: Callable[..., Desk], tmp_path: Path
) -> None:
    told, version = desk(), registry.register(folder=tmp_path, tags={"rollback.of-another-target": "theirs"})
    record = RollbackRecord(
        rollout=f"{version}-1",
        from_revision="r2",
        from_version=version,
        to_revision="r1",
        to_version="1",
        reason="errors 4.1 % against 1.0 %",
        failed_at=0.0,
        id="0123456789abcdef",
    )
    for uri, known in (("http://127.0.0.1:9", False), (registry.uri, True)):
        told.woken.clear()
        told.gates.tell(declared(uri, "1"), record)
        await asyncio.wait_for(told.woken.wait(), 60)
        assert told.gates.told(KEY, record) is known
        told.now += 60
    tags = registry.client.get_model_version(MODEL, version).tags
    note = json.loads(tags[rollback_tag("here", KEY)])
    assert note["reason"] == "errors 4.1 % against 1.0 %"
    assert (note["target"], note["id"], note["to"]) == (f"here {KEY}", record.id, "1")
    assert tags["rollback.of-another-target"] == "theirs"
    assert not told.gates.told(KEY, replace(record, id="another"))
