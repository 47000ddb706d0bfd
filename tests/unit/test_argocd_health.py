"""Runs the Lua that operator/config/argocd gives to Argo CD, with the libraries that Argo CD's Lua has."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaError, LuaRuntime

CONFIG = Path(__file__).parents[2] / "operator" / "config" / "argocd"
CRD = Path(__file__).parents[2] / "operator" / "config" / "crd" / "modeldeployments.yaml"
KEYS: dict[str, str] = yaml.safe_load((CONFIG / "argocd-cm-patch.yaml").read_text())["data"]
HEALTH = KEYS["resource.customizations.health.backstay.dev_ModelDeployment"]
ACTIONS: dict[str, Any] = yaml.safe_load(KEYS["resource.customizations.actions.backstay.dev_ModelDeployment"])

STALLED = {"type": "Stalled", "status": "True", "reason": "AwaitingSync", "message": "the sync window is closed"}
READY = {"type": "Ready", "status": "False", "reason": "RollingBack", "message": "rolling back"}
ROLLOUT = {"id": "4a7d1ed414474e40", "version": "7"}
NOT_SEEN = ("Progressing", "Backstay has not acted on the latest change yet")


def run(script: str, resource: dict[str, Any]) -> Any:
    lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    # Argo CD opens the base, table and package libraries, and of os what tells the time; a text has no methods there.
    lua.execute('getmetatable("").__index = nil; string, math, io, os, debug, coroutine = nil, nil, nil, nil, nil, nil')
    lua.globals()["obj"] = lua.table_from(resource, recursive=True)
    return plain(lua.execute(script))


def plain(value: Any) -> Any:
    return {name: plain(entry) for name, entry in value.items()} if hasattr(value, "items") else value


def model_deployment(status: dict[str, Any] | None, *, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    resource: dict[str, Any] = {"metadata": {"name": "fraud-detector", "generation": 3}, "spec": {}}
    if annotations is not None:
        resource["metadata"]["annotations"] = annotations
    if status is not None:
        resource["status"] = {"observedGeneration": 3, **status}
    return resource


@pytest.mark.parametrize(
    ("status", "health", "message"),
    [
        (None, *NOT_SEEN),
        ({}, *NOT_SEEN),
        ({"phase": "Stable", "observedGeneration": 2, "message": "7 serves"}, *NOT_SEEN),
        ({"phase": "Degraded", "observedGeneration": 2}, *NOT_SEEN),
        ({"phase": "Stable", "observedGeneration": None}, *NOT_SEEN),
        ({"phase": "Stable", "observedGeneration": 4, "message": "7 serves"}, "Healthy", "7 serves"),
        ({"phase": "Pending", "message": "asking the registry"}, "Progressing", "asking the registry"),
        ({"phase": "Starting", "message": "0 of 2 pods ready"}, "Progressing", "0 of 2 pods ready"),
        ({"phase": "Progressing", "message": "7 at 10 %"}, "Progressing", "7 at 10 %"),
        ({"phase": "Progressing"}, "Progressing", "Progressing"),
        ({"phase": "Baking", "message": ""}, "Progressing", "Baking"),
        ({"phase": "AwaitingApproval", "message": "approve 2/4"}, "Suspended", "approve 2/4"),
        ({"phase": "Paused", "message": "paused at 10 %"}, "Suspended", "paused at 10 %"),
        ({"phase": "AwaitingApproval", "message": "approve 2/4", "conditions": [STALLED]}, "Suspended", "approve 2/4"),
        ({"phase": "RollingBack", "message": "7 failed", "conditions": [READY]}, "Progressing", "7 failed"),
        ({"phase": "RollingBack", "message": "7 failed", "conditions": [READY, STALLED]}, "Degraded", "7 failed"),
        ({"phase": "RollingBack", "conditions": [READY, STALLED]}, "Degraded", "the sync window is closed"),
        ({"phase": "RollingBack", "conditions": [{**STALLED, "status": "False"}]}, "Progressing", "RollingBack"),
        ({"phase": "Progressing", "message": "held", "conditions": [STALLED]}, "Degraded", "held"),
        ({"phase": "Degraded", "message": "commit 1f0c brought it"}, "Degraded", "commit 1f0c brought it"),
        ({"phase": "Stable", "message": "7 serves", "conditions": []}, "Healthy", "7 serves"),
        ({"phase": "RolledBack", "message": "6 serves again"}, "Healthy", "6 serves again"),
    ],
)
def test_health(status: dict[str, Any] | None, health: str, message: str) -> None:
    assert run(HEALTH, model_deployment(status)) == {"status": health, "message": message}


def test_a_phase_of_another_version_is_not_guessed_at() -> None:
    answer = run(HEALTH, model_deployment({"phase": "Dreaming"}))
    assert answer["status"] == "Unknown"
    assert answer["message"] == "unknown phase Dreaming: install the argocd-cm keys of this version of Backstay"


def test_every_phase_of_the_crd_has_a_health() -> None:
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    phases = schema["properties"]["status"]["properties"]["phase"]["enum"]
    unknown = [phase for phase in phases if run(HEALTH, model_deployment({"phase": phase}))["status"] == "Unknown"]
    assert phases
    assert unknown == []


def offered(status: dict[str, Any] | None, *, annotations: dict[str, str] | None = None) -> set[str]:
    found = run(ACTIONS["discovery.lua"], model_deployment(status, annotations=annotations))
    assert set(found) == {definition["name"] for definition in ACTIONS["definitions"]}
    return {name for name, action in found.items() if not action["disabled"]}


def act(name: str, status: dict[str, Any], *, annotations: dict[str, str] | None = None) -> dict[str, str]:
    script = next(entry["action.lua"] for entry in ACTIONS["definitions"] if entry["name"] == name)
    before = model_deployment(status, annotations=annotations)
    after = run(script, before)
    changed: dict[str, str] = after["metadata"].pop("annotations")
    before["metadata"].pop("annotations", None)
    assert after == before, "an action changes annotations and nothing else"
    return changed


@pytest.mark.parametrize(
    ("status", "annotations", "actions"),
    [
        (None, None, set()),
        ({"phase": "Stable"}, None, set()),
        ({"phase": "Pending"}, {}, set()),
        ({"phase": "Progressing"}, None, set()),
        ({"phase": "Starting", "rollout": ROLLOUT}, None, {"abort", "pause"}),
        ({"phase": "Progressing", "rollout": ROLLOUT, "step": "1/4"}, None, {"abort", "pause"}),
        ({"phase": "Baking", "rollout": ROLLOUT, "step": "4/4"}, None, {"abort", "pause"}),
        ({"phase": "AwaitingApproval", "rollout": ROLLOUT, "step": "2/4"}, None, {"abort", "pause", "approve"}),
        ({"phase": "AwaitingApproval", "rollout": ROLLOUT}, None, {"abort", "pause"}),
        ({"phase": "Paused", "rollout": ROLLOUT}, {"backstay.dev/pause": ROLLOUT["id"]}, {"abort", "resume"}),
        ({"phase": "RollingBack", "rollout": ROLLOUT}, None, set()),
        ({"phase": "Stable"}, {"backstay.dev/pause": "left over"}, {"resume"}),
    ],
)
def test_actions_are_offered_where_they_have_an_effect(
    status: dict[str, Any] | None, annotations: dict[str, str] | None, actions: set[str]
) -> None:
    assert offered(status, annotations=annotations) == actions


@pytest.mark.parametrize(("step", "number"), [("2/4", "2"), ("1/2", "1"), ("10/20", "10"), ("19/20", "19")])
def test_approve_names_the_rollout_and_the_step(step: str, number: str) -> None:
    status = {"phase": "AwaitingApproval", "rollout": ROLLOUT, "step": step}
    assert act("approve", status) == {"backstay.dev/approve": f"4a7d1ed414474e40/{number}"}


def test_approve_refuses_a_step_it_cannot_read() -> None:
    with pytest.raises(LuaError, match=r"no rollout waits for approval: status.step is second"):
        act("approve", {"phase": "AwaitingApproval", "rollout": ROLLOUT, "step": "second"})


def test_abort_pause_and_resume_keep_other_annotations() -> None:
    status = {"phase": "Progressing", "rollout": ROLLOUT}
    other = {"example.com/contact": "payments"}
    paused = other | {"backstay.dev/pause": "4a7d1ed414474e40"}
    aborted = other | {"backstay.dev/abort": "4a7d1ed414474e40: aborted in Argo CD"}
    assert act("abort", status, annotations=other) == aborted
    assert act("pause", status, annotations=other) == paused
    assert act("resume", status, annotations=paused) == other


def test_status_updates_are_ignored() -> None:
    ignored = yaml.safe_load(KEYS["resource.customizations.ignoreResourceUpdates.backstay.dev_ModelDeployment"])
    assert ignored == {"jsonPointers": ["/status"]}
