"""The objects of a model: labels from scratch, names that fit, a route that reads back as it was written."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_decide import declared

from backstay.adapters.kubernetes import manifests
from backstay.adapters.traffic.gateway_api import GatewayApi
from backstay.domain.observed import Backend, Mark, Route, Track
from backstay_contract import environment

PLAN = declared("1").plan


def test_pods_carry_only_our_labels_and_what_the_template_says() -> None:
    built = manifests.deployment(declared("1"), Backend("abc"), PLAN, 2)
    labels = built["spec"]["template"]["metadata"]["labels"]
    assert labels == {
        "app.kubernetes.io/name": "fraud",
        "app.kubernetes.io/managed-by": "backstay",
        "backstay.dev/name": "fraud",
        "backstay.dev/revision": "abc",
        "backstay.dev/track": "primary",
    }
    assert built["metadata"]["ownerReferences"][0]["uid"] == "u1"


def test_the_server_is_told_its_version_and_the_template_wins() -> None:
    desired = declared("7", config={"servingThreshold": "0.5", "LOG_LEVEL": "debug"})
    built = manifests.deployment(desired, Backend("abc"), desired.plan, 1)
    env = {entry["name"]: entry.get("value") for entry in built["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["MODEL_URI"] == "models:/fraud/7"
    assert (env["SERVING_THRESHOLD"], env["LOG_LEVEL"]) == ("0.5", "debug")


def test_the_server_is_told_by_the_variables_of_the_contract() -> None:
    plan = declared("7").plan
    model = replace(plan.model, digest=f"sha256:{64 * 'a'}", feature_schema_version="3")
    built = manifests.deployment(declared("7"), Backend("abc"), replace(plan, model=model), 1)
    env = built["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {entry["name"] for entry in env} == environment.VARIABLES


def test_the_stable_service_tells_which_facts_were_applied() -> None:
    first, again, later = (
        manifests.stable_service(desired, "abc", desired.plan)["metadata"]["annotations"][manifests.FACTS]
        for desired in (declared("1"), declared("1"), declared("2"))
    )
    assert first == again != later


@pytest.mark.parametrize("track", list(Track))
def test_names_fit_into_a_service_name(track: Track) -> None:
    assert len(manifests.workload_name("m" * 40, Backend("0123456789", track))) <= 63


backends = st.builds(Backend, st.text("0123456789abcdef", min_size=10, max_size=10), st.sampled_from(Track))
marks = st.builds(
    Mark,
    revision=st.text("0123456789abcdef", min_size=10, max_size=10),
    version=st.text("123", max_size=3),
    reason=st.text(max_size=40),
    at=st.sampled_from([0.0, 1_795_284_282.993]),
    inconclusive=st.booleans(),
    evidence=st.lists(st.text(max_size=20), max_size=2).map(tuple),
)


@given(
    st.dictionaries(backends, st.integers(0, 100), max_size=4),
    st.dictionaries(backends, st.integers(1, 100), max_size=2),
    st.lists(marks, max_size=3).map(tuple),
)
def test_a_route_reads_back_as_it_was_written(
    weights: dict[Backend, int], copies: dict[Backend, int], written: tuple[Mark, ...]
) -> None:
    provider = GatewayApi()
    read = provider.read(provider.build(declared("1"), weights, copies, written))
    assert read == Route(weights, copies, written)


@pytest.mark.parametrize("spoilt", ["", "{}", "[1]", '[{"no": "revision"}]', "not json"])
def test_a_spoilt_mark_is_no_crash(spoilt: str) -> None:
    provider = GatewayApi()
    live = provider.build(declared("1"), {Backend("abc"): 100}, {}, ())
    live["metadata"]["annotations"]["backstay.dev/rejected"] = spoilt
    assert provider.read(live).marks == ()


def test_accepted_means_this_generation() -> None:
    provider = GatewayApi()
    live = provider.build(declared("1"), {Backend("abc"): 100}, {}, ())
    live["metadata"]["generation"] = 3
    condition = {"type": "Accepted", "status": "True", "observedGeneration": 2}
    live["status"] = {"parents": [{"conditions": [condition]}]}
    assert not provider.read(live).accepted
    condition["observedGeneration"] = 3
    assert provider.read(live).accepted


@pytest.mark.parametrize(
    ("wanted", "live", "held"),
    [
        ({"a": 1}, {"a": 1, "default": 2}, True),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 2, "d": 3}]}}, True),
        ({"a": [1]}, {"a": [1, 2]}, False),
        ({"a": 1}, {"a": 2}, False),
        ({"a": {}}, {}, False),
    ],
)
def test_what_the_api_server_adds_does_not_matter_and_what_people_add_to_lists_does(
    wanted: dict[str, object], live: dict[str, object], *, held: bool
) -> None:
    assert manifests.covers(wanted, live) is held


@pytest.mark.parametrize(
    ("entry", "meddled"),
    [
        ({"manager": "backstay", "operation": "Apply", "fieldsV1": {"f:spec": {}}}, False),
        ({"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {}}}, True),
        ({"manager": "kubectl-label", "operation": "Update", "fieldsV1": {"f:metadata": {}}}, False),
        ({"manager": "node", "operation": "Update", "subresource": "status", "fieldsV1": {"f:spec": {}}}, False),
    ],
)
def test_a_spec_that_somebody_else_has_added_to_is_not_as_wanted(entry: dict[str, object], *, meddled: bool) -> None:
    live = {"metadata": {"managedFields": [entry]}, "spec": {"a": 1}}
    assert manifests.is_as_wanted({"metadata": {}, "spec": {"a": 1}}, live) is not meddled
