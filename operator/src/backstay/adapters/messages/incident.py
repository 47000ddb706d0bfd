"""How the record of a rollback is worded, for the issue that people discuss it in."""

from backstay.adapters.forge import Report
from backstay.adapters.messages.rollback_proposal import evidence_table
from backstay.domain.resource import ModelDeployment
from backstay.domain.status import RollbackRecord
from backstay.domain.units import timestamp

LABELS = ("backstay", "incident")
_LONGEST_TITLE = 200


def incident_of(desired: ModelDeployment, record: RollbackRecord, *, environment: str, started_at: float) -> Report:
    """Word the issue of one rollback.

    Args:
        desired: the resource.
        record: its rollback, done.
        environment: what people call the folder, such as ``production``.
        started_at: when the failed version's rollout began, in Unix seconds; 0 where that is not known.
    """
    name, bad = desired.key.name, record.from_version
    title = f"Version {bad} of {name} failed in {environment}: {record.reason}"
    sections = [
        (
            f"Version {bad} of `{desired.plan.model.name}` was taken back from {environment} (`{desired.key}`): "
            f"{record.reason}. Version {record.to_version} serves again."
        ),
        evidence_table(record.evidence),
        _timeline(record, started_at),
        _facts(record),
        _next(record),
    ]
    return Report(
        marker=f"backstay-incident: {record.id}",
        title=title if len(title) <= _LONGEST_TITLE else f"{title[: _LONGEST_TITLE - 3]}...",
        body="\n\n".join(section for section in sections if section),
        labels=LABELS,
    )


def _timeline(record: RollbackRecord, started_at: float) -> str:
    moments = [
        ("the rollout began", started_at),
        ("the verdict fell", record.failed_at),
        ("the version had no traffic any more", record.drained_at),
        ("the pull request was opened", record.proposed_at),
        ("Git said the former version again", record.pushed_at),
        ("Argo CD had synced that", record.synced_at),
    ]
    rows = "\n".join(f"| {timestamp(at)} | {what} |" for what, at in moments if at)
    return f"| time (UTC) | what |\n|---|---|\n{rows}"


def _facts(record: RollbackRecord) -> str:
    facts = [
        ("brought by commit", record.bad_commit),
        ("taken back by commit", record.commit),
        ("by pull request", record.pull_request),
        ("rollback", record.id),
        ("special", record.note),
    ]
    return "\n".join(f"- {what}: {value}" for what, value in facts if value)


def _next(record: RollbackRecord) -> str:
    if record.inconclusive:
        return "The deadline passed without enough evidence, so the version is not rejected and may be tried again."
    return (
        f"Version {record.from_version} is rejected here. Commit a better one; to try the same again, lift the "
        "rejection by `backstay retry`."
    )
