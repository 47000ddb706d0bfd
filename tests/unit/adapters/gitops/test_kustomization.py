import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from backstay.adapters.gitops.kustomization import KustomizationError, inputs
from backstay.adapters.yaml_text.strict import StrictYamlError, compose, write

ROOT = Path(__file__).parents[4]
FILES = {
    "base/kustomization.yaml": "resources: [deployment.yaml]\n",
    "base/deployment.yaml": "kind: ModelDeployment\n",
    "overlay/kustomization.yaml": "namespace: fraud\nresources: [../base]\npatches: [{path: version.yaml}]\n",
    "overlay/version.yaml": "kind: ModelDeployment\n",
    "elsewhere.yaml": "kind: ConfigMap\n",
}
KUSTOMIZATION = "overlay/kustomization.yaml"

# Every way in which a kustomization names a file, with X for the path.
POSITIONS = {
    "resources": "resources: [X]",
    "bases": "bases: [X]",
    "components": "components: [X]",
    "crds": "crds: [X]",
    "configurations": "configurations: [X]",
    "patches": "patches: [{path: X}]",
    "patchesJson6902": "patchesJson6902: [{path: X}]",
    "patchesStrategicMerge": "patchesStrategicMerge: [X]",
    "replacements": "replacements: [{path: X}]",
    "openapi": "openapi: {path: X}",
    "a ConfigMap's files": "configMapGenerator: [{name: a, files: [X]}]",
    "a ConfigMap's file with a key": "configMapGenerator: [{name: a, files: [key=X]}]",
    "a ConfigMap's envs": "configMapGenerator: [{name: a, envs: [X]}]",
    "a ConfigMap's env": "configMapGenerator: [{name: a, env: X}]",
    "a Secret's files": "secretGenerator: [{name: a, files: [X]}]",
    "a Secret's envs": "secretGenerator: [{name: a, envs: [X]}]",
    "a Secret's env": "secretGenerator: [{name: a, env: X}]",
}
# Every form that Kustomize takes for an address of a repository or of a file.
ADDRESSES = [
    "https://git.example.com/models/base",
    "http://git.example.com/models/base.yaml",
    "HTTPS://git.example.com/models/base",
    "https:git.example.com",
    "ssh://git@git.example.com/models/base",
    "file:///srv/base?ref=--upload-pack%3Dtouch+x",
    "git::https://git.example.com/models/base",
    "git@git.example.com:models/base",
    "git@git.example.com/models/base",
    "someone@git.example.com/models/base?ref=main",
    "github.com/models/base",
    "GitHub.com/models/base?ref=main",
    "g\u0130thub.com/models/base",
    "github.com:models/base.git",
    "gh:models/base",
    "../base?ref=main",
]


