"""Everything that writes text for people, each with text from outside in every place that may hold some."""

import io
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import live_text
from rich.console import RenderableType
from test_decide import declared

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
from backstay.adapters.messages.incident import incident_of
from backstay.adapters.messages.markdown import remark
from backstay.adapters.messages.rollback_commit import RollbackRequest, quarantine_message, rollback_message
from backstay.adapters.messages.rollback_proposal import branch_of, evidence_table, proposal_of
from backstay.adapters.registry.versions import RegisteredVersion
from backstay.cli import screen, terminal
from backstay.cli.cluster import rendering, watch
from backstay.cli.git import results
from backstay.cli.options import Output
from backstay.cli.verifying.comment import comment, difference
from backstay.cli.verifying.environments import Checked, Environment
from backstay.cli.verifying.findings import Finding, Form, Weight, told
from backstay.controller.act import event_of
from backstay.controller.services.notifications import message_of
from backstay.domain.actions import Announce
from backstay.domain.resource import ModelIdentity
from backstay.domain.status import RollbackRecord
from backstay_contract.tags import APPROVED, APPROVED_AT, APPROVER

ADDRESS = "https://git.example.com/models/gitops/pulls/7"
DESIRED = declared("7")
NOW = 1_000_000.0


@dataclass(frozen=True)
class Producer:
    """What writes texts, what looks for live things in them, and the functions of `messages` that it goes through."""

    name: str
    write: Callable[[str], Iterable[str]]
    live: Callable[[str], Counter[str]]
    of: tuple[Callable[..., Any], ...] = ()


def identity(text: str, number: str) -> ModelIdentity:
    return ModelIdentity(
        name=f"fraud{text}",
        version=f"{number}{text}",
        digest=f"sha256:{number}{text}",
        code_commit=f"c{text}",
        data_checksum=f"d{text}",
        run_id=f"r{text}",
        feature_schema_version=f"{number}{text}",
        promoted_by=f"Jo {text} <jo@localhost>",
    )


def request(text: str) -> RollbackRequest:
    return RollbackRequest(
        rollback_id="4a7d1ed414474e40",
        resource="prod/fraud",
        path="applications/fraud/overlays/production",
        name="fraud",
        environment=f"production{text}",
        good=identity(text, "6"),
        bad=identity(text, "7"),
        bad_commit="b" * 40,
        reason=f"aborted by a person: {text}",
        evidence=(f"signal=errors{text} verdict=Fail value=4.1 % {text} limit=80", text),
        co_author=f"Jo{text} <jo@localhost>",
    )


def incident(text: str) -> Iterable[str]:
    record = RollbackRecord(
        rollout="7-2",
        from_revision="r7",
        from_version=f"7{text}",
        to_revision="r6",
        to_version=f"6{text}",
        reason=f"aborted by a person: {text}",
        failed_at=NOW,
        id="4a7d1ed414474e40",
        bad_commit=f"b{text}",
        commit=f"c{text}",
        note=f"Argo CD says: {text}",
        said=text,
        pull_request=ADDRESS,
        evidence=request(text).evidence,
    )
    report = incident_of(DESIRED, record, environment=f"production{text}", started_at=NOW - 60)
    return report.title, report.body


def registered(text: str) -> RegisteredVersion:
    return RegisteredVersion(
        identity(text, "8"),
        "http://mlflow:5000",
        f"READY{text}",
        description=text,
        metrics={f"auc{text}": 0.9, text: 1.0},
        tags={APPROVED: "true", APPROVER: text, APPROVED_AT: text, "eval.x": text, f"eval.{text}": text},
        experiment="1",
    )


def change(text: str) -> VersionChange:
    return VersionChange(
        ChangeKind.ROLLBACK,
        application=f"fraud{text}",
        environment=f"production{text}",
        before=identity(text, "7"),
        after=identity(text, "8"),
        source=f"staging{text}",
        reason=f"because {text}",
        rollback_id="4a7d1ed414474e40",
        resource="prod/fraud",
    )


def known(text: str) -> Evaluated:
    return Evaluated(registered(text), registered(text), gathered=(f"Signal errors: {text}", text))


def verified(text: str) -> Iterable[str]:
    place = Environment(f"fraud{text}", f"production{text}", f"applications/fraud/{text}")
    findings = [Finding(f"applications/{text}", 3, f"is wrong: {text}", weight) for weight in Weight]
    part = difference(Checked(place, ()), None, registered(text), registered(text))
    return (comment([part], findings),)


def event(text: str) -> Iterable[str]:
    note = event_of(DESIRED, Announce("RollingBack", f"No more traffic: {text}"), datetime.now(UTC))["note"]
    return (note,)


def notification(text: str) -> Iterable[str]:
    announced = Announce("RollbackProposed", f"{ADDRESS} puts version 6 back: {text} {ADDRESS}")
    message = message_of(DESIRED, announced, (ADDRESS,))
    assert message.body.startswith(f"{ADDRESS} puts ")
    return message.title, message.body.replace(ADDRESS, "")


