"""The alerts, by Prometheus' own checker: they fire when they should, and only then."""

import subprocess
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from backstay_playground.build import binaries

pytestmark = pytest.mark.component

FOLDER = Path(__file__).parents[2] / "monitoring" / "prometheus"


@pytest.fixture(scope="module")
def promtool() -> Path:
    return binaries(["promtool"], Console(quiet=True))["promtool"]


@pytest.mark.parametrize("command", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts.test.yaml")])
def test_the_rules_are_right(promtool: Path, command: tuple[str, ...]) -> None:
    answer = subprocess.run([promtool, *command], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    cases = yaml.safe_load((FOLDER / "alerts.test.yaml").read_text(encoding="utf-8"))["tests"]
    fired = {rule["alertname"] for case in cases for rule in case.get("alert_rule_test", ()) if rule.get("exp_alerts")}
    shown = {s["labels"] for case in cases for test in case.get("promql_expr_test", ()) for s in test["exp_samples"]}
    for rule in group["rules"]:
        assert rule["alert"] in fired or any(f'alertname="{rule["alert"]}"' in labels for labels in shown)
        assert rule["labels"]["severity"] in ("page", "ticket")
