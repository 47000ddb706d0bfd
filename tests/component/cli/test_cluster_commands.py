"""The commands that look at the cluster and act on rollouts, on a real API server."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from backstay.cli import act
from backstay.cli.__main__ import app
from backstay.cli.cluster import Models

pytestmark = pytest.mark.component

ROOT = Path(__file__).parents[3]
GOOD = Path(__file__).parents[1] / "good_specs" / "minimal.yaml"
NAMESPACE, NAME = "cli-tests", "fraud-detector"
ROLLOUT = {
    "id": "8-3",
    "revision": "r2",
    "version": "8",
    "startedAt": "2026-03-01T09:30:00.000Z",
    "rampSince": "2026-03-01T09:30:00.000Z",
    "step": 1,
}
PROGRESSING = {
    "observedGeneration": 1,
    "phase": "Progressing",
    "message": "Version 8 gets 10 % of the traffic",
    "weight": 10,
    "step": "2/4",
    "verdict": "Pass",
    "stable": {"version": "7", "revision": "r1", "since": "2026-03-01T09:00:00.000Z"},
    "rollout": ROLLOUT,
}
AWAITING = {**PROGRESSING, "phase": "AwaitingApproval", "message": "Version 8 waits for approval"}
STABLE = {"observedGeneration": 1, "phase": "Stable", "message": "Version 7 is stable", "weight": 100}
ROLLED_BACK = {
    **STABLE,
    "phase": "RolledBack",
    "message": "Rolled back from version 8 to 7: errors 9 %",
    "rollback": {
        "rollout": "8-3",
        "fromRevision": "r2",
        "from": "8",
        "toRevision": "r1",
        "to": "7",
        "reason": "errors 9 % against 1 %",
        "failedAt": "2026-03-01T09:40:00.000Z",
        "state": "Done",
        "id": "4a7d1ed414474e40",
        "commit": 40 * "c",
        "pullRequest": "https://git.example.com/models/gitops/pulls/7",
    },
    "rejected": [{"version": "8", "rollbackID": "4a7d1ed414474e40", "revision": "r2"}],
    "history": [
        {
            "version": "8",
            "outcome": "Failed",
            "startedAt": "2026-03-01T09:30:00.000Z",
            "endedAt": "2026-03-01T09:40:00.000Z",
            "reason": "errors 9 % against 1 %",
        }
    ],
}


@pytest.fixture(scope="module")
def server(bare_cluster: Any) -> Any:
    done = bare_cluster.kubectl("apply", "-k", str(ROOT))
    assert done.returncode == 0, done.stderr
    bare_cluster.kubectl("wait", "--for=condition=Established", "crd/modeldeployments.backstay.dev")
    bare_cluster.kubectl("create", "namespace", NAMESPACE)
    return bare_cluster


class Model:
    """One ModelDeployment, put into a state as the controller would."""

    def __init__(self, server: Any) -> None:
        self.server = server

    def is_(self, status: dict[str, Any]) -> None:
        place = ("mdep", NAME, f"--namespace={NAMESPACE}", "--subresource=status", "--type=merge")
        generation = self.body()["metadata"]["generation"]
        patch = {"status": {**status, "observedGeneration": generation}}
        done = self.server.kubectl("patch", *place, f"--patch={json.dumps(patch)}")
        assert done.returncode == 0, done.stderr

    def body(self) -> dict[str, Any]:
        done = self.server.kubectl("get", "mdep", NAME, f"--namespace={NAMESPACE}", "--output=json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def annotation(self, word: str) -> str | None:
        value: str | None = self.body()["metadata"].get("annotations", {}).get(f"backstay.dev/{word}")
        return value

    def run(self, *arguments: str, kubeconfig: str = "") -> Result:
        command, *rest = arguments
        options = [f"--namespace={NAMESPACE}", f"--kubeconfig={kubeconfig or self.server.kubeconfig}"]
        return CliRunner().invoke(app, [command, *rest, *options])


@pytest.fixture
def model(server: Any) -> Iterator[Model]:
    document = yaml.safe_load(GOOD.read_text())
    document["metadata"] = {"name": NAME}
    document["spec"]["model"]["version"] = "8"
    made = server.kubectl("create", f"--namespace={NAMESPACE}", "--filename=-", stdin=yaml.safe_dump(document))
    assert made.returncode == 0, made.stderr
    yield Model(server)
    server.kubectl("delete", "mdep", NAME, f"--namespace={NAMESPACE}")


@pytest.mark.parametrize(
    ("status", "command", "word", "value", "says"),
    [
        (PROGRESSING, ["pause", NAME], "pause", "8-3", "version 8 of cli-tests/fraud-detector keeps its 10 %"),
        (AWAITING, ["approve", NAME], "approve", "8-3/2", "may go on after step 2/4"),
        (PROGRESSING, ["skip", NAME], "skip", "8-3/2", "leaves step 2/4"),
        (
            PROGRESSING,
            ["abort", NAME, "--reason=complaints\nfrom support"],
            "abort",
            "8-3: complaints from support",
            "is drained, rejected, and taken out of Git: complaints from support",
        ),
    ],
)
def test_a_word_becomes_the_annotation_that_the_controller_reads(  # noqa: PLR0913, PLR0917 - a row of the table
    model: Model, status: dict[str, Any], command: list[str], word: str, value: str, says: str
) -> None:
    model.is_(status)
    done = model.run(*command)
    assert done.exit_code == 0, done.output
    assert says in done.output
    assert model.annotation(word) == value
    again = model.run(*command)
    assert again.exit_code == 1
    assert "was told so already" in again.output


def test_a_pause_ends_with_resume(model: Model) -> None:
    model.is_(PROGRESSING)
    assert model.run("pause", NAME).exit_code == 0
    assert model.run("resume", NAME).exit_code == 0
    assert model.annotation("pause") is None
    done = model.run("resume", NAME)
    assert (done.exit_code, "is not paused: Progressing" in done.output) == (1, True)


@pytest.mark.parametrize(
    ("status", "command", "says"),
    [
        (STABLE, ["approve", NAME], "has no rollout under way: Stable, Version 7 is stable"),
        (STABLE, ["abort", NAME, "--reason=x"], "has no rollout under way"),
        (PROGRESSING, ["approve", NAME], "does not wait for approval: Progressing"),
        (AWAITING, ["skip", NAME], "waits for approval, which skipping is not: backstay approve"),
    ],
)
def test_where_there_is_nothing_to_act_on_it_says_how_things_stand(
    model: Model, status: dict[str, Any], command: list[str], says: str
) -> None:
    model.is_(status)
    done = model.run(*command)
    assert done.exit_code == 1
    assert says in done.output
    assert not [name for name in model.body()["metadata"].get("annotations", {}) if name.startswith("backstay.dev/")]


def test_when_somebody_else_writes_first_the_word_is_thought_over(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The approval is decided on what is there by then: here the rollout has gone on, and nothing is approved."""
    model.is_(AWAITING)

    class Late(Models):
        def annotate(self, body: dict[str, Any], name: str, value: str | None) -> None:
            if body["status"]["phase"] == "AwaitingApproval":
                model.is_(PROGRESSING)
            super().annotate(body, name, value)

    monkeypatch.setattr(act, "Models", Late)
    done = model.run("approve", NAME)
    assert done.exit_code == 1
    assert "does not wait for approval: Progressing" in done.output
    assert model.annotation("approve") is None


