"""Snapshots: an older object never replaces a newer one, and a stranger's child is not ours."""

from dataclasses import replace
from typing import Any

import pytest
from test_decide import body as declared_body

from backstay.adapters.kubernetes.client import DEPLOYMENT, MODEL_DEPLOYMENT
from backstay.controller.runtime.store import Store
from backstay.domain.resource import ABORT, Key
from backstay.domain.status import RollbackRecord, RollbackState, RolloutState, Status

KEY = Key("prod", "fraud")


class Woken:
    """Who was woken, and whether urgently."""

    def __init__(self) -> None:
        self.calls: list[tuple[Key, bool]] = []

    def __call__(self, key: Key, /, *, urgent: bool = False) -> None:
        self.calls.append((key, urgent))


def model(version: int, **changes: Any) -> dict[str, Any]:
    document = declared_body("1")
    document["metadata"] |= {"resourceVersion": str(version)}
    return {**document, **changes}


def child(version: int, *, name: str = "fraud-aaa", uid: str = "c1", owner: str = "u1") -> dict[str, Any]:
    reference = {"apiVersion": "backstay.dev/v1alpha1", "kind": "ModelDeployment", "name": "fraud", "uid": owner}
    return {
        "metadata": {
            "name": name,
            "namespace": "prod",
            "uid": uid,
            "resourceVersion": str(version),
            "managedFields": [{"manager": "x"}],
            "ownerReferences": [reference],
        }
    }


def test_our_own_write_is_seen_at_once_and_the_late_watch_event_changes_nothing() -> None:
    woken = Woken()
    store = Store(woken)
    store.put(model(5))
    store.put(model(4))
    store.put(model(5))
    found = store.snapshot(KEY)
    assert found is not None
    assert (found.resource_version, woken.calls) == (5, [(KEY, False)])


@pytest.mark.parametrize(("rollout", "urgent"), [("2-1", True), ("3-1", False)])
def test_a_rollout_that_a_person_ends_is_drained_before_all_that_waits(rollout: str, *, urgent: bool) -> None:
    woken = Woken()
    live = RolloutState(id="2-1", revision="bbb", version="2", digest="", started_at=1.0, ramp_since=1.0)
    document = model(5, status=Status(rollout=live).to_dict())
    document["metadata"]["annotations"] = {ABORT: f"{rollout}: it is wrong"}
    Store(woken).put(document)
    assert woken.calls == [(KEY, urgent)]


def test_what_is_tried_or_still_drained_is_at_stake() -> None:
    live = RolloutState(id="2-1", revision="bbb", version="2", digest="", started_at=1.0, ramp_since=1.0)
    failed = RollbackRecord("2-1", "bbb", "2", "aaa", "1", "errors", failed_at=1.0)
    statuses = {
        "tried": Status(rollout=live),
        "draining": Status(rollback=failed),
        "drained": Status(rollback=replace(failed, state=RollbackState.COMMITTING, drained_at=2.0)),
        "stable": Status(),
    }
    store = Store(Woken())
    for name, status in statuses.items():
        document = model(5, status=status.to_dict())
        document["metadata"] |= {"name": name, "uid": name}
        store.put(document)
    assert {key.name for key in store.at_stake()} == {"tried", "draining"}


def test_a_spec_that_cannot_be_read_is_a_sentence_not_a_crash() -> None:
    store = Store(Woken())
    broken = model(1)
    del broken["spec"]["model"]
    store.put(broken)
    found = store.snapshot(KEY)
    assert found is not None
    assert found.desired is None
    assert "install the CustomResourceDefinition" in found.problem


def test_children_of_a_former_model_of_the_same_name_are_not_ours() -> None:
    store = Store(Woken())
    store.put_child(DEPLOYMENT, child(1))
    store.put_child(DEPLOYMENT, child(2, name="fraud-old", uid="c2", owner="u0"))
    assert [name for _, name in store.owned(KEY, "u1").objects] == ["fraud-aaa"]


def test_children_are_kept_without_managed_fields() -> None:
    store = Store(Woken())
    store.put_child(DEPLOYMENT, child(1))
    kept = store.owned(KEY, "u1").get(DEPLOYMENT, "fraud-aaa")
    assert kept is not None
    assert "managedFields" not in kept["metadata"]


def test_the_deletion_of_an_earlier_object_of_the_same_name_does_not_drop_the_new_one() -> None:
    store = Store(Woken())
    store.put_child(DEPLOYMENT, child(1))
    store.drop_child(DEPLOYMENT, child(1))
    store.put_child(DEPLOYMENT, child(3, uid="c9"))
    store.drop_child(DEPLOYMENT, child(2, uid="c1"))
    assert store.owned(KEY, "u1").get(DEPLOYMENT, "fraud-aaa") is not None


