"""What is said of ModelDeployments, by values."""

from typing import Any

import pytest
import typer
from rich.console import Console, RenderableType

from backstay.cli import screen
from backstay.cli.cluster import looking, rendering, watch
from backstay.cli.cluster.ending import Ending, ending
from backstay.domain.units import unix

NOW = unix("2026-03-01T10:00:00Z")
ROLLED_BACK = {
    "observedGeneration": 12,
    "phase": "RolledBack",
    "message": "Rolled back from version 8 to 7: errors 9 % against 1 %",
    "weight": 100,
    "verdict": "Fail",
    "stable": {"revision": "r7", "version": "7", "since": "2026-02-27T10:00:00Z"},
    "rollback": {
        "rollout": "8-12",
        "fromRevision": "r8",
        "from": "8",
        "toRevision": "r7",
        "to": "7",
        "reason": "errors 9 % against 1 %",
        "evidence": ["signal=errors verdict=Fail value=9.0 % baseline=1.0 %"],
        "failedAt": "2026-03-01T09:40:00Z",
        "state": "Done",
        "id": "4a7d1ed414474e40",
        "commit": 40 * "c",
        "pushedAt": "2026-03-01T09:40:02Z",
        "syncedAt": "2026-03-01T09:40:05Z",
        "pullRequest": "https://git.example.com/models/gitops/pulls/7",
    },
    "rejected": [{"version": "8", "rollbackID": "4a7d1ed414474e40", "revision": "r8"}, {"revision": "r9"}],
    "history": [
        {
            "version": "7",
            "outcome": "Promoted",
            "startedAt": "2026-02-27T08:00:00Z",
            "endedAt": "2026-02-27T10:00:00Z",
        },
        {
            "version": "8",
            "outcome": "Failed",
            "startedAt": "2026-03-01T09:30:00Z",
            "endedAt": "2026-03-01T09:40:00Z",
            "reason": "errors 9 % against 1 %",
        },
    ],
}
PROGRESSING = {
    "observedGeneration": 12,
    "phase": "Progressing",
    "message": "Version 8 gets 10 % of the traffic: 60 of 1800 s; no harm so far",
    "step": "2/5",
    "weight": 10,
    "verdict": "Inconclusive",
    "stable": {"revision": "r7", "version": "7", "since": "2026-02-27T10:00:00Z"},
    "rollout": {"id": "8-12", "revision": "r8", "version": "8", "startedAt": "2026-03-01T09:45:00Z", "step": 1},
}
STABLE = {"observedGeneration": 12, "phase": "Stable", "stable": {"revision": "r8", "version": "8"}, "weight": 100}


def model(status: dict[str, Any], version: str = "8") -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "fraud",
            "name": "fraud-detector",
            "generation": 12,
            "creationTimestamp": "2026-02-20T10:00:00Z",
        },
        "spec": {"model": {"name": "fraud-detector", "version": version}},
        "status": status,
    }