def tree(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in {**FILES, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def refused(folder: Path, file: str = KUSTOMIZATION) -> str:
    with pytest.raises(KustomizationError) as problem:
        inputs(folder, "overlay")
    assert problem.value.file == file
    return problem.value.sentence


def quoted(position: str, path: str) -> str:
    return POSITIONS[position].replace("key=X", f"'key={path}'").replace("X", f"'{path}'")


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("position", POSITIONS)
def test_nothing_comes_from_elsewhere(tmp_path: Path, position: str, address: str) -> None:
    tree(tmp_path, {KUSTOMIZATION: quoted(position, address)})
    assert refused(tmp_path).endswith(
        "comes from elsewhere and may change without a commit here; copy it into the repository"
    )


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_folder_that_is_called_like_an_address_is_refused_too(tmp_path: Path, address: str) -> None:
    """Kustomize prefers the address to the folder."""
    tree(
        tmp_path, {KUSTOMIZATION: f"resources: ['{address}']", f"overlay/{address}/kustomization.yaml": "resources: []"}
    )
    assert "comes from elsewhere" in refused(tmp_path)


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("../../outside.yaml", "lies outside of the repository; copy it into the repository"),
        ("/etc/hostname", "lies outside of the repository"),
        ("out.yaml", "lies outside of the repository"),
        ("out/hostname", "lies outside of the repository"),
        # By the file system this leads to base, and by Kustomize's reading out of the repository.
        ("deep/../../../base", "lies outside of the repository"),
        ("absent.yaml", "is not there; correct the path so that the folder renders"),
        ("a" * 300, "is not there"),
        ("a/" * 600, "is no path; name a file or folder of the repository"),
        ("a\tb", "is no path"),
        ("", "is no path"),
        ("../.git/config", "belongs to Git itself; name a file or folder of the repository"),
        ("../base/kustomization.yaml", "is a kustomization, which is no file to include; name its folder"),
    ],
)
def test_a_path_leads_to_what_is_in_the_tree(tmp_path: Path, position: str, path: str, sentence: str) -> None:
    folder = tree(tmp_path / "tree", {".git/config": "[core]", "base/a/b/c": ""})
    (tmp_path / "outside.yaml").write_text("kind: ConfigMap")
    (folder / "overlay" / "out.yaml").symlink_to(tmp_path / "outside.yaml")
    (folder / "overlay" / "out").symlink_to("/etc")
    (folder / "overlay" / "deep").symlink_to("../base/a/b")
    tree(folder, {KUSTOMIZATION: quoted(position, path)})
    said = refused(folder)
    kind = position == "components" and "is a kustomization" in sentence
    assert sentence in said or (kind and "is no folder, and one is due here" in said)


@pytest.mark.parametrize("position", ["patches", "crds", "openapi", "a Secret's files"])
def test_a_folder_is_no_file(tmp_path: Path, position: str) -> None:
    tree(tmp_path, {KUSTOMIZATION: quoted(position, "../base")})
    assert refused(tmp_path) == "../base is no file, and one is due here; correct the path"


KNOWN = [position for position in POSITIONS if "'" not in position] + ["configMapGenerator", "helmCharts"]
NESTED = ["Path", "ENV", "Envs", "FILES", "\u017fource"]


@pytest.mark.parametrize("field", KNOWN)
@pytest.mark.parametrize("change", [str.upper, str.capitalize, lambda text: text.replace("s", "\u017f", 1)])
def test_a_field_in_another_spelling_is_refused(tmp_path: Path, field: str, change: Any) -> None:
    """Kustomize takes it in any case, and also with the letters that fold to ours."""
    spelt = change(field)
    if spelt == field:
        spelt = f"{field[0].upper()}{field[1:]}"
    tree(tmp_path, {KUSTOMIZATION: f"{spelt}: [https://git.example.com/base]"})
    assert "is not a field that a kustomization may have here; " in refused(tmp_path)


@pytest.mark.parametrize("field", NESTED)
@pytest.mark.parametrize("list_", ["patches", "replacements", "configMapGenerator", "secretGenerator"])
def test_a_field_of_an_entry_in_another_spelling_is_refused(tmp_path: Path, list_: str, field: str) -> None:
    tree(tmp_path, {KUSTOMIZATION: f"{list_}: [{{{field}: https://git.example.com/base}}]"})
    assert f"{field} is not a field that a kustomization may have here; " in refused(tmp_path)


