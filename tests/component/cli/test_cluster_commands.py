"""The commands that look at the cluster and act on rollouts, on a real API server."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from backstay.cli.__main__ import app
from backstay.cli.cluster import act
from backstay.cli.cluster.client import Models

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

    def declares(self, version: str) -> None:
        patch = {"spec": {"model": {"version": version}}}
        place = ("mdep", NAME, f"--namespace={NAMESPACE}", "--type=merge")
        done = self.server.kubectl("patch", *place, f"--patch={json.dumps(patch)}")
        assert done.returncode == 0, done.stderr

    def tells(self, reason: str, note: str) -> None:
        """Write an event as the controller does."""
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": "told-", "namespace": NAMESPACE},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "type": "Normal",
            "reason": reason,
            "action": "Roll",
            "note": note,
            "reportingController": "backstay.dev/controller",
            "reportingInstance": "test",
            "regarding": {
                "apiVersion": "backstay.dev/v1alpha1",
                "kind": "ModelDeployment",
                "name": NAME,
                "namespace": NAMESPACE,
                "uid": self.body()["metadata"]["uid"],
            },
        }
        done = self.server.kubectl("create", "--filename=-", stdin=json.dumps(event))
        assert done.returncode == 0, done.stderr

    def annotation(self, word: str) -> str | None:
        value: str | None = self.body()["metadata"].get("annotations", {}).get(f"backstay.dev/{word}")
        return value

    def run(self, *arguments: str, kubeconfig: str = "") -> Result:
        command, *rest = arguments
        options = [f"--namespace={NAMESPACE}", f"--kubeconfig={kubeconfig or self.server.kubeconfig}"]
        return CliRunner().invoke(app, [command, *rest, *options])


@dataclass(frozen=True)
class Followed:
    """How a watch ended."""

    exit_code: int
    stdout: str
    stderr: str


def follow(model: Model, *options: str, then: Callable[[], object]) -> Followed:
    """Watch the model in a process of its own, and do something once it has told the first state."""
    command = [sys.executable, "-m", "backstay.cli", "watch", f"{NAMESPACE}/{NAME}"]
    place = f"--kubeconfig={model.server.kubeconfig}"
    with subprocess.Popen(
        [*command, place, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            then()
            rest, errors = process.communicate(timeout=150)
        finally:
            process.kill()
    return Followed(process.returncode, first + rest, errors)


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
    ("status", "command", "word", "value"),
    [
        (PROGRESSING, ["pause", NAME], "pause", "8-3"),
        (AWAITING, ["approve", NAME], "approve", "8-3/2"),
        (PROGRESSING, ["skip", NAME], "skip", "8-3/2"),
        (PROGRESSING, ["abort", NAME, "--reason=complaints\nfrom support"], "abort", "8-3: complaints from support"),
    ],
)
def test_a_word_becomes_the_annotation_that_the_controller_reads(
    model: Model, status: dict[str, Any], command: list[str], word: str, value: str
) -> None:
    model.is_(status)
    done = model.run(*command, "--output=json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["action"], told["annotation"], told["value"]) == (word, f"backstay.dev/{word}", value)
    assert model.annotation(word) == value
    again = model.run(*command)
    assert (again.exit_code, again.stdout) == (1, "")
    assert "was told so already" in again.stderr


def test_a_pause_ends_with_resume(model: Model) -> None:
    model.is_(PROGRESSING)
    paused = model.run("pause", NAME)
    assert paused.exit_code == 0
    assert paused.stdout.splitlines() == [
        f"version 8 of {NAMESPACE}/{NAME} keeps its 10 % of the traffic",
        f"It is still judged, and taken back if it fails. Go on: backstay resume {NAMESPACE}/{NAME}",
    ]
    assert model.run("resume", NAME).exit_code == 0
    assert model.annotation("pause") is None
    done = model.run("resume", NAME)
    assert (done.exit_code, "is not paused: Progressing" in done.stderr) == (1, True)


def test_where_there_is_nothing_to_act_on_nothing_is_written(model: Model) -> None:
    model.is_(STABLE)
    before = model.body()["metadata"]["resourceVersion"]
    for command in (["approve"], ["abort", "--reason=x"], ["pause"], ["resume"], ["skip"]):
        done = model.run(command[0], NAME, *command[1:])
        assert (done.exit_code, done.stdout) == (1, ""), command
        assert "Stable, Version 7 is stable" in done.stderr
    assert model.body()["metadata"]["resourceVersion"] == before


@pytest.mark.parametrize("reason", ["", " \n", 501 * "x"], ids=["empty", "blank", "too long"])
def test_an_abort_says_why(model: Model, reason: str) -> None:
    model.is_(PROGRESSING)
    done = model.run("abort", NAME, f"--reason={reason}")
    assert done.exit_code == 2
    assert "--reason" in done.stderr
    assert model.annotation("abort") is None


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
    said = " ".join(done.stdout.split())
    for part in (
        "declared version 8 of",
        "phase RolledBack",
        "rollback 4a7d1ed414474e40: version 8 to 7, Done",
        "pull request https://git.example.com/models/gitops/pulls/7",
        "commit cccccccccccc",
    ):
        assert part in said
    shown = json.loads(model.run("status", NAME, "--output=json").stdout)
    assert (shown["kind"], shown["status"]["phase"]) == ("ModelDeployment", "RolledBack")
    assert "managedFields" not in shown["metadata"]
    assert yaml.safe_load(model.run("status", NAME, "--output=yaml").stdout)["metadata"]["name"] == NAME


def test_all_models_are_a_table(model: Model) -> None:
    model.is_(PROGRESSING)
    header, row = model.run("status").stdout.splitlines()
    assert header.split() == ["NAME", "VERSION", "STABLE", "PHASE", "STEP", "WEIGHT", "VERDICT", "AGE", "MESSAGE"]
    assert row.split()[:7] == [NAME, "8", "7", "Progressing", "2/4", "10", "Pass"]
    assert row.endswith("Version 8 gets 10 % of the traffic")
    assert "\x1b" not in row
    assert model.run("status", "-A", "--output=name").stdout.split() == [f"{NAMESPACE}/{NAME}"]
    assert model.run("status", "-A", "--output=wide").stdout.split()[:2] == ["NAMESPACE", "NAME"]
    everything = json.loads(model.run("status", "--output=json").stdout)
    assert (everything["kind"], len(everything["items"])) == ("List", 1)


def test_a_namespace_without_models_is_no_error(model: Model) -> None:
    options = ["--namespace=default", f"--kubeconfig={model.server.kubeconfig}"]
    done = CliRunner().invoke(app, ["status", *options])
    assert (done.exit_code, done.stdout) == (0, "")
    assert "There are no ModelDeployments in this namespace: --all-namespaces looks everywhere" in done.stderr


def test_history_tells_rollouts_and_rejections(model: Model) -> None:
    model.is_(ROLLED_BACK)
    first, second = model.run("history", NAME).stdout.splitlines()
    assert first == "2026-03-01 09:40:00  version 8  Failed after 10 min: errors 9 % against 1 %"
    assert second == "rejected: version 8, by rollback 4a7d1ed414474e40"
    told = json.loads(model.run("history", NAME, "-o", "json").stdout)
    assert (told["history"][0]["outcome"], told["rejected"][0]["version"]) == ("Failed", "8")


@pytest.mark.parametrize(
    ("last", "code"), [({**STABLE, "stable": {"version": "8", "revision": "r2"}}, 0), (ROLLED_BACK, 1)]
)
def test_a_rollout_is_followed_to_its_end(model: Model, last: dict[str, Any], code: int) -> None:
    model.is_(PROGRESSING)
    done = follow(model, "--timeout=60", then=lambda: model.is_(last))
    assert done.exit_code == code, done
    first, *_, end = done.stdout.splitlines()
    assert "Progressing 2/4  10 %  Pass  Version 8 gets 10 % of the traffic" in first
    assert str(last["message"]) in end


def test_a_pipeline_reads_documents_and_waits_for_its_version(model: Model) -> None:
    """Version 7 is stable until the change is there: that is not what the pipeline waits for."""
    model.declares("7")
    model.is_({**STABLE, "stable": {"version": "7", "revision": "r1"}})
    done = follow(model, "--version=8", "--timeout=5", "--output=json", then=lambda: model.declares("8"))
    assert done.exit_code == 1, done
    assert "has not ended within 5 s" in done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["version"] for one in told if "version" in one] == ["7", "8"]
    model.is_({**STABLE, "message": "Version 8 is stable", "stable": {"version": "8", "revision": "r2"}})
    assert model.run("watch", NAME, "--version=8", "--timeout=60").exit_code == 0


def test_events_are_told_as_they_come(model: Model) -> None:
    model.is_(PROGRESSING)
    model.tells("RolloutStarted", "an old one")

    def go_on() -> None:
        model.tells("Promoted", "Version 8 goes live")
        model.is_({**STABLE, "stable": {"version": "8", "revision": "r2"}})

    done = follow(model, "--timeout=60", then=go_on)
    assert "  Promoted: Version 8 goes live" in done.stdout
    assert "an old one" not in done.stdout


def test_on_a_terminal_a_rollout_is_a_live_view(model: Model) -> None:
    model.is_(PROGRESSING)
    inner, outer = pty.openpty()
    place = f"--kubeconfig={model.server.kubeconfig}"
    command = [sys.executable, "-m", "backstay.cli", "watch", f"{NAMESPACE}/{NAME}", "--timeout=60", place]
    terminal = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40", "PYTHONUTF8": "1"}
    terminal.pop("NO_COLOR", None)
    shown = ""
    with subprocess.Popen(command, stdout=outer, stderr=outer, env=terminal) as process:
        os.close(outer)
        while "weight  10 %" not in shown:
            shown += os.read(inner, 4096).decode(errors="replace")
        model.is_({**STABLE, "message": "Version 8 is stable", "stable": {"version": "8", "revision": "r2"}})
        try:
            while chunk := os.read(inner, 4096):
                shown += chunk.decode(errors="replace")
        except OSError:  # a terminal that its last program has left cannot be read
            pass
        assert process.wait(timeout=60) == 0, shown
    os.close(inner)
    assert "\x1b[32mStable" in shown
    assert "Version 8 is stable" in shown


def test_kubectl_runs_and_completes_it_as_a_plugin(model: Model) -> None:
    model.is_(PROGRESSING)
    kubectl = model.server.playground.kubectl
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**kubectl.environment(), "PATH": programs, "KUBECONFIG": str(kubectl.kubeconfig)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(kubectl.binary), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    shown = run("backstay", "status", f"{NAMESPACE}/{NAME}", "--output=name")
    assert (shown.returncode, shown.stdout) == (0, f"{NAMESPACE}/{NAME}\n"), shown.stderr
    assert "Usage: kubectl backstay" in run("backstay", "--help").stdout
    completed = run("__complete", "backstay", "approve", f"--namespace={NAMESPACE}", "fraud")
    assert completed.stdout.split() == [NAME, ":4"], completed


def test_a_model_that_is_deleted_ends_a_watch(model: Model) -> None:
    model.is_(PROGRESSING)
    delete = ("delete", "mdep", NAME, f"--namespace={NAMESPACE}")
    done = follow(model, "--timeout=60", then=lambda: model.server.kubectl(*delete))
    assert done.exit_code == 1
    assert f"ModelDeployment {NAMESPACE}/{NAME} was deleted" in done.stderr


def test_a_server_that_comes_back_ends_no_watch(model: Model) -> None:
    model.is_(PROGRESSING)

    def away() -> None:
        model.server.stop_api_server()
        model.server.start_api_server()
        model.is_({**STABLE, "stable": {"version": "8", "revision": "r2"}})

    done = follow(model, "--timeout=120", then=away)
    assert done.exit_code == 0, done


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


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "has no current context: name one by --context (none)"),
        ("[1, 2]", "cannot be used (it is not in the form of one)"),
        ("a: {", "cannot be used (it is not in the form of one)"),
        ("current-context: x\ncontexts: [{name: y}]", "there is no context 'x' in the kubeconfig: there are y"),
        (
            "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nusers: []\nclusters: []",
            "clusters",
        ),
    ],
    ids=["empty", "a list", "no YAML", "another context", "no cluster"],
)
def test_a_kubeconfig_that_cannot_be_used_is_bad_input(tmp_path: Path, content: str, sentence: str) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(content)
    done = CliRunner().invoke(app, ["status", f"--kubeconfig={kubeconfig}"])
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_token_of_a_kubeconfig_is_shown(server: Any, tmp_path: Path) -> None:
    """The client's own words go on with the whole entry of a user."""
    document = yaml.safe_load(Path(server.kubeconfig).read_text())
    kubeconfig = tmp_path / "kubeconfig"
    for user in (
        {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "env": [{"name": "T", "value": "hidden-token"}]}},
        {"token": "hidden-token", "client-certificate": "absent.pem"},
        {"token": "hidden-token"},
    ):
        document["users"][0]["user"] = user
        kubeconfig.write_text(yaml.safe_dump(document))
        done = CliRunner().invoke(app, ["status", f"--kubeconfig={kubeconfig}"])
        assert done.exit_code == 2, done.output
        assert "hidden-token" not in done.output


