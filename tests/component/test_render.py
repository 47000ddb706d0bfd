"""What the real kustomize makes of a folder: the same as without the checks, and never more than its share."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from backstay.adapters.gitops import render as rendering
from backstay.adapters.gitops.render import RenderError, render
from backstay_playground.build import binaries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.component


@pytest.fixture(scope="session")
def kustomize() -> Path:
    return binaries(["kustomize"], Console())["kustomize"]


@pytest.fixture
def tree(tmp_path: Path, kustomize: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty work tree, with kustomize on the PATH."""
    for name in ("bin", "tree", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin" / "kustomize").symlink_to(kustomize)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path / "tree"


def write(tree: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)


def config_map(name: str, value: str) -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  value: {value}\n"


ALL = """\
namespace: "123"
namePrefix: 'on-'
resources:
  # what every environment has
  - ../base
  - more.yaml
components: [../component/]
labels: [{pairs: {"yes": "yes", number: "1e3", long: umläut}, includeSelectors: true}]
commonAnnotations:
  text: |
    two
    lines
  folded: >-
    one
    line
images: [{name: server, newTag: "010"}]
replicas: [{name: server, count: 3}]
configMapGenerator:
  - name: facts
    files: [facts.txt, other=facts.txt]
    envs: [facts.env]
    literals: ["a=b: c", 'd=#e']
patches:
  - path: patch.yaml
  - target: {kind: ConfigMap, name: more}
    patch: |-
      - op: replace
        path: /data/value
        value: "patched: é"
patchesStrategicMerge:
  - |
    apiVersion: v1
    kind: ConfigMap
    metadata: {name: base}
    data: {merged: "1"}
replacements:
  - source: {kind: ConfigMap, name: base, fieldPath: data.value}
    targets: [{select: {kind: ConfigMap, name: more}, fieldPaths: [data.copied], options: {create: true}}]
generatorOptions: {labels: {generated: "true"}}
"""
SERVER = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  replicas: 1
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec: {containers: [{name: server, image: server}]}
"""


def test_a_folder_renders_as_kustomize_alone_renders_it(tree: Path, kustomize: Path) -> None:
    files = {
        "base/Kustomization": '{"resources": ["base.yaml", "server.yaml"]}',
        "base/base.yaml": config_map("base", "a"),
        "base/server.yaml": SERVER,
        "component/kustomization.yaml": (
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\ncommonAnnotations: {component: 'on'}\n"
        ),
        "overlay/kustomization.yaml": ALL,
        "overlay/more.yaml": config_map("more", "b"),
        "overlay/patch.yaml": config_map("base", "changed"),
        "overlay/texts/facts.txt": "facts\n",
        "overlay/facts.env": "KEY=value\n",
    }
    write(tree, files)
    (tree / "overlay" / "facts.txt").symlink_to("texts/facts.txt")
    alone = subprocess.run([kustomize, "build", tree / "overlay"], check=True, capture_output=True, text=True).stdout
    assert render(tree, "overlay", home=tree.parent / "home") == alone
    assert "on-facts-" in alone
    assert list((tree.parent / "home").iterdir()) == []


@pytest.mark.parametrize("address", ["github.com/models/base", "file:/nowhere?ref=--upload-pack=x", "git@host/a/b"])
def test_a_link_to_a_folder_that_is_called_like_an_address_is_a_folder(tree: Path, address: str) -> None:
    write(tree, {f"{address}/kustomization.yaml": "resources: [a.yaml]\n", f"{address}/a.yaml": config_map("a", "b")})
    write(tree, {"kustomization.yaml": "resources: [link]\n"})
    (tree / "link").symlink_to(address)
    assert "name: a" in render(tree, "", home=tree.parent / "home")


def refused(tree: Path, folder: str = "overlay") -> str:
    with pytest.raises(RenderError) as problem:
        render(tree, folder, home=tree.parent / "home")
    return str(problem.value)


def test_aliases_that_multiply_take_no_more_memory_than_there_is_for_them(tree: Path) -> None:
    bomb = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  a0: &a0 [x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"  a{n}: &a{n} [{', '.join(8 * [f'*a{n - 1}'])}]\n" for n in range(1, 12))
    write(tree, {"overlay/kustomization.yaml": "resources: [bomb.yaml]\n", "overlay/bomb.yaml": bomb})
    assert refused(tree) == "kustomize build overlay needs more than 320 MiB of memory; make the folder smaller"


def test_a_base_that_is_taken_again_and_again_makes_no_more_output_than_is_read(tree: Path) -> None:
    write(tree, {"k0/kustomization.yaml": "resources: [a.yaml]\n", "k0/a.yaml": config_map("a", 300_000 * "x")})
    write(tree, doubling(4))
    assert refused(tree, "k4") == "kustomize build k4 writes more than 4 MiB; make the folder smaller"


def test_a_base_that_is_taken_again_and_again_gets_no_more_time_than_there_is_for_it(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "LIMITS", replace(rendering.LIMITS, processor_seconds=1, seconds=120))
    write(tree, {"k0/kustomization.yaml": "resources: [a.yaml]\n", "k0/a.yaml": config_map("a", "x")})
    write(tree, doubling(16))
    needs = "more than 1 s of processor time, or more memory than there is"
    assert refused(tree, "k16") == f"kustomize build k16 needs {needs}; make the folder smaller"


def doubling(depth: int) -> dict[str, str]:
    """Folders of which each holds the one before it twice."""
    files: dict[str, str] = {}
    for n in range(1, depth + 1):
        files |= {f"{p}{n}/kustomization.yaml": f"namePrefix: {p}\nresources: [../k{n - 1}]\n" for p in "ab"}
        files[f"k{n}/kustomization.yaml"] = f"resources: [../a{n}, ../b{n}]\n"
    return files
