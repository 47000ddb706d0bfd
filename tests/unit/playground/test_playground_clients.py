"""kubectl, Gitea and the choice of a cluster: what reaches a command line, and what never does."""

from pathlib import Path

import pytest
import yaml

from backstay_playground.cluster import choose_cluster
from backstay_playground.errors import PlaygroundError
from backstay_playground.gitea import Gitea, parse_token
from backstay_playground.install import overlay
from backstay_playground.kubectl import Kubectl

TOKEN = "0123456789abcdef0123456789abcdef01234567"  # noqa: S105 - nobody's
ACCOUNT = Gitea("http://127.0.0.1:13000", "playground", TOKEN)


def fake_kubectl(folder: Path, script: str) -> Path:
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_the_environments_kubeconfig_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/production")
    kubectl = Kubectl(fake_kubectl(tmp_path, 'echo "$@" "KUBECONFIG=$KUBECONFIG"'), tmp_path / "mine")
    assert kubectl("get", "pods").strip() == f"--kubeconfig={tmp_path / 'mine'} get pods KUBECONFIG="


def test_a_failure_of_kubectl_is_its_own_message(tmp_path: Path) -> None:
    kubectl = Kubectl(fake_kubectl(tmp_path, "echo no such pod >&2; exit 1"), tmp_path)
    with pytest.raises(PlaygroundError, match="kubectl get pod x failed: no such pod"):
        kubectl("get", "pod", "x")


def test_without_a_named_context_the_playground_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BACKSTAY_CONTEXT", raising=False)
    mine = Kubectl(tmp_path, tmp_path)
    assert choose_cluster(lambda: mine, yes=False) is mine


def test_a_named_context_is_shown_and_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_kubectl(tmp_path, "echo https://prod.example.com")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("BACKSTAY_CONTEXT", "prod")
    monkeypatch.setenv("KUBECONFIG", "/production")
    chosen = choose_cluster(lambda: pytest.fail("the playground was not meant"), yes=True)
    assert (chosen.context, chosen.kubeconfig) == ("prod", Path("/production"))
    assert chosen.argv("get")[1:] == ["--kubeconfig=/production", "--context=prod", "get"]
    assert "context prod, https://prod.example.com" in capsys.readouterr().out


def test_a_named_context_needs_a_yes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_kubectl(tmp_path, "echo https://prod.example.com")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("BACKSTAY_CONTEXT", "prod")
    monkeypatch.setattr("typer.confirm", lambda _: False)
    with pytest.raises(PlaygroundError, match="Nothing was changed"):
        choose_cluster(lambda: pytest.fail("the playground was not meant"), yes=False)


def test_the_token_is_found_in_what_gitea_prints() -> None:
    output = f"New user 'x' has been successfully created!\nAccess token was successfully created... {TOKEN}\n"
    assert parse_token(output) == TOKEN
    with pytest.raises(PlaygroundError, match="without a token"):
        parse_token("New user 'x' has been successfully created!")


def test_the_token_is_in_no_representation() -> None:
    assert TOKEN not in repr(ACCOUNT)


def test_git_uses_the_account_and_nobodys_configuration() -> None:
    environment = ACCOUNT.git_environment()
    assert environment["GIT_CONFIG_KEY_0"] == "http.http://127.0.0.1:13000/.extraHeader"
    assert environment["GIT_CONFIG_GLOBAL"] == "/dev/null"


def test_the_overlay_changes_settings_and_adds_credentials() -> None:
    files = overlay("../..", account=ACCOUNT, code="a")
    assert files["kustomization.yaml"]["resources"] == ["../..", "git-credentials.yaml"]
    assert files["git-credentials.yaml"]["stringData"] == {
        "playground.url": "http://gitea.forge:3000/",
        "playground.username": "playground",
        "playground.password": TOKEN,
        "playground.forge": "gitea",
    }
    settings = yaml.safe_load(files["kustomization.yaml"]["patches"][0]["patch"])
    assert settings["data"]["BACKSTAY_CLUSTER_NAME"] == "playground"


def test_the_controller_starts_anew_when_its_sources_change() -> None:
    before, after = (overlay("../..", account=ACCOUNT, code=code)["kustomization.yaml"] for code in "ab")
    assert before != after
    assert TOKEN not in str(before)
