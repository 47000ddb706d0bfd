"""How the record of a rollback is worded, for the issue that people discuss it in."""

from backstay.adapters.forge import Report
from backstay.adapters.messages.markdown import address, code, inert, table
from backstay.adapters.messages.plain import title
from backstay.adapters.messages.rollback_proposal import evidence_table
from backstay.domain.resource import ModelDeployment
from backstay.domain.status import RollbackRecord
from backstay.domain.units import timestamp

LABELS = ("backstay", "incident")
_LONGEST_TITLE = 200
_LONGEST_TEXT = 1000


def incident_of(desired: ModelDeployment, record: RollbackRecord, *, environment: str, started_at: float) -> Report:
    """Word the issue of one rollback.

    Args:
        desired: the resource.
        record: its rollback, done.
        environment: what people call the folder, such as ``production``.
        started_at: when the failed version's rollout began, in Unix seconds; 0 where that is not known.
    """
    bad, good = inert(record.from_version, 64), inert(record.to_version, 64)
    headline = f"Version {record.from_version} of {desired.key.name} failed in {environment}: {record.reason}"
    sections = [
        (
            f"Version {bad} of {code(desired.plan.model.name)} was taken back from {inert(environment)} "
            f"({code(str(desired.key))}): {inert(record.reason, _LONGEST_TEXT)}. Version {good} serves again."
        ),
        evidence_table(record.evidence),
        _timeline(record, started_at),
        _facts(record),
        _next(record),
    ]
    return Report(
        marker=f"backstay-incident: {record.id}",
        title=title(headline, _LONGEST_TITLE),
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
    return table(("time (UTC)", "what"), [(timestamp(at), what) for what, at in moments if at])


def _facts(record: RollbackRecord) -> str:
    facts = [
        ("brought by commit", inert(record.bad_commit)),
        ("taken back by commit", inert(record.commit)),
        ("by pull request", address(record.pull_request)),
        ("rollback", inert(record.id)),
        ("special", inert(record.note, _LONGEST_TEXT)),
    ]
    return "\n".join(f"- {what}: {value}" for what, value in facts if value)


def _next(record: RollbackRecord) -> str:
    if record.inconclusive:
        return "The deadline passed without enough evidence, so the version is not rejected and may be tried again."
    return (
        f"Version {inert(record.from_version, 64)} is rejected here. Commit a better one; to try the same again, lift "
        "the rejection by `backstay retry`."
    )
