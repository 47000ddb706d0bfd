"""Kustomizations that make Kustomize run a command, where it is started on them with git on its PATH."""

from collections.abc import Callable
from pathlib import Path

# What is written beside an overlay's kustomization, by path from its folder; the empty path is what is added to it.
Files = dict[str, str]


def _address(witness: Path) -> str:
    """A repository whose ref is an option of git, by which it makes the witness."""
    return f"file:///nowhere?ref=--upload-pack=touch+{witness}%3B"


def _named(field: str) -> Callable[[Path], Files]:
    return lambda witness: {"": f"{field}: ['{_address(witness)}']\n"}


def _there(witness: Path) -> Files:
    """The address is a folder of the repository as well."""
    folder = _address(witness).replace("///", "/")
    return {"": f"bases: ['{_address(witness)}']\n", f"{folder}/kustomization.yaml": "resources: []\n"}


def _in_a_base(witness: Path) -> Files:
    """A generator names the base's file before the base is named."""
    text = "configMapGenerator: [{name: a, files: [more/kustomization.yaml]}]\nbases: [more]\n"
    return {"": text, "more/kustomization.yaml": f"resources: ['{_address(witness)}']\n"}


ATTACKS: dict[str, Callable[[Path], Files]] = {
    "a base": _named("bases"),
    "components in capitals": _named("Components"),
    "bases in capitals": _named("BASES"),
    "components with a long s": _named("component\u017f"),
    "an address that is a folder too": _there,
    "a base that is named as a file first": _in_a_base,
}
