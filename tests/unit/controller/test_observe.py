"""What is read from live objects."""

from typing import Any

import pytest

from backstay.adapters.kubernetes.client import CONTROLLER_REVISION, DEPLOYMENT
from backstay.controller.observe import plans, workloads
from backstay.controller.runtime.store import Store
from backstay.domain.resource import Key


def child(name: str, **content: Any) -> dict[str, Any]:
    """Write an object that a ModelDeployment owns."""
    owner = {"apiVersion": "backstay.dev/v1alpha1", "kind": "ModelDeployment", "name": "fraud", "uid": "u1"}
    meta = {"name": name, "namespace": "prod", "uid": name, "resourceVersion": "1", "ownerReferences": [owner]}
    return {"metadata": meta | content.pop("metadata", {}), **content}


@pytest.mark.parametrize("data", [{}, {"model": "fraud"}, {"model": {}, "serving": []}, [1], "a plan", None])
def test_a_revision_that_holds_no_plan_is_left_out(data: Any) -> None:
    store = Store(lambda *_, **__: None)
    store.put_child(CONTROLLER_REVISION, child("bad", data=data))
    good = {"model": {"name": "fraud", "version": "1"}, "serving": {"template": {}}}
    store.put_child(CONTROLLER_REVISION, child("good", data=good))
    (plan,) = plans(store.owned(Key("prod", "fraud"), "u1")).values()
    assert plan.model.version == "1"


def test_a_deployment_of_no_track_that_is_known_is_left_out() -> None:
    store, labels = Store(lambda *_, **__: None), {"backstay.dev/revision": "aaa", "backstay.dev/track": "spare"}
    store.put_child(DEPLOYMENT, child("spare", metadata={"labels": labels}))
    assert workloads(store.owned(Key("prod", "fraud"), "u1")) == {}