def test_the_right_spelling_is_named_with_the_line(tmp_path: Path) -> None:
    tree(tmp_path, {KUSTOMIZATION: "namespace: fraud\nComponents: [../base]\n"})
    with pytest.raises(KustomizationError) as problem:
        inputs(tmp_path, "overlay")
    assert str(problem.value) == (
        "overlay/kustomization.yaml (line 2): Components is not a field that a kustomization may have here; write "
        "components, or take it out"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the kustomization is empty; write its fields"),
        ("- resources", "something else where fields are due"),
        ("patches: [version.yaml]", "something else where fields are due"),
        ("resources: ../base", "something else where a list is due"),
        ("resources: [[../base]]", "something else where a path is due"),
        ("resources: [../base]\nresources: ['https://git.example.com/base']", "says resources twice"),
        ("resources: &a [../base]\ncomponents: *a", "has an anchor or alias"),
        ("<<: {resources: ['https://git.example.com/base']}", "<< is not a field"),
        ("!!binary cmVzb3VyY2Vz: ['https://git.example.com/base']", "has a tag"),
        ("resources: !!seq [../base]", "has a tag"),
        ("? [resources]\n: [../base]", "an empty text is not a field"),
        ("resources: [../base]\n---\nresources: []", "has several documents"),
        ("---\n---\nresources: [../base]", "has several documents"),
        ("resources: [", "is not YAML"),
        ("a: " + 100_000 * "[", "nests more than 50 levels"),
        ("resources: [../base]".encode("utf-16"), "is not UTF-8 text"),
        (b"resources: [..\0]", "is not YAML"),
        ("# " + 300_000 * "x", "has 300002 bytes; it has at most 262144"),
        ("helmCharts: []", "has charts fetched from elsewhere; render them"),
        ("generators: [plugin.yaml]", "configures plugins, which may fetch files or run programs"),
        ("transformers: ['{apiVersion: builtin, kind: PatchTransformer}']", "configures plugins"),
        ("validators: [plugin.yaml]", "configures plugins"),
        ("configMapGenerator: [{name: a, files: [a=b=c]}]", "write key=file, or the file alone"),
        ("configMapGenerator: [{name: a, files: ['=version.yaml']}]", "write key=file, or the file alone"),
    ],
)
def test_what_readers_may_take_for_different_things_is_refused(
    tmp_path: Path, text: str | bytes, sentence: str
) -> None:
    assert sentence in refused(tree(tmp_path, {KUSTOMIZATION: text}))


def test_one_kustomization_a_folder_and_no_link(tmp_path: Path) -> None:
    tree(tmp_path, {"overlay/kustomization.yml": "namespace: other\n"})
    assert refused(tmp_path, "overlay") == "the folder has kustomization.yaml and kustomization.yml; keep one of them"
    (tmp_path / KUSTOMIZATION).unlink()
    (tmp_path / "overlay/kustomization.yml").unlink()
    assert refused(tmp_path, "overlay") == "the folder has no kustomization.yaml; add one that lists base and patches"
    (tmp_path / KUSTOMIZATION).symlink_to("../base/kustomization.yaml")
    assert refused(tmp_path) == "the kustomization is a link or folder; replace it by a regular file"


def test_a_base_is_checked_although_a_generator_names_its_file_first(tmp_path: Path) -> None:
    reads = "configMapGenerator: [{name: a, files: [../base/kustomization.yaml]}]\nresources: [../base]"
    tree(tmp_path, {KUSTOMIZATION: reads, "base/kustomization.yaml": "resources: [https://git.example.com/base]"})
    assert "is a kustomization, which is no file to include" in refused(tmp_path)


def test_what_a_base_builds_on_is_checked(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {"base/kustomization.yaml": "resources: [../overlay, ../more]", "more/kustomization.yaml": "Bases: []"},
    )
    assert "Bases is not a field" in refused(tmp_path, "more/kustomization.yaml")


def test_there_is_a_limit_to_what_is_read(tmp_path: Path) -> None:
    tree(tmp_path, {KUSTOMIZATION: f"resources: [{', '.join(1000 * ['version.yaml'])}]"})
    limit = "the folder is built from more than 1000 paths or 4 MiB; build it from less"
    assert refused(tmp_path) == limit
    tree(tmp_path, {"overlay/version.yaml": b"#" * 5 * 1024 * 1024})
    assert refused(tmp_path) == limit


