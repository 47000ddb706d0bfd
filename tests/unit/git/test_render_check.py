from pathlib import Path

import pytest

from backstay.adapters.render import RenderError, check, render

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
    ],
)
def test_anything_else_is_named(after: str, says: str) -> None:
    with pytest.raises(RenderError) as refused:
        checked(after)
    assert says in str(refused.value)


def test_without_kustomize_nothing_is_checked_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RenderError, match="cannot be checked without kustomize; install it on the PATH"):
        render(tmp_path, "overlay", home=tmp_path)


def test_kustomize_that_hangs_or_fails_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "kustomize"
    tool.write_text(f"#!/bin/sh\necho Error: {tmp_path}/overlay is '\n' broken >&2; exit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(RenderError, match="kustomize build overlay fails: Error: overlay is broken; correct"):
        render(tmp_path, "overlay", home=tmp_path)
    monkeypatch.setattr("backstay.adapters.render._SECONDS", 0.3)
    tool.write_text("#!/bin/sh\nsleep 60\n")
    with pytest.raises(RenderError, match="did not end within"):
        render(tmp_path, "overlay", home=tmp_path)
