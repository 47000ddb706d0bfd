"""The hand-over from training: the very commands of the workflow files, run by a shell as a runner would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.component.cli.conftest import GitOps, Registry

pytestmark = pytest.mark.component

HANDOVER = Path(__file__).parents[3] / "pipelines" / "handover"
FILES = sorted(HANDOVER.glob("*.yaml"))
NAMES = {"APPLICATION": "fraud-detector", "VERSION": "2"}


def scripts(value: Any) -> Iterator[str]:
    """Go through what a runner gives to a shell: `run` of GitHub and Gitea, `script` of GitLab."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if key in {"run", "script"}:
                yield from entry if isinstance(entry, list) else [entry]
            else:
                yield from scripts(entry)
    if isinstance(value, list):
        for entry in value:
            yield from scripts(entry)


def commands(file: Path) -> list[str]:
    text = file.read_text()
    found = [line for script in scripts(yaml.safe_load(text)) for line in script.splitlines() if "backstay " in line]
    # Comments aside, whatever looks like a command of ours has been found.
    assert len(found) == len(re.findall(r"^\s*(?:- |run: )+backstay ", text, re.MULTILINE))
    return found


def test_there_is_one_for_each_forge() -> None:
    assert [file.stem for file in FILES] == ["gitea", "github", "gitlab"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_staging_is_committed_and_production_proposed(
    file: Path, gitops: GitOps, registry: Registry, tmp_path: Path
) -> None:
    for auc in (0.9, 0.98):
        registry.register(folder=tmp_path, metrics={"auc": auc})
    staging, production = commands(file)
    done = shell(staging, gitops, registry, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (gitops.model("staging")["version"], gitops.model("production")["version"]) == ("2", "1")
    assert gitops.model("staging")["promotedBy"] == "Trainer <trainer@localhost>"
    done = shell(f"{production} --dry-run", gitops, registry, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pull request from backstay/bump-fraud-detector-production" in done.stdout
    assert "| `auc` | 0.9 | 0.98 | +0.08 |" in done.stdout
    again = shell(staging, gitops, registry, tmp_path)
    assert (again.returncode, again.stdout[:14]) == (0, "nothing to do:")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_input_is_written_into_a_script(file: Path) -> None:
    assert not [script for script in scripts(yaml.safe_load(file.read_text())) if "${{" in script]


def shell(command: str, gitops: GitOps, registry: Registry, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line with the variables that its workflow sets."""
    values = {**NAMES, "REPOSITORY": f"file://{gitops.bare}"}
    environment = {
        **os.environ,
        **values,
        **{f"BACKSTAY_{name}": value for name, value in values.items()},
        "BACKSTAY_REGISTRY": registry.uri,
        "MLFLOW_TRACKING_TOKEN": "",
        "GIT_AUTHOR_NAME": "Trainer",
        "GIT_AUTHOR_EMAIL": "trainer@localhost",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    return subprocess.run(
        ["bash", "-euc", command], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("name", ["github", "gitea"])
def test_only_the_commands_see_tokens(name: str) -> None:
    workflow = yaml.safe_load((HANDOVER / f"{name}.yaml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    with_tokens = [step["run"] for step in steps if "secrets." in json.dumps(step)]
    assert with_tokens == commands(HANDOVER / f"{name}.yaml")
    assert "secrets." not in json.dumps(workflow["env"])
