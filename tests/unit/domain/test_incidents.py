"""Each rollback is put on record once, when it is done, and only where that is asked for."""

import pytest
from test_decide import World, declared, revision, serving_1

from backstay.adapters.messages.incident import incident_of
from backstay.domain.actions import Announce, ReportIncident
from backstay.domain.observed import IncidentAnswer, Reported, Synced, Unreportable, Unreported, Written
from backstay.domain.status import RollbackRecord, RollbackState, Verdict

ISSUE = {"incident": "issue"}


def rolled_back(**rollback: str) -> World:
    world = serving_1()
    world.desired = declared("2", generation=2, rollback=rollback)
    world.see(set_by="b" * 40)
    world.turn(4)
    world.judged(Verdict.FAIL)
    world.turn(3)
    world.see(write_back=Written("c" * 40, world.now), sync=Synced(world.now))
    assert not world.did(ReportIncident)
    world.desired = declared("1", generation=3, rollback=rollback)
    world.turn(4)
    assert world.status.rollback is not None
    assert world.status.rollback.state is RollbackState.DONE
    return world


def reasons(world: World) -> list[str]:
    return [action.reason for action in world.did(Announce)]


def test_without_the_wish_nothing_is_reported() -> None:
    assert not rolled_back().did(ReportIncident)


def test_a_rollback_that_is_done_is_reported_until_there_is_an_issue() -> None:
    world = rolled_back(**ISSUE)
    (first, *_) = world.did(ReportIncident)
    assert first.rollback.from_version == "2"
    assert 0 < first.started_at < first.rollback.failed_at + 1
    world.see(incident=Unreported("the forge cannot be reached"))
    world.done.clear()
    world.turn()
    assert world.did(ReportIncident)
    world.see(incident=Reported("https://git.example.com/issues/4"))
    world.done.clear()
    world.turn(3)
    assert not world.did(ReportIncident)
    assert reasons(world).count("IncidentReported") == 1
    assert world.status.rollback is not None
    assert world.status.rollback.incident == "https://git.example.com/issues/4"


def test_what_cannot_be_reported_is_said_once() -> None:
    world = rolled_back(**ISSUE)
    world.see(incident=Unreportable("the token may not open issues"))
    world.done.clear()
    world.turn(3)
    assert reasons(world).count("IncidentNotReported") == 1
    assert world.status.rollback is not None
    assert world.status.rollback.incident == "none: the token may not open issues"


@pytest.mark.parametrize("answer", [Unreported(), Reported("https://git.example.com/issues/4"), Unreportable("no")])
def test_what_the_forge_says_changes_nothing_else(answer: IncidentAnswer) -> None:
    world = rolled_back(**ISSUE)
    before = (world.status.phase, world.status.message, world.seen.route)
    world.see(incident=answer)
    world.turn(2)
    assert (world.status.phase, world.status.message, world.seen.route) == before


def test_the_record_names_versions_evidence_times_and_commits() -> None:
    record = RollbackRecord(
        rollout="2-2",
        from_revision=revision("2"),
        from_version="2",
        to_revision=revision("1"),
        to_version="1",
        reason="errors 4.1 % against 1.0 % on 1,320 requests",
        failed_at=1_000_060.0,
        drained_at=1_000_061.0,
        pushed_at=1_000_062.5,
        synced_at=1_000_064.0,
        id="0123456789abcdef",
        bad_commit="b" * 40,
        commit="c" * 40,
        evidence=("signal=errors verdict=Fail value=4.1 % baseline=1.0 % requests=1320 E=214 limit=80",),
    )
    told = incident_of(declared("1"), record, environment="production", started_at=1_000_000.0)
    assert told.title == "Version 2 of fraud failed in production: errors 4.1 % against 1.0 % on 1,320 requests"
    assert told.marker == "backstay-incident: 0123456789abcdef"
    assert "| errors | Fail | 4.1 % | 1.0 % | 1320 | 214 | 80 |" in told.body
    moments = [line for line in told.body.splitlines() if line.startswith("| 1970-")]
    assert len(moments) == 5
    assert moments == sorted(moments)
    assert f"- brought by commit: {'b' * 40}" in told.body
    assert f"- taken back by commit: {'c' * 40}" in told.body
    assert told.text.endswith("<!-- backstay-incident: 0123456789abcdef -->\n")