def drawn(part: RenderableType) -> str:
    console = terminal.console()
    with console.capture() as captured:
        console.print(part)
    return captured.get()


def printed(*calls: Callable[[], None]) -> str:
    """Return what some calls print, on both ways out."""
    stream = io.StringIO()
    with redirect_stdout(stream), redirect_stderr(stream):
        for call in calls:
            call()
    return stream.getvalue()


def model(text: str) -> dict[str, Any]:
    """A ModelDeployment as the API server has it, with text from outside where `kubectl` shows some."""
    return {
        "metadata": {
            "namespace": "prod",
            "name": "fraud",
            "generation": 2,
            "creationTimestamp": "2026-02-20T10:00:00Z",
        },
        "spec": {"model": {"name": f"fraud{text}", "version": f"7{text}"}},
        "status": {
            "observedGeneration": 2,
            "phase": "RollingBack",
            "message": f"No more traffic: {text}",
            "step": f"2/5{text}",
            "weight": 10,
            "rollback": {
                "rollout": "7-2",
                "fromRevision": "r7",
                "from": f"7{text}",
                "toRevision": "r6",
                "to": f"6{text}",
                "reason": text,
                "said": text,
                "note": text,
                "evidence": [text],
                "failedAt": "2026-03-01T09:40:00Z",
                "state": "Committing",
                "pullRequest": f"{ADDRESS}{text}",
            },
            "history": [
                {
                    "version": f"7{text}",
                    "outcome": "Failed",
                    "startedAt": "2026-03-01T09:30:00Z",
                    "endedAt": "2026-03-01T09:40:00Z",
                    "reason": text,
                }
            ],
        },
    }


def on_terminal(text: str) -> Iterable[str]:
    body = model(text)
    told_events = [{"eventTime": "2026-03-01T09:40:00.000000Z", "reason": "RollingBack", "note": text}]
    columns = rendering.columns(wide=True, everywhere=True)
    yield drawn(screen.table([rendering.row(body, NOW)], columns, whole=True))
    yield drawn(screen.labelled(rendering.detail(body, NOW)))
    yield drawn(watch.view(body, told_events, NOW))
    yield terminal.drawn(screen.table([{"": text}], [""], whole=True))
    findings = [Finding(text, 3, text)]
    yield printed(
        lambda: terminal.say("\n".join(rendering.history(body))),
        lambda: terminal.say(rendering.state_line(rendering.state(body))),
        *(lambda form=form: terminal.say(told(findings, [text], form)) for form in Form),
        lambda: terminal.warn(f"backstay: {text}"),
        lambda: terminal.say_json({text: [text]}),
        lambda: terminal.say_yaml({text: [text]}, start="---\n"),
        lambda: terminal.say_yaml({text: [text]}, width=120, whole_lines=True),
        *(lambda output=output: results.show({text: text}, output, lambda _: text) for output in Output),
    )


PRODUCERS = (
    Producer(
        "rollback commit", lambda text: [rollback_message(request(text))], live_text.in_commit, (rollback_message,)
    ),
    Producer(
        "quarantine commit",
        lambda text: [quarantine_message(request(text), f"9{text}")],
        live_text.in_commit,
        (quarantine_message,),
    ),
    Producer(
        "title of a rollback's pull request",
        lambda text: [proposal_of(request(text), base="main").title],
        live_text.in_line,
        (proposal_of,),
    ),
    Producer(
        "body of a rollback's pull request",
        lambda text: [proposal_of(request(text), base="main").body],
        live_text.in_markdown,
        (proposal_of, evidence_table),
    ),
    Producer("title of an incident", lambda text: list(incident(text))[:1], live_text.in_line, (incident_of,)),
    Producer("body of an incident", lambda text: list(incident(text))[1:], live_text.in_markdown, (incident_of,)),
    Producer("commit of a change", lambda text: [change_message(change(text))], live_text.in_commit, (change_message,)),
    Producer("title of a change", lambda text: [change_title(change(text))], live_text.in_line, (change_title,)),
    Producer(
        "body of a change",
        lambda text: [change_body(change(text), known(text))],
        live_text.in_markdown,
        (change_body, evaluation_table),
    ),
    Producer("comment of backstay verify", verified, live_text.in_markdown, (evaluation_table,)),
    Producer("comment on closing a pull request", lambda text: [remark(text)], live_text.in_markdown),
    Producer("note of an Event", event, live_text.in_event),
    Producer("notification", notification, live_text.in_line),
    Producer("terminal", on_terminal, live_text.in_terminal),
)
# Their words go into one of the producers above, or hold nothing from outside but what is fit for a label or branch.
NO_PRODUCERS = (branch_of, change_labels)
