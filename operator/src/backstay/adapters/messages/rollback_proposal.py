"""How the pull request of a rollback is worded."""

import re

from backstay.adapters.forge import Proposal
from backstay.adapters.messages.markdown import inert, remark, table
from backstay.adapters.messages.rollback_commit import (
    RollbackRequest,
    rollback_subject,
    rollback_text,
    rollback_trailers,
)

LABELS = ("backstay", "rollback")

_FIELD = re.compile(r"(\w+)=(.*?)(?= \w+=|$)")
_COLUMNS = ("signal", "verdict", "value", "baseline", "requests", "E", "limit")


def branch_of(request_id: str) -> str:
    """Name the branch of a rollback's pull request: the same at each request, so that there is never a second one."""
    return f"backstay/rollback-{request_id}"


def proposal_of(request: RollbackRequest, *, base: str) -> Proposal:
    """Word the pull request: the commit's message, with the evidence as a table and what merging it does."""
    parts = [
        remark(rollback_text(request), 1200),
        evidence_table(request.evidence),
        (
            f"No request reaches version {inert(request.bad.version, 64)} any more, whether this is merged or not. "
            "Until it is, Git declares a version that does not run, and Argo CD goes on applying it in vain."
        ),
        f"```text\n{rollback_trailers(request)}\n```",
    ]
    return Proposal(
        branch=branch_of(request.rollback_id),
        base=base,
        title=rollback_subject(request),
        body="\n\n".join(part for part in parts if part),
        labels=LABELS,
    )


def evidence_table(evidence: tuple[str, ...]) -> str:
    """Put the lines of a verdict into a Markdown table; empty without any."""
    rows = [dict(_FIELD.findall(line)) for line in evidence]
    columns = [column for column in _COLUMNS if any(row.get(column) for row in rows)]
    if not columns:
        return ""
    return table(columns, [[inert(row.get(column, "")) for column in columns] for row in rows])
