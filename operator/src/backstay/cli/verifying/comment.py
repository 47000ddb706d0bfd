"""The model diff as a comment on a pull request."""

from collections.abc import Iterator

from backstay.adapters.changetext import evaluation_table
from backstay.adapters.modelversion import RegisteredVersion
from backstay.adapters.plaintext import code, inert, table
from backstay.adapters.versionfile import VersionFile
from backstay.cli.verifying.environments import Checked
from backstay.cli.verifying.findings import Finding
from backstay.domain.resource import IDENTITY_FIELDS

_HEAD = "<!-- backstay verify -->\n## What this changes for models"


def comment(parts: list[str], findings: list[Finding]) -> str:
    """Put the differences together, with what is to be mended on top."""
    listed = [f"- {code(one.file, 200)}: {inert(one.sentence, 600)}" for one in findings]
    verdict = "\n".join(["**To mend first:**", "", *listed]) if listed else "Nothing to mend."
    return "\n\n".join([_HEAD, verdict, *(parts or ["No environment's version changes."])]) + "\n"


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