def test_who_may_not_approve_is_told_by_the_api_server(model: Model, server: Any, tmp_path: Path) -> None:
    model.is_(AWAITING)
    place = f"--namespace={NAMESPACE}"
    server.kubectl("create", "serviceaccount", "editor", place)
    account = f"--serviceaccount={NAMESPACE}:editor"
    server.kubectl("create", "rolebinding", "editor", "--clusterrole=backstay-edit", account, place)
    server.kubectl("create", "rolebinding", "viewer", "--clusterrole=backstay-view", account, place)
    token = server.kubectl("create", "token", "editor", place).stdout.strip()
    document = yaml.safe_load(Path(server.kubeconfig).read_text())
    document["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(document))
    for command, word in ((["approve", NAME], "approve"), (["skip", NAME], "skip")):
        model.is_(AWAITING if word == "approve" else PROGRESSING)
        done = model.run(*command, kubeconfig=str(kubeconfig))
        assert done.exit_code == 1, done.output
        assert f"system:serviceaccount:{NAMESPACE}:editor may not {word}" in done.output
        assert "ask for the ClusterRole backstay-approve" in done.output
        assert token not in done.output
    assert model.annotation("approve") is None


def test_a_model_is_shown_in_depth(model: Model) -> None:
    model.is_(ROLLED_BACK)
    done = model.run("status", NAME)
    assert done.exit_code == 0, done.output
    for part in (
        "declared   version 8 of",
        "phase      RolledBack",
        "rollback   4a7d1ed414474e40: version 8 to 7, Done",
        "https://git.example.com/models/gitops/pulls/7",
        "commit cccccccccccc, synced",
    ):
        assert part in done.output
    assert json.loads(model.run("status", NAME, "--output=json").output)["status"]["phase"] == "RolledBack"
    assert yaml.safe_load(model.run("status", NAME, "--output=yaml").output)["metadata"]["name"] == NAME


def test_all_models_are_a_table(model: Model) -> None:
    model.is_(PROGRESSING)
    header, row = model.run("status", "--output=wide").output.splitlines()
    assert header.split() == ["NAME", "VERSION", "STABLE", "PHASE", "STEP", "WEIGHT", "VERDICT", "AGE", "MESSAGE"]
    assert row.split()[:7] == [NAME, "8", "7", "Progressing", "2/4", "10", "Pass"]
    assert row.endswith("Version 8 gets 10 % of the traffic")
    assert model.run("status", "-A", "--output=name").output.split() == [f"{NAMESPACE}/{NAME}"]


def test_history_tells_rollouts_and_rejections(model: Model) -> None:
    model.is_(ROLLED_BACK)
    first, second = model.run("history", NAME).output.splitlines()
    assert first == "2026-03-01 09:40:00  version 8  Failed after 10 min: errors 9 % against 1 %"
    assert second == "rejected: version 8, by rollback 4a7d1ed414474e40"


@pytest.mark.parametrize(
    ("last", "code"), [({**STABLE, "stable": {"version": "8", "revision": "r2"}}, 0), (ROLLED_BACK, 1)]
)
def test_a_rollout_is_followed_to_its_end(model: Model, last: dict[str, Any], code: int) -> None:
    model.is_(PROGRESSING)
    later = threading.Timer(1.0, model.is_, [last])
    later.start()
    done = model.run("watch", NAME, "--timeout=60")
    later.join()
    assert done.exit_code == code, done.output
    first, *_, end = done.output.splitlines()
    assert "Progressing 2/4  Version 8 gets 10 % of the traffic" in first
    assert str(last["message"]) in end


def test_a_rollout_that_takes_too_long_is_left_to_itself(model: Model) -> None:
    model.is_(PROGRESSING)
    done = model.run("watch", NAME, "--timeout=1")
    assert done.exit_code == 1
    assert "has not ended within 1 s: it goes on all the same" in done.output


def test_a_name_that_is_not_there_is_bad_input(model: Model) -> None:
    for command in ("status", "watch", "pause", "history"):
        done = model.run(command, "nobody")
        assert done.exit_code == 2, (command, done.output)
        assert f"there is no ModelDeployment {NAMESPACE}/nobody" in done.output


def test_a_namespace_may_stand_in_the_name(model: Model) -> None:
    model.is_(PROGRESSING)
    arguments = ["status", f"{NAMESPACE}/{NAME}", "--namespace=other", f"--kubeconfig={model.server.kubeconfig}"]
    assert "Progressing" in CliRunner().invoke(app, arguments).output


def test_a_silent_server_ends_with_3(model: Model, tmp_path: Path) -> None:
    document = yaml.safe_load(Path(model.server.kubeconfig).read_text())
    document["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(document))
    done = model.run("status", kubeconfig=str(kubeconfig))
    assert done.exit_code == 3
    assert "the API server does not answer for the ModelDeployments" in done.output


def test_a_kubeconfig_that_is_not_there_ends_with_2(model: Model, tmp_path: Path) -> None:
    done = model.run("status", kubeconfig=str(tmp_path / "absent"))
    assert done.exit_code == 2
    assert "name a kubeconfig by --kubeconfig or KUBECONFIG" in done.output
    done = CliRunner().invoke(app, ["status", f"--kubeconfig={model.server.kubeconfig}", "--context=nowhere"])
    assert done.exit_code == 2
    assert "there is no context 'nowhere' in the kubeconfig" in done.output