def test_a_late_answer_to_a_write_does_not_bring_a_deleted_object_back() -> None:
    store = Store(Woken())
    store.put_child(DEPLOYMENT, child(1))
    store.drop_child(DEPLOYMENT, child(3))
    store.put_child(DEPLOYMENT, child(2))
    assert store.owned(KEY, "u1").get(DEPLOYMENT, "fraud-aaa") is None


def test_an_object_that_lost_its_label_comes_back_when_it_has_it_again() -> None:
    store = Store(Woken())
    store.put_child(DEPLOYMENT, child(1))
    store.drop_child(DEPLOYMENT, child(2))
    store.put_child(DEPLOYMENT, child(3))
    assert store.owned(KEY, "u1").get(DEPLOYMENT, "fraud-aaa") is not None


def test_a_full_listing_drops_what_is_gone() -> None:
    store = Store(Woken())
    store.put_child(DEPLOYMENT, child(1))
    store.put_child(DEPLOYMENT, child(2, name="fraud-bbb", uid="c2"))
    store.take(DEPLOYMENT, [child(2, name="fraud-bbb", uid="c2")])
    store.keep_only(DEPLOYMENT, {"c2"}, version=5)
    assert [name for _, name in store.owned(KEY, "u1").objects] == ["fraud-bbb"]


def test_what_was_made_while_a_listing_was_under_way_stays() -> None:
    store = Store(Woken())
    store.put(model(7))
    store.put_child(DEPLOYMENT, child(6))
    store.keep_only(DEPLOYMENT, set(), version=5)
    store.keep_only(MODEL_DEPLOYMENT, set(), version=5)
    store.put_child(DEPLOYMENT, child(8))
    assert store.children[KEY].objects["Deployment", "fraud-aaa"].version == 8
    assert store.snapshot(KEY) is not None
    store.keep_only(MODEL_DEPLOYMENT, set(), version=7)
    assert store.snapshot(KEY) is None


def nested(levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"a": found}
    return found


@pytest.mark.parametrize("levels", [200, 1000, 9000])
def test_a_template_that_nests_too_deeply_is_its_owners_trouble(levels: int) -> None:
    woken = Woken()
    store = Store(woken)
    document = model(5)
    document["spec"]["serving"]["template"] = nested(levels)
    other = model(6)
    other["metadata"] |= {"name": "other", "uid": "u2"}
    # Whatever else is in the listing is taken in, and the model is known by its sentence, parsed now or later.
    store.take(MODEL_DEPLOYMENT, [document, other])
    for number in range(100):
        store.put({**other, "metadata": {**other["metadata"], "name": f"model-{number}", "uid": f"m{number}"}})
    found = store.snapshot(KEY)
    assert found is not None
    assert found.desired is None
    assert found.problem == (
        "ModelDeployment prod/fraud: spec.serving.template nests more than 100 levels; write it with fewer"
    )
    neighbour = store.snapshot(Key("prod", "other"))
    assert neighbour is not None
    assert neighbour.desired is not None
    # Mended, it is read again.
    store.put(model(7))
    mended = store.snapshot(KEY)
    assert mended is not None
    assert mended.desired is not None


@pytest.mark.parametrize(
    "status",
    [
        {"phase": "Stable", "analysis": nested(2000)},
        {"phase": "Asleep"},
        {"phase": ["Stable"]},
        {"phase": "Stable", "rollout": "2-1"},
        {"phase": "Stable", "conditions": 5},
        {"phase": "Stable", "conditions": ["Stalled"]},
        {"phase": "Stable", "gates": [7]},
        {"observedGeneration": "one"},
    ],
)
def test_a_status_that_people_have_spoilt_counts_as_lost(status: dict[str, Any]) -> None:
    store = Store(Woken())
    store.take(MODEL_DEPLOYMENT, [model(5, status=status)])
    found = store.snapshot(KEY)
    assert found is not None
    assert found.desired is not None
    assert (found.status, found.conditions) == (Status(), ())


def test_an_object_that_cannot_be_read_does_not_keep_others_out_of_a_listing() -> None:
    store, nameless = Store(Woken()), model(5)
    del nameless["metadata"]["generation"]
    other = model(6)
    other["metadata"] |= {"name": "other", "uid": "u2"}
    store.take(MODEL_DEPLOYMENT, [nameless, other])
    assert store.snapshot(Key("prod", "other")) is not None
    broken = child(3)
    broken["data"] = nested(100_000)
    store.take(DEPLOYMENT, [broken, child(4, name="fraud-bbb", uid="c2")])
    assert list(store.children[KEY].objects) == [(DEPLOYMENT.kind, "fraud-bbb")]