EVERYTHING = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
metadata: {name: all}
namespace: fraud
namePrefix: a-
nameSuffix: -b
commonLabels: {a: b}
labels: [{pairs: {a: b}, includeSelectors: false}]
commonAnnotations: {a: b}
resources: [../base, more.yaml, sub/]
bases: []
components: [../component]
crds: [crd.json]
configurations: [names.yaml]
openapi: {path: schema.json}
patches:
  - path: version.yaml
  - {patch: '[{op: remove, path: /a}]', target: {kind: ModelDeployment}, options: {allowNameChange: true}}
patchesStrategicMerge:
  - version.yaml
  - |
    kind: ModelDeployment
  - '{kind: ModelDeployment}'
patchesJson6902: [{path: json.yaml, target: {kind: ModelDeployment}}]
configMapGenerator:
  - {name: a, behavior: create, files: [notes.txt, key=notes.txt], envs: [a.env], literals: [a=b], options: {}}
secretGenerator: [{name: s, namespace: x, env: a.env, type: Opaque}]
generatorOptions: {disableNameSuffixHash: true}
images: [{name: a, newTag: "1"}]
imageTags: []
replicas: [{name: a, count: 2}]
replacements: [{path: replacement.yaml}, {source: {kind: ConfigMap}, targets: []}]
vars: []
sortOptions: {order: fifo}
buildMetadata: [originAnnotations]
"""
NAMED = {
    "more.yaml",
    "crd.json",
    "names.yaml",
    "schema.json",
    "version.yaml",
    "json.yaml",
    "notes.txt",
    "a.env",
    "replacement.yaml",
}


def test_all_that_stays_in_the_tree_is_let_through_and_copied(tmp_path: Path) -> None:
    named = dict.fromkeys((f"overlay/{name}" for name in NAMED), "text")
    folders = {"component/kustomization.yaml": "kind: Component", "overlay/sub/kustomization.yaml": "resources:\n"}
    folder = tree(tmp_path / "tree", {**named, **folders, KUSTOMIZATION: EVERYTHING})
    found = inputs(folder, "overlay")
    (tmp_path / "copy").mkdir()
    assert found.copy(tmp_path / "copy") == tmp_path / "copy" / "overlay"
    copied = {
        path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*") if path.is_file()
    }
    assert copied == {*named, *folders, KUSTOMIZATION, "base/kustomization.yaml", "base/deployment.yaml"}
    assert found.files[0] == folder / KUSTOMIZATION
    assert [path.relative_to(folder).as_posix() for path in found.folders] == [
        "overlay",
        "base",
        "overlay/sub",
        "component",
    ]
    said = yaml.safe_load((tmp_path / "copy" / KUSTOMIZATION).read_text())
    assert said == yaml.safe_load(EVERYTHING)


@pytest.mark.parametrize(
    "folder",
    [
        ".",
        "operator/config",
        "policies",
        *(f"applications/fraud-detector/overlays/{name}" for name in ("staging", "production")),
    ],
)
def test_what_this_repository_ships_is_let_through(folder: str) -> None:
    assert inputs(ROOT, folder).files


def test_links_within_the_tree_are_followed_and_written_out(tmp_path: Path) -> None:
    generator = "configMapGenerator: [{name: a, files: [facts.txt, k=facts.txt]}]\n"
    text = f"resources: [../linked]\n{generator}patches: [{{path: in/v.yaml}}]\n"
    folder = tree(tmp_path / "tree", {KUSTOMIZATION: text, "overlay/files/v.yaml": "", "overlay/files/f.txt": ""})
    (folder / "linked").symlink_to("base")
    (folder / "overlay" / "in").symlink_to("files")
    (folder / "overlay" / "facts.txt").symlink_to("files/f.txt")
    found = inputs(folder, "overlay")
    (tmp_path / "copy").mkdir()
    place = found.copy(tmp_path / "copy")
    assert yaml.safe_load((place / "kustomization.yaml").read_text()) == {
        "resources": ["./../base"],
        "configMapGenerator": [{"name": "a", "files": ["facts.txt=./files/f.txt", "k=./files/f.txt"]}],
        "patches": [{"path": "./files/v.yaml"}],
    }
    assert not any(path.is_symlink() for path in (tmp_path / "copy").rglob("*"))


@pytest.mark.parametrize("address", ["github.com/models/base", "file:/nowhere?ref=--upload-pack=x", "git@host/a/b"])
def test_a_link_does_not_bring_an_address(tmp_path: Path, address: str) -> None:
    base = {f"overlay/{address}/a.yaml": "kind: A", f"overlay/{address}/kustomization.yaml": "resources: [a.yaml]"}
    folder = tree(tmp_path / "tree", {**base, KUSTOMIZATION: "resources: [link]"})
    (folder / "overlay" / "link").symlink_to(address)
    (tmp_path / "copy").mkdir()
    place = inputs(folder, "overlay").copy(tmp_path / "copy")
    assert yaml.safe_load((place / "kustomization.yaml").read_text()) == {"resources": [f"./{address}"]}


def test_a_folder_outside_of_the_tree_is_refused(tmp_path: Path) -> None:
    folder = tree(tmp_path / "tree", {})
    for outside in ("..", str(tmp_path)):
        with pytest.raises(KustomizationError, match="the folder lies outside of the repository"):
            inputs(folder, outside)


# What Kustomize gets.

PLAIN = st.sampled_from(["1", "1e3", "0o7", "yes", "~", "null", "1:20", "a b", "x-y", "2026-03-01", "="])
TEXTS = st.one_of(
    PLAIN, st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co"]), max_size=30)
)
SAID = st.recursive(
    TEXTS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


def meaning(node: yaml.Node) -> Any:
    """What a node says, and for each text whether it is plain."""
    if isinstance(node, yaml.MappingNode):
        return [(meaning(key), meaning(value)) for key, value in node.value]
    if isinstance(node, yaml.SequenceNode):
        return [meaning(each) for each in node.value]
    return node.value, not getattr(node, "style", None)


@settings(max_examples=300)
@given(SAID, st.sampled_from([None, "'", '"', "|"]), st.booleans())
def test_what_is_written_says_what_was_read(said: Any, style: str | None, flow: bool) -> None:  # noqa: FBT001 - drawn
    source = yaml.dump(said, Dumper=yaml.CSafeDumper, default_style=style, default_flow_style=flow, allow_unicode=True)
    try:
        read = compose(source.encode())
    except StrictYamlError:
        return
    before = meaning(read)
    written = write(read)
    assert written.isascii()
    after = meaning(compose(written))
    assert values(after) == values(before)
    # A text in quotes never becomes one without, which might be a number; nor the other way round.
    for (text, plain), (_, was) in zip(leaves(after), leaves(before), strict=True):
        assert plain == was or (was and not text.isascii())


def leaves(said: Any) -> list[tuple[str, bool]]:
    if isinstance(said, tuple) and isinstance(said[1], bool):
        return [said]
    return [leaf for part in said for leaf in leaves(part)]


def values(said: Any) -> Any:
    if isinstance(said, tuple) and isinstance(said[1], bool):
        return said[0]
    return [values(part) for part in said]


def test_numbers_stay_numbers_and_texts_texts() -> None:
    written = write(compose(b"replicas: [{count: 2}]\nlabels: [{pairs: {a: '2', b: 1e3, c: \"yes\", d: ~}}]\n"))
    assert written == (b'replicas:\n- count: 2\nlabels:\n- pairs:\n    a: "2"\n    b: 1e3\n    c: "yes"\n    d: ~\n')


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    folder = tree(tmp_path, {})
    os.mkfifo(folder / "overlay" / "pipe.yaml")
    tree(tmp_path, {KUSTOMIZATION: "resources: [pipe.yaml]"})
    assert "is not there" in refused(folder)