def test_a_plugin_for_credentials_is_asked(model: Model, server: Any, tmp_path: Path) -> None:
    place = f"--namespace={NAMESPACE}"
    server.kubectl("create", "serviceaccount", "looker", place)
    account = f"--serviceaccount={NAMESPACE}:looker"
    server.kubectl("create", "rolebinding", "looker", "--clusterrole=backstay-view", account, place)
    token = server.kubectl("create", "token", "looker", place).stdout.strip()
    version = "client.authentication.k8s.io/v1"
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": {"token": token}}
    answers = tmp_path / "credential.json"
    answers.write_text(json.dumps(answer))
    document = yaml.safe_load(Path(server.kubeconfig).read_text())
    plugin = {"apiVersion": version, "command": "cat", "args": [str(answers)], "interactiveMode": "Never"}
    document["users"][0]["user"] = {"exec": plugin}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(document))
    model.is_(PROGRESSING)
    done = model.run("status", NAME, kubeconfig=str(kubeconfig))
    assert done.exit_code == 0, done.output
    refused = model.run("pause", NAME, kubeconfig=str(kubeconfig))
    assert (refused.exit_code, token in refused.output) == (1, False)
    assert "system:serviceaccount:cli-tests:looker" in refused.stderr


def test_a_cluster_without_backstay_is_told(bare_cluster: Any, tmp_path: Path) -> None:
    """The API server answers below a path of its own as it does for a kind that it does not know."""
    document = yaml.safe_load(Path(bare_cluster.kubeconfig).read_text())
    document["clusters"][0]["cluster"]["server"] += "/nothing"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(document))
    done = CliRunner().invoke(app, ["status", f"--kubeconfig={kubeconfig}"])
    assert done.exit_code == 2, done.output
    assert "the cluster does not know ModelDeployments: install Backstay there" in done.stderr


def test_names_are_completed_and_trouble_is_silent(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def completed(*words: str) -> list[str]:
        environment = {
            "_BACKSTAY_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["backstay", *words]),
            "COMP_CWORD": str(len(words)),
        }
        done = CliRunner().invoke(app, [], env=environment, prog_name="backstay")
        assert done.stderr == ""
        return done.stdout.split()

    monkeypatch.setenv("KUBECONFIG", str(model.server.kubeconfig))
    assert completed("status", "--namespace", NAMESPACE, "fraud") == [NAME]
    assert completed("approve", f"{NAMESPACE}/fr") == [f"{NAMESPACE}/{NAME}"]
    assert completed("approve", "nobody") == []
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert completed("approve", "fraud") == []
