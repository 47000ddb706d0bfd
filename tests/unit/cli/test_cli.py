"""The command, as a person or a script meets it."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from backstay.cli.__main__ import PANELS, Command, app

ROOT = Path(__file__).parents[3]


def evidence(bad: int = 3) -> dict[str, Any]:
    interval = {"canary": {"total": 120, "events": bad}, "baseline": {"total": 1080, "events": 9}}
    return {"alpha": 0.05, "signals": [{"name": "errors", "kind": "count", "intervals": [interval]}]}


def run(*arguments: str, **more: Any) -> Result:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, list(arguments), **more)


def stored(folder: Path, document: Any) -> str:
    place = folder / "evidence.json"
    place.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(place)


def test_a_verdict_is_printed_as_json(tmp_path: Path) -> None:
    result = run("judge", stored(tmp_path, evidence()))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["verdict"] == "Pass"


@pytest.mark.parametrize(("bad", "code"), [(3, 0), (60, 1)])
def test_fail_ends_with_one_where_that_is_asked_for(tmp_path: Path, bad: int, code: int) -> None:
    place = stored(tmp_path, evidence(bad))
    assert run("judge", place).exit_code == 0
    assert run("judge", "--exit-code", place).exit_code == code


def test_evidence_may_come_from_standard_input() -> None:
    assert json.loads(run("judge", "-", input=json.dumps(evidence(60))).stdout)["failedAt"] == 0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "evidence.json is not JSON (line 1: "),
        ('{"alpha": 2}', "evidence.json: "),
        (json.dumps({**evidence(), "alpha": 2}), "evidence.json: alpha is 2: it must be above 0 and below 1"),
    ],
)
def test_bad_evidence_is_one_sentence_and_exit_code_2(tmp_path: Path, content: str, sentence: str) -> None:
    result = run("judge", stored(tmp_path, content))
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    result = run("judge", str(tmp_path / "none.json"))
    assert result.exit_code == 2
    assert "none.json cannot be read (No such file or directory): name a file of evidence" in result.stderr


def test_help_teaches_the_format() -> None:
    result = run("judge", "--help")
    assert result.exit_code == 0
    for word in ('"kind": "distribution"', "tolerance", "failedAt", "exit code"):
        assert word in result.stdout


def test_the_module_runs_by_itself() -> None:
    command = [sys.executable, "-m", "backstay.cli", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0
    assert "plan" in result.stdout


COMMANDS = [command for commands in PANELS.values() for command in commands]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_list_says_of_each_command_what_its_own_help_says(command: Command) -> None:
    own = command.load()
    assert own.name == command.name
    assert " ".join(own.help.split("\n\n")[0].split()) == command.help


def test_the_list_of_commands_imports_none_of_them() -> None:
    script = (
        "import sys; from backstay.cli.__main__ import app; app(['--help'], standalone_mode=False); "
        "heavy = {'numpy', 'celpy', 'git', 'kubernetes', 'mlflow', 'jsonschema', 'github', 'gitlab'}; "
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_command_needs_nothing_that_only_the_controller_has() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = [re.split("[>=]", entry)[0].replace("-", "_") for entry in settings["optional-dependencies"]["controller"]]
    assert "kopf" in extra
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({extra})); from backstay.cli.__main__ import PANELS; "
        "[command.load() for commands in PANELS.values() for command in commands]"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_command_that_does_not_exist_is_named_with_one_that_does() -> None:
    result = run("statsu")
    assert result.exit_code == 2
    assert "Did you mean 'status'" in result.stderr


def test_the_options_of_a_command_are_completed() -> None:
    words = {"_BACKSTAY_COMPLETE": "complete_bash", "COMP_WORDS": "backstay plan --al", "COMP_CWORD": "2"}
    result = CliRunner(env=words).invoke(app, prog_name="backstay")
    assert result.stdout.split() == ["--alpha"]


def test_a_plan_says_what_is_found_and_what_cannot_be_seen() -> None:
    result = run("plan", "--rate", "20", "--base", "errors=0.01", "--step", "5:30m", "--step", "25:30m")
    assert result.exit_code == 0
    assert "errors: by the end of 5 % for 30 min (1 requests/s), nothing under x" in result.stdout
    assert "x2, four times in five, at alpha 0.05" in result.stdout


def test_a_plan_takes_steps_and_alpha_from_a_resource() -> None:
    settings = ROOT / "applications" / "fraud-detector" / "overlays" / "production" / "settings.yaml"
    result = run("plan", str(settings), "--rate", "0.2", "--base", "errors=0.000001")
    assert result.exit_code == 0
    assert "not in these steps" in result.stdout
    assert "nothing can be seen" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--base", "errors=0.01"], "there are no steps"),
        (["--base", "errors=1%", "--step", "5:30m"], "--base errors=1% is not understood"),
        (
            ["--base", "errors=0.01", "--step", "5%"],
            "--step 5% is not understood: write weight and time, such as 5:30m",
        ),
        (["--base", "errors=0.01", "--step", "100:1h"], "every step has weight 100"),
        (["--base", "errors=0.01", "--step", "5:30m", "--alpha", "5"], "alpha is 5: it must be above 0 and below 1"),
        (["--base", "errors=0.01", "none.yaml"], "none.yaml cannot be read"),
        (["--base", "errors=0.01", str(ROOT / "Makefile")], "is no ModelDeployment"),
    ],
)
def test_a_plan_that_cannot_be_made_is_refused_with_a_sentence(arguments: list[str], sentence: str) -> None:
    result = run("plan", "--rate", "20", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 50_000, "spec: !!int ''", "spec: &a [*a]"])
def test_a_plan_of_what_cannot_be_read_is_refused_with_a_sentence(text: str, tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(text)
    result = run("plan", "--rate", "20", "--base", "errors=0.01", str(file))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"backstay: {file} is no ModelDeployment: it ")
    assert len(result.stderr.splitlines()) == 1