def drawn(what: RenderableType, *, width: int = 100, terminal: bool = True) -> str:
    console = Console(width=width, force_terminal=terminal, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def test_a_line_of_the_table() -> None:
    row = rendering.row(model(PROGRESSING), NOW)
    assert [row[column] for column in rendering.columns(wide=True, everywhere=True)] == [
        *("fraud", "fraud-detector", "8", "7", "Progressing", "2/5", "10", "Inconclusive", "9.0 days", "-", "-"),
        "Version 8 gets 10 % of the traffic: 60 of 1800 s; no harm so far",
    ]


@pytest.mark.parametrize("status", [{}, {"phase": "FromTheFuture", "conditions": [{"type": "Ready"}]}])
def test_a_model_that_says_little_or_odd_things_still_has_a_line(status: dict[str, Any]) -> None:
    row = rendering.row(model(status), NOW)
    assert row["PHASE"] == status.get("phase", "Pending")
    assert (row["STABLE"], row["STEP"], row["VERDICT"], row["MESSAGE"]) == ("-", "-", "-", "-")


def test_on_a_terminal_a_message_is_cut_to_one_line_unless_the_whole_is_wanted() -> None:
    rows = [rendering.row(model({**PROGRESSING, "message": "word " * 60}), NOW)]
    columns = rendering.columns(wide=False, everywhere=False)
    assert len(drawn(screen.table(rows, columns, whole=False)).splitlines()) == 2
    assert "\N{HORIZONTAL ELLIPSIS}" in drawn(screen.table(rows, columns, whole=False))
    assert drawn(screen.table(rows, columns, whole=True)).count("word") == 60


def test_a_rollout_in_depth() -> None:
    assert rendering.detail(model(PROGRESSING), NOW) == [
        ("declared", "version 8 of fraud-detector"),
        ("stable", "version 7, for 2.0 days"),
        ("phase", "Progressing"),
        ("rollout", "8-12, step 2/5, 10 % of the traffic, for 15 min"),
        ("verdict", "Inconclusive"),
        ("message", "Version 8 gets 10 % of the traffic: 60 of 1800 s; no harm so far"),
    ]


def test_a_rollback_in_depth_has_commit_sync_pull_request_and_evidence() -> None:
    lines = rendering.detail(model(ROLLED_BACK, "7"), NOW)
    start = next(place for place, (label, _) in enumerate(lines) if label == "rollback")
    assert lines[start:] == [
        ("rollback", "4a7d1ed414474e40: version 8 to 7, Done, 20 min ago"),
        ("", "errors 9 % against 1 %"),
        ("evidence", "signal=errors verdict=Fail value=9.0 % baseline=1.0 %"),
        ("pull request", "https://git.example.com/models/gitops/pulls/7"),
        ("commit", "cccccccccccc, pushed at 2026-03-01 09:40:02, synced at 2026-03-01 09:40:05"),
    ]


def test_what_the_controller_has_not_seen_yet_is_said() -> None:
    body = model({**STABLE, "observedGeneration": 11})
    assert ("", "the controller has not looked at the latest change yet") in rendering.detail(body, NOW)


def test_a_status_in_words_of_another_version_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, looking.answered():
        rendering.detail(model({**PROGRESSING, "phase": "FromTheFuture"}), NOW)
    assert ended.value.exit_code == 1
    assert "use the command of the controller's version" in capsys.readouterr().err


def test_history_is_told_newest_first() -> None:
    assert rendering.history(model(ROLLED_BACK)) == [
        "2026-03-01 09:40:00  version 8  Failed after 10 min: errors 9 % against 1 %",
        "2026-02-27 10:00:00  version 7  Promoted after 2 h",
        "rejected: version 8, by rollback 4a7d1ed414474e40",
        "rejected: revision r9",
    ]
    assert rendering.history(model({})) == ["no rollout has ended here yet"]


def test_texts_of_others_command_no_terminal() -> None:
    body = model({**PROGRESSING, "message": "\x1b]0;owned\x07\x1b[2J now\n"})
    said = [rendering.row(body, NOW)["MESSAGE"], dict(rendering.detail(body, NOW))["message"]]
    assert said == ["]0;owned [2J now"] * 2
    assert "\x1b" not in rendering.state_line(rendering.state(body))


@pytest.mark.parametrize(
    ("status", "declared", "version", "expected"),
    [
        (STABLE, "8", "", Ending(well=True)),
        (STABLE, "8", "8", Ending(well=True)),
        (STABLE, "8", "9", None),
        ({**STABLE, "observedGeneration": 11}, "8", "", None),
        ({}, "8", "", None),
        (PROGRESSING, "8", "", None),
        (ROLLED_BACK, "7", "", Ending(well=False)),
        (ROLLED_BACK, "7", "8", Ending(well=False)),
        (ROLLED_BACK, "7", "9", None),
        ({**PROGRESSING, "phase": "RollingBack"}, "8", "", None),
        (
            {
                **PROGRESSING,
                "phase": "RollingBack",
                "conditions": [{"type": "Stalled", "reason": "AwaitingMerge"}],
            },
            "8",
            "",
            Ending(well=False),
        ),
        (
            {**STABLE, "phase": "Degraded", "conditions": [{"type": "Stalled", "reason": "VersionRejected"}]},
            "8",
            "",
            Ending(well=False),
        ),
        (
            {**STABLE, "history": [{**ROLLED_BACK["history"][0], "version": "9", "outcome": "Superseded"}]},  # type: ignore[index]
            "8",
            "9",
            Ending(well=False, sentence="version 9 was superseded: version 8 is declared now"),
        ),
    ],
)
def test_how_a_rollout_ended(status: dict[str, Any], declared: str, version: str, expected: Ending | None) -> None:
    assert ending(model(status, declared), version) == expected


@pytest.mark.parametrize(("step", "bar"), [("1/3", "◉○○"), ("3/3", "●●◉"), ("", ""), ("x/3", "")])
def test_steps_are_drawn(step: str, bar: str) -> None:
    assert rendering.steps(step) == bar
    assert rendering.steps(step, ascii_only=True) == bar.translate(str.maketrans("●◉○", "#>."))


def test_the_live_view_has_steps_weight_verdict_sentence_and_the_events_of_the_rollout() -> None:
    events = [
        {"eventTime": "2026-03-01T09:00:00.000000Z", "reason": "Promoted", "note": "Version 7 is stable"},
        {"lastTimestamp": "2026-03-01T09:50:00Z", "reason": "StepEnded", "message": "Version 8 goes on to 10 %"},
    ]
    shown = drawn(watch.view(model(PROGRESSING), events, NOW), terminal=False)
    for part in ("fraud/fraud-detector", "●◉○○○  2/5", "weight  10 %", "Inconclusive", "no harm so far"):
        assert part in shown
    assert "2026-03-01 09:50:00  StepEnded: Version 8 goes on to 10 %" in shown
    assert "Version 7 is stable" not in shown


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[32m" in drawn(screen.coloured("Stable"))
    assert "\x1b" not in drawn(screen.coloured("Stable"), terminal=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in drawn(screen.coloured("Stable"))
