from dataclasses import replace
from pathlib import Path

import pytest

from backstay.adapters.gitops import render as rendering
from backstay.adapters.gitops.render import RenderError, RenderTimeoutError, check, render, sources

DEPLOYMENT = """\
apiVersion: backstay.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: fraud-detector
  namespace: fraud-production
spec:
  model:
    version: "7"
  serving:
    replicas: 2
"""
OTHER = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  version: '7'\n"
BEFORE = f"{OTHER}---\n{DEPLOYMENT}"


def checked(after: str, *, before: str = BEFORE, version: str = "6") -> None:
    check(before, after, name="fraud-detector", namespace="fraud-production", version=version)


def test_an_edit_of_the_model_alone_passes() -> None:
    checked(BEFORE.replace('version: "7"', 'version: "6"'))
    checked(BEFORE.replace('version: "7"', 'version: "7"\n    rejectedVersions: [{version: "5"}]'), version="7")


def test_the_order_of_the_manifests_does_not_matter() -> None:
    checked(f"{DEPLOYMENT}---\n{OTHER}".replace('version: "7"', 'version: "6"'))


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (BEFORE.replace("7", "6"), "would also change ConfigMap settings; keep spec.model in a file"),
        (
            BEFORE.replace('"7"', '"6"').replace("replicas: 2", "replicas: 3"),
            "would also change spec.serving.replicas of ModelDeployment fraud-production/fraud-detector; keep",
        ),
        (BEFORE, "does not reach spec.model of ModelDeployment fraud-detector; list the version file"),
        (BEFORE.replace('version: "7"', 'version: "7"\n    runID: x'), "does not reach spec.model"),
        (BEFORE.replace("'7'", "'8'"), "would also change ConfigMap settings"),
        (BEFORE.replace("name: fraud-detector", "name: another"), "would also change ModelDeployment"),
        (BEFORE.replace("namespace: fraud-production", "namespace: another"), "would also change ModelDeployment"),
        (OTHER, "would also change ModelDeployment"),
        (f"{BEFORE}---\n{DEPLOYMENT.replace('7', '6')}", "rendered several times; declare it once"),
        (f"{BEFORE}  notes: {1024 * 1024 * 'x'}\n", "changes a manifest of more than 1 MiB, which no cluster takes"),
    ],
)
def test_anything_else_is_named(after: str, says: str) -> None:
    with pytest.raises(RenderError) as refused:
        checked(after)
    assert says in str(refused.value)


def test_a_plain_equals_sign_a_merge_key_and_a_time_are_what_kustomize_reads() -> None:
    plain = BEFORE.replace("replicas: 2", "template: {args: [=], since: 2026-01-01, at: 2026-01-01 10:00:00}")
    checked(plain.replace('version: "7"', 'version: "6"'), before=plain)
    with pytest.raises(RenderError, match=r"would also change spec.serving.template.args of ModelDeployment"):
        checked(plain.replace('version: "7"', 'version: "6"').replace("[=]", "[==]"), before=plain)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("!thing x", "could not determine a constructor"),
        ('!!int ""', "is not YAML"),
        ("!!timestamp x", "is not YAML"),
        ("[" * 200 + "]" * 200, "nests more than 100 levels"),
        ("{a: 1, a: 2}", "says a twice"),
        ("&a [*a]", "holds itself"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_told(written: str, says: str) -> None:
    before = BEFORE.replace("replicas: 2", f"template: {written}")
    with pytest.raises(RenderError, match=f"a manifest that kustomize makes of the folder .*{says}"):
        checked(before.replace('version: "7"', 'version: "6"'), before=before)


@pytest.mark.parametrize("document", ["[1]\n", "just words\n", "metadata: 5\n"])
def test_what_is_no_manifest_is_told(document: str) -> None:
    with pytest.raises(RenderError, match="that is no manifest"):
        checked(f"{BEFORE}---\n{document}".replace('version: "7"', 'version: "6"'))


def test_without_kustomize_nothing_is_checked_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RenderError, match="cannot be checked without kustomize; install it on the PATH"):
        render(tmp_path, "overlay", home=tmp_path)


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of kustomize, to be written, and a folder to build."""
    tool = tmp_path / "bin" / "kustomize"
    tool.parent.mkdir()
    tool.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    (tmp_path / "tree" / "overlay").mkdir(parents=True)
    (tmp_path / "tree" / "overlay" / "kustomization.yaml").write_text("namespace: fraud\n")
    return tool


def test_kustomize_that_hangs_or_fails_is_told_apart(
    tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool.write_text("#!/bin/sh\necho \"Error: $2 is '\n' broken\" >&2; exit 1\n")
    with pytest.raises(RenderError, match="kustomize build overlay fails: Error: overlay is ' ' broken; correct"):
        render(tmp_path / "tree", "overlay", home=tmp_path)
    monkeypatch.setattr(rendering, "LIMITS", replace(rendering.LIMITS, seconds=0.3))
    tool.write_text("#!/bin/sh\n/bin/sleep 60\n")
    with pytest.raises(RenderTimeoutError, match="did not end within"):
        render(tmp_path / "tree", "overlay", home=tmp_path)


def test_kustomize_gets_nothing_of_our_environment_and_finds_no_program(
    tool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BACKSTAY_TOKEN", "HTTPS_PROXY", "GIT_SSH_COMMAND", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "ours")
    tool.write_text("#!/bin/sh\nexport -p\ncommand -v git || echo no git\n")
    said = render(tmp_path / "tree", "overlay", home=tmp_path)
    assert "ours" not in said
    assert "no git" in said.splitlines()


def test_kustomize_sees_a_copy_that_is_removed_afterwards(tool: Path, tmp_path: Path) -> None:
    (tmp_path / "tree" / "overlay" / "secret.yaml").write_text("not named by the kustomization")
    tool.write_text('#!/bin/sh\ncd "$2" && echo * && pwd\n')
    names, place = render(tmp_path / "tree", "overlay", home=tmp_path).splitlines()
    assert names == "kustomization.yaml"
    assert not Path(place).exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bin", "tree"]


def test_what_cannot_be_copied_may_pass(tool: Path, tmp_path: Path) -> None:
    assert tool.exists()
    with pytest.raises(RenderTimeoutError, match="overlay cannot be rendered now: No such file or directory; free"):
        render(tmp_path / "tree", "overlay", home=tmp_path / "gone")


BRACKETS = "a: " + 100_000 * "[" + 100_000 * "]"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join(8 * [f'*a{n - 1}'])}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize("text", [BRACKETS, BOMB, "resources: [https://git.example.com/base]"])
def test_nothing_is_listed_where_kustomize_must_not_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "kustomization.yaml").write_text(text)
    assert sources(tmp_path, "overlay") == frozenset()


def test_what_a_folder_is_rendered_from_is_listed_with_its_folders(tmp_path: Path) -> None:
    for folder, text in {"base": "resources: [a.yaml]", "overlay": "resources: [../base]", "plain": ""}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.yaml").write_text("kind: ConfigMap")
        if text:
            (tmp_path / folder / "kustomization.yaml").write_text(text)
    files = {"overlay/kustomization.yaml", "base/kustomization.yaml", "base/a.yaml"}
    assert sources(tmp_path, "overlay") == {"overlay", "base", *files}
    assert sources(tmp_path, "plain") == {"plain"}
