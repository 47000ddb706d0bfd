import base64
from typing import Any

import pytest

from backstay_playground.node.environment import ConfigError, Objects, build, expand, field

POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a/b": "c"}, "annotations": {"x": "y"}},
    "spec": {"nodeName": "here", "serviceAccountName": "me"},
}
OBJECTS = Objects(
    config_maps={("n", "settings"): {"data": {"colour": "blue"}, "binaryData": {"raw": "/w=="}}},
    secrets={("n", "login"): {"data": {"password": base64.b64encode(b"open").decode()}}},
)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(C)", "$(C)"),
        ("$A", "$A"),
        ("$(", "$("),
        ("", ""),
    ],
)
def test_expansion_follows_the_rules_of_kubernetes(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.namespace", "n"),
        ("metadata.uid", "u"),
        ("metadata.labels['a/b']", "c"),
        ("metadata.annotations['x']", "y"),
        ("metadata.labels", 'a/b="c"'),
        ("spec.nodeName", "here"),
        ("spec.serviceAccountName", "me"),
        ("status.podIP", "127.97.0.1"),
        ("status.hostIP", "127.0.0.1"),
    ],
)
def test_downward_api(path: str, value: str) -> None:
    assert field(POD, path, address="127.97.0.1") == value


def test_unknown_field_is_named() -> None:
    with pytest.raises(ConfigError, match=r"spec\.nothing"):
        field(POD, "spec.nothing", address="")


def environment(**container: Any) -> dict[str, str]:
    return build(container, POD, address="127.97.0.1", objects=OBJECTS, base={"BASE": "b"})


def test_later_sources_win_and_may_use_earlier_ones() -> None:
    values = environment(
        envFrom=[{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "login"}, "prefix": "MY_"}],
        env=[
            {"name": "colour", "value": "$(colour)ish"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "URL", "value": "http://$(IP):1"},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
            {"name": "EMPTY"},
        ],
    )
    assert values == {
        "BASE": "b",
        "colour": "blueish",
        "raw": "\ufffd",
        "MY_password": "open",
        "IP": "127.97.0.1",
        "URL": "http://127.97.0.1:1",
        "PASSWORD": "open",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "k"}}, 'configmap "none" not found in namespace n'),
        ({"secretKeyRef": {"name": "none", "key": "k"}}, 'secret "none" not found in namespace n'),
        ({"configMapKeyRef": {"name": "settings", "key": "k"}}, '"settings" in namespace n has no key k'),
    ],
)
def test_a_missing_reference_is_an_error_unless_optional(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        environment(env=[{"name": "A", "valueFrom": source}])
    optional = {kind: {**reference, "optional": True} for kind, reference in source.items()}
    assert environment(env=[{"name": "A", "valueFrom": optional}]) == {"BASE": "b"}


def test_a_missing_source_of_many_is_an_error_unless_optional() -> None:
    with pytest.raises(ConfigError, match="none"):
        environment(envFrom=[{"configMapRef": {"name": "none"}}])
    assert environment(envFrom=[{"configMapRef": {"name": "none", "optional": True}}]) == {"BASE": "b"}


def test_what_is_not_offered_is_named() -> None:
    with pytest.raises(ConfigError, match="resourceFieldRef"):
        environment(env=[{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}])
