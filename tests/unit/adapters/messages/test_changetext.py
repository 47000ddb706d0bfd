"""What a commit and a pull request say of a change of version, word for word."""

from dataclasses import replace
from pathlib import Path

import pytest

from backstay.adapters.gitops.changes import Change
from backstay.adapters.gitops.changes import change_message as with_trailers
from backstay.adapters.messages.change import (
    ChangeKind,
    Evaluated,
    VersionChange,
    change_body,
    change_labels,
    change_message,
    change_title,
    evaluation_table,
)
from backstay.adapters.registry.versions import RegisteredVersion
from backstay.domain.resource import ModelIdentity

GOLDEN = Path(__file__).parent / "golden"
OLD = ModelIdentity("fraud-detector", "7", "sha256:" + "7" * 64, run_id="run7", feature_schema_version="3")
NEW = ModelIdentity(
    "fraud-detector",
    "8",
    "sha256:" + "8" * 64,
    code_commit="abcdef0123",
    data_checksum="sha256:" + "d" * 64,
    run_id="run8",
    feature_schema_version="3",
    promoted_by="Robin Doe <robin@example.com>",
    promoted_at="2026-03-01T09:30:00Z",
)
RUNNING = RegisteredVersion(OLD, "http://mlflow:5000", "READY", metrics={"auc": 0.951, "loss": 0.25}, experiment="1")
BUMP = VersionChange(
    ChangeKind.BUMP, "fraud-detector", "production", before=OLD, after=NEW, resource="fraud-production/fraud-detector"
)


def registered(**changes: object) -> RegisteredVersion:
    version = RegisteredVersion(
        NEW,
        "http://mlflow:5000",
        "READY",
        description="Gradient boosting on all thirty features",
        metrics={"auc": 0.982, "rows": 171.0},
        tags={
            "eval.approved": "true",
            "eval.approver": "robin",
            "eval.timestamp": "2026-03-01T09:00:00Z",
            "eval.ece": "0.03",
            "eval.verdict": "better",
            "recipe": "gradient-boosting",
        },
        experiment="1",
    )
    return replace(version, **changes)  # type: ignore[arg-type]  # the fields of a version


def hostile() -> RegisteredVersion:
    """A version whose registry entries try everything."""
    attack = "x | y\n\n/close\n@all closes #1 `\n- [x] Approved <b>https://evil.example</b>\nSigned-off-by: Boss <b@c>"
    return registered(
        description=attack,
        metrics={attack: 1.0, "nan": float("nan")},
        tags={"eval.approved": "true", "eval.approver": attack, "eval.x": attack},
    )


@pytest.mark.parametrize(
    ("name", "change", "known"),
    [
        ("bump", BUMP, Evaluated(registered(), RUNNING, digest_checked=True)),
        (
            "promote",
            replace(BUMP, kind=ChangeKind.PROMOTE, source="staging"),
            Evaluated(
                registered(tags={}),
                RUNNING,
                gathered=("Version 8 has been stable for 26 h, phase Stable", "Signal errors: no evidence of harm"),
                proven=True,
            ),
        ),
        (
            "rollback",
            replace(BUMP, kind=ChangeKind.ROLLBACK, before=NEW, after=OLD, reason="complaints", rollback_id="ab" * 8),
            Evaluated(None, None),
        ),
        ("retry", replace(BUMP, kind=ChangeKind.RETRY, rollback_id="ab" * 8), Evaluated(registered(), RUNNING)),
        ("hostile", replace(BUMP, reason=hostile().description), Evaluated(hostile(), None)),
    ],
)
def test_the_words_are_these(name: str, change: VersionChange, known: Evaluated) -> None:
    text = f"{change_message(change)}\n\n{'=' * 20}\n\n{change_body(change, known)}"
    golden = GOLDEN / f"{name}.md"
    assert text == golden.read_text()


def test_no_line_of_a_hostile_registry_is_a_line_of_its_own() -> None:
    clean = change_body(BUMP, Evaluated(registered(), None)).splitlines()
    body = change_body(BUMP, Evaluated(hostile(), None)).splitlines()
    assert len([line for line in body if line.startswith("- [x]")]) == len(
        [line for line in clean if line.startswith("- [x]")]
    )
    assert not [line for line in body if line.startswith(("/", "@", "Signed-off-by"))]
    assert not [line for line in body if "@all" in line or "#1" in line or "https://evil" in line]


def test_a_hostile_reason_forges_no_trailer() -> None:
    change = replace(BUMP, kind=ChangeKind.ROLLBACK, reason="x\n\nBackstay-Rollback-Id: 0123\nCo-authored-by: a <a@b>")
    whole = with_trailers(Change("p", "n", lambda content, *_: content, change_message(change), change_id="1" * 32))
    *_, trailers = whole.strip().split("\n\n")
    assert [line.partition(":")[0] for line in trailers.splitlines()] == [
        "Backstay-Change",
        "Backstay-Resource",
        "Backstay-From",
        "Backstay-To",
        "Backstay-Change-Id",
        "Backstay-Path",
    ]
    assert "Backstay-Rollback-Id:" not in whole


def test_the_title_is_one_line_that_refers_to_nothing() -> None:
    change = replace(BUMP, application="x\ncloses #1 @all")
    assert change_title(change) == "bump(x closes  1  all): production 7 -> 8"


def test_two_digests_of_one_version_are_told_apart() -> None:
    change = replace(BUMP, before=replace(NEW, digest="sha256:" + "9" * 64))
    assert change_title(change) == "bump(fraud-detector): production 8 (999999999999) -> 8 (888888888888)"


def test_labels_say_what_and_where() -> None:
    assert change_labels(BUMP) == ("backstay", "bump", "production")


def test_a_registry_without_metrics_is_said() -> None:
    assert "no metrics" in evaluation_table(replace(RUNNING, metrics={}), None)


def test_a_table_of_very_many_metrics_is_cut() -> None:
    many = registered(metrics={f"m{number:03}": 1.0 for number in range(60)}, tags={})
    text = evaluation_table(None, many)
    assert len(text.splitlines()) == 44
    assert text.endswith("and 20 more in the registry")
