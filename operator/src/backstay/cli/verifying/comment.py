"""The model diff as a comment on a pull request."""

from collections.abc import Iterator

from backstay.adapters.gitops.version_file import VersionFile
from backstay.adapters.messages.change import evaluation_table
from backstay.adapters.messages.markdown import code, inert, table
from backstay.adapters.registry.versions import RegisteredVersion
from backstay.cli.verifying.environments import Checked
from backstay.cli.verifying.findings import Finding, notes, to_mend
from backstay.domain.resource import IDENTITY_FIELDS

MARKER = "backstay verify"
_HEAD = "## What this changes for models"
_MOST_LISTED = 20


def comment(parts: list[str], findings: list[Finding]) -> str:
    """Put the differences together, with what is to be mended on top."""
    wrong, known = to_mend(findings), notes(findings)
    verdict = "**To mend first:**\n\n" + _list(wrong) if wrong else "Nothing to mend."
    told = ["**To know:**\n\n" + _list(known)] if known else []
    return "\n\n".join([_HEAD, verdict, *told, *(parts or ["No environment's version changes."])]) + "\n"


def _list(findings: list[Finding]) -> str:
    lines = [f"- {code(one.file, 200)}: {inert(one.sentence, 600)}" for one in findings[:_MOST_LISTED]]
    left = len(findings) - _MOST_LISTED
    return "\n".join([*lines, *([f"- and {left} more"] if left > 0 else [])])


def difference(
    one: Checked,
    before: VersionFile | None,
    running: RegisteredVersion | None,
    new: RegisteredVersion | None,
) -> str:
    """Describe one environment's change: what identifies the versions, and how they were evaluated."""
    rows = list(_rows(one.declared, before))
    title = f"### {inert(one.environment.application)} in {inert(one.environment.name)}"
    parts = [title, table(("", "before", "after"), rows)]
    if new is not None or running is not None:
        parts.append(evaluation_table(running, new))
    return "\n\n".join(parts)


def _rows(after: VersionFile | None, before: VersionFile | None) -> Iterator[tuple[str, str, str]]:
    for ours, theirs in IDENTITY_FIELDS.items():
        old = getattr(before.identity, ours) if before else ""
        new = getattr(after.identity, ours) if after else ""
        if old or new:
            yield code(theirs, 80), _cell(old), _cell(new)


def _cell(value: str) -> str:
    return code(value, 100) if value else "-"
