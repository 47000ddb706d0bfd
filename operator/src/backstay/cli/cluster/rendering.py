"""What is said of ModelDeployments: objects in, texts out. No I/O, no clock."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backstay.adapters.messages.plain import line
from backstay.cli.wording import span, when
from backstay.domain.status import RollbackRecord, RollbackState, Status
from backstay.domain.units import unix

NONE = "-"
COLUMNS = ("NAME", "VERSION", "STABLE", "PHASE", "STEP", "WEIGHT", "VERDICT", "AGE", "MESSAGE")
_WIDE = ("STALLED", "COMMIT")
_MOST_EVENTS = 6


def columns(*, wide: bool, everywhere: bool) -> tuple[str, ...]:
    """Return the columns of the table, of which the message is the last."""
    more = _WIDE if wide else ()
    return (*(("NAMESPACE",) if everywhere else ()), *COLUMNS[:-1], *more, COLUMNS[-1])


def row(body: Mapping[str, Any], now: float) -> dict[str, str]:
    """Return a line of the table, every column of it; it is read loosely, so that one odd object hides no other."""
    metadata, status = body["metadata"], body.get("status") or {}
    created = metadata.get("creationTimestamp")
    stalled = next((c.get("reason") for c in status.get("conditions", ()) if c.get("type") == "Stalled"), "")
    values = {
        "NAMESPACE": metadata["namespace"],
        "NAME": metadata["name"],
        "VERSION": body.get("spec", {}).get("model", {}).get("version"),
        "STABLE": (status.get("stable") or {}).get("version"),
        "PHASE": status.get("phase", "Pending"),
        "STEP": status.get("step"),
        "WEIGHT": status.get("weight"),
        "VERDICT": status.get("verdict"),
        "AGE": span(now - unix(created)) if created else "",
        "STALLED": stalled,
        "COMMIT": (status.get("rollback") or {}).get("commit", "")[:12],
        "MESSAGE": status.get("message"),
    }
    return {column: NONE if value in (None, "") else line(str(value)) for column, value in values.items()}


def unseen(body: Mapping[str, Any]) -> bool:
    """Tell whether the status speaks of an older spec than the one declared."""
    status = body.get("status") or {}
    return int(status.get("observedGeneration", 0)) < int(body["metadata"]["generation"])


def detail(body: Mapping[str, Any], now: float) -> list[tuple[str, str]]:
    """Describe one ModelDeployment in labelled lines.

    Raises:
        ValueError: its status has words that this version does not know.
    """
    return [(label, line(text)) for label, text in _detail(body, Status.of(body.get("status") or {}), now)]


def _detail(body: Mapping[str, Any], status: Status, now: float) -> Iterator[tuple[str, str]]:
    model = body["spec"]["model"]
    yield "declared", f"version {model['version']} of {model['name']}"
    if status.stable is not None:
        since = f", for {span(now - status.stable.since)}" if status.stable.since else ""
        yield "stable", f"version {status.stable.version}{since}"
    yield "phase", f"{status.phase}{f' (stalled: {status.stalled})' if status.stalled else ''}"
    rollout = status.rollout
    if rollout is not None:
        step = f"step {status.step}, " if status.step else ""
        yield "rollout", f"{rollout.id}, {step}{status.weight} % of the traffic, for {span(now - rollout.started_at)}"
    if status.verdict is not None:
        yield "verdict", str(status.verdict)
    if status.message:
        yield "message", status.message
    if unseen(body):
        yield "", "the controller has not looked at the latest change yet"
    if status.rollback is not None:
        yield from _rollback(status.rollback, now)
    if status.promotion is not None:
        note = f": {status.promotion.note}" if status.promotion.note else ""
        yield (
            "promotion",
            f"version {status.promotion.version} to {status.promotion.to}, {status.promotion.state}{note}",
        )
        if status.promotion.pull_request:
            yield "", status.promotion.pull_request
    previous = status.previous
    if previous is not None and previous.until > now:
        yield "warm", f"version {previous.version}, to go back to at once, for {span(previous.until - now)} more"


def _rollback(record: RollbackRecord, now: float) -> Iterator[tuple[str, str]]:
    what = f"version {record.from_version} to {record.to_version}"
    if record.revision_only:
        what = f"the new configuration of version {record.from_version}"
    yield "rollback", f"{record.id or 'no ID yet'}: {what}, {record.state}, {span(now - record.failed_at)} ago"
    yield "", record.full_reason
    for found in record.evidence:
        yield "evidence", found
    if record.pull_request:
        yield "pull request", record.pull_request
    if record.commit:
        synced = f"synced at {when(record.synced_at)}" if record.synced_at else "not synced yet"
        if record.state is RollbackState.DONE and not record.synced_at:
            synced = "done"
        yield "commit", f"{record.commit[:12]}, pushed at {when(record.pushed_at)}, {synced}"
    if record.note:
        yield "note", record.note


def history(body: Mapping[str, Any]) -> list[str]:
    """Word the last rollouts, newest first, and the rejections.

    Raises:
        ValueError: the status has words that this version does not know.
    """
    status = Status.of(body.get("status") or {})
    lines = []
    for ended in reversed(status.history):
        took = span(ended.ended_at - ended.started_at)
        reason = f": {line(ended.reason)}" if ended.reason else ""
        lines.append(f"{when(ended.ended_at)}  version {ended.version}  {ended.outcome} after {took}{reason}")
    for entry in status.rejected:
        what = f"version {entry.version}" if entry.version else f"revision {entry.revision}"
        lines.append(f"rejected: {what}{f', by rollback {entry.rollback_id}' if entry.rollback_id else ''}")
    return lines or ["no rollout has ended here yet"]


def state(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a line about a moment of a rollout says."""
    status = body.get("status") or {}
    return {
        "version": body["spec"]["model"]["version"],
        "phase": status.get("phase", "Pending"),
        "step": status.get("step", ""),
        "weight": status.get("weight", 0),
        "verdict": status.get("verdict", ""),
        "message": status.get("message", ""),
    }


def state_line(moment: Mapping[str, Any]) -> str:
    """Word a moment of a rollout."""
    step = f" {moment['step']}" if moment["step"] else ""
    verdict = f"  {moment['verdict']}" if moment["verdict"] else ""
    return f"{moment['phase']}{step}  {moment['weight']} %{verdict}  {line(moment['message'])}".rstrip()


def event(told: Mapping[str, Any]) -> dict[str, str]:
    """Return what matters of an event, whichever API it was written by."""
    return {
        "at": str(told.get("eventTime") or told.get("lastTimestamp") or ""),
        "reason": str(told.get("reason") or ""),
        "note": line(str(told.get("note") or told.get("message") or "")),
    }


def event_line(told: Mapping[str, str]) -> str:
    """Word an event."""
    return f"{told['reason']}: {told['note']}"


def recent(events: Sequence[Mapping[str, Any]], since: float) -> list[dict[str, str]]:
    """Return the last events of a rollout that began at a Unix time."""
    told = [event(one) for one in events]
    return [one for one in told if one["at"] and unix(one["at"]) >= since][-_MOST_EVENTS:]


def steps(text: str, *, ascii_only: bool = False) -> str:
    """Draw how far a rollout has come: ``2/5`` is one step done, one under way, three to come."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        return ""
    done, under_way, to_come = "#>." if ascii_only else "●◉○"
    return f"{done * (int(number) - 1)}{under_way}{to_come * (int(count) - int(number))}"
