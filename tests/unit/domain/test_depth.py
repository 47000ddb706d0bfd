"""What nests too deeply is told by its first names."""

from types import MappingProxyType
from typing import Any

import pytest

from backstay.domain.depth import DEEPEST, too_deep


def nested(levels: int, leaf: Any, *, key: str = "") -> Any:
    """Nest mappings, or lists where there is no key, so many times around a leaf."""
    for _ in range(levels):
        leaf = {key: leaf} if key else [leaf]
    return leaf


@pytest.mark.parametrize("leaf", [1, "text", None, True])
@pytest.mark.parametrize("key", ["a", ""])
def test_a_document_may_have_so_many_levels(leaf: Any, key: str) -> None:
    assert too_deep(nested(DEEPEST, leaf, key=key)) == ""
    assert too_deep(nested(DEEPEST + 1, leaf, key=key)) == ("a.a.a" if key else "0.0.0")


def test_the_way_is_told_to_what_nests_and_not_to_what_is_beside_it() -> None:
    document = {"spec": {"model": {"name": "fraud"}, "serving": {"template": nested(9000, {}), "port": 8080}}}
    assert too_deep(document) == "spec.serving.template"
    document["spec"]["serving"]["template"] = MappingProxyType({"spec": {}})
    assert too_deep(document) == ""
