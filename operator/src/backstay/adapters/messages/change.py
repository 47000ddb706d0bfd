"""How a change of a version is worded: the commit's message, and title and body of its pull request.

Text from outside (what the registry says, people's reasons) goes through `plain` or `markdown` on its way in.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from backstay.adapters.messages.markdown import code, inert, link, remark, table
from backstay.adapters.messages.plain import one_line, paragraph, title, trailers, without_trailers
from backstay.adapters.messages.rollback_commit import ID_TRAILER
from backstay.adapters.registry.versions import READY, RegisteredVersion
from backstay.domain.resource import ModelIdentity
from backstay_contract.tags import APPROVED, APPROVED_AT, APPROVER

_MOST_ROWS = 40
_TRUE = frozenset({"true", "yes", "1"})


class ChangeKind(StrEnum):
    """What a person or a pipeline asks for."""

    BUMP = "bump"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class VersionChange:
    """One change of what an environment declares.

    Args:
        kind: bump, promote, rollback or retry.
        application: what people call the model, the ModelDeployment's name.
        environment: what people call the overlay, such as ``production``.
        before: what the version file declares now.
        after: what it shall declare.
        source: the environment that a promotion comes from; empty otherwise.
        reason: why, in a person's words; may be empty.
        rollback_id: what names a rejection: of a rollback that rejects, or the one that a retry lifts.
        resource: ``namespace/name`` of the ModelDeployment, for machines; may be empty.
    """

    kind: ChangeKind
    application: str
    environment: str
    before: ModelIdentity
    after: ModelIdentity
    source: str = ""
    reason: str = ""
    rollback_id: str = ""
    resource: str = ""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What is known of both versions; ``None`` for one that the registry does not have (any more).

    ``gathered`` are sentences about how the version did where it ran before, ``unsaid`` one that says why there are
    none; ``proven`` tells whether it is stable there.
    """

    new: RegisteredVersion | None
    running: RegisteredVersion | None
    digest_checked: bool = False
    gathered: tuple[str, ...] = ()
    unsaid: str = ""
    proven: bool = False


def change_title(change: VersionChange) -> str:
    """Word a commit's subject, which is the pull request's title too."""
    versions = f"{_label(change.before, change.after)} -> {_label(change.after, change.before)}"
    more = f", from {change.source}" if change.source else ""
    more += f", {change.reason}" if change.kind is ChangeKind.ROLLBACK and change.reason else ""
    return title(without_trailers(f"{change.kind}({change.application}): {change.environment} {versions}{more}"))


def change_message(change: VersionChange) -> str:
    """Word a commit's message, with trailers for machines."""
    sentences = [_what(change)]
    if change.reason:
        sentences.append(f"Reason: {one_line(change.reason, 600).rstrip('.')}.")
    if change.kind is ChangeKind.ROLLBACK and change.rollback_id:
        sentences.append(
            f"Version {change.before.version} is now among the rejected versions, so that no automation applies it "
            "again; backstay retry lifts that."
        )
    named = [
        ("Backstay-Change", str(change.kind)),
        ("Backstay-Resource", change.resource),
        ("Backstay-From", _label(change.before, change.after)),
        ("Backstay-To", _label(change.after, change.before)),
        ("Backstay-Promoted-From", change.source),
        ("Backstay-Retry-Of" if change.kind is ChangeKind.RETRY else ID_TRAILER, change.rollback_id),
    ]
    return "\n\n".join([change_title(change), paragraph(" ".join(sentences)), trailers(named)])


def change_body(change: VersionChange, known: Evaluated) -> str:
    """Word a pull request's body in Markdown: what changes, a checklist, the evaluation, what was seen before."""
    parts = [
        _what_markdown(change),
        _identities(change, known),
        f"### Checklist\n\n{_checklist(change, known)}",
        f"### Evaluation\n\n{evaluation_table(known.running, known.new)}",
    ]
    if change.source:
        said = known.gathered or (known.unsaid,)
        lines = "\n".join(f"- {remark(sentence, 600)}" for sentence in said if sentence)
        parts.append(f"### What {inert(change.source)} showed\n\n{lines}" if lines else "")
    if known.new is not None and known.new.description:
        parts.append(f"### Description\n\n> {remark(known.new.description)}")
    parts.append(
        "After the merge Argo CD applies this file, and Backstay takes the version through the environment's steps. A "
        "version that does harm loses its traffic and is taken out of Git again."
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def change_labels(change: VersionChange) -> tuple[str, ...]:
    """Name the labels of a pull request."""
    return ("backstay", str(change.kind), one_line(change.environment, 50))


def evaluation_table(before: RegisteredVersion | None, after: RegisteredVersion | None) -> str:
    """Write both versions' metrics and ``eval.*`` tags side by side, with the difference where both are numbers."""
    rows = list(evaluation_rows(before, after))
    if not rows:
        return "The registry has no metrics and no `eval.*` tags of these versions."
    written = table(
        ("metric", _heading("running", before), _heading("new", after), "difference"),
        [(code(row.name, 80), *(inert(cell, 80) for cell in row.cells)) for row in rows[:_MOST_ROWS]],
        right=(1, 2, 3),
    )
    left = len(rows) - _MOST_ROWS
    return f"{written}\n\nand {left} more in the registry" if left > 0 else written


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One metric of two versions as texts, absent ones empty; ``difference`` is of numbers only."""

    name: str
    before: str
    after: str
    difference: str

    @property
    def cells(self) -> tuple[str, str, str]:
        """The cells beside the name."""
        return self.before or "-", self.after or "-", self.difference


def evaluation_rows(before: RegisteredVersion | None, after: RegisteredVersion | None) -> Iterator[EvaluationRow]:
    """Go through the metrics and evaluation tags of two versions, by name."""
    one, other = _evaluation(before), _evaluation(after)
    for name in sorted(one | other):
        first, second = one.get(name), other.get(name)
        difference = ""
        if isinstance(first, float) and isinstance(second, float) and math.isfinite(second - first):
            difference = f"{second - first:+.4g}" if second != first else "0"
        yield EvaluationRow(name, _value(first), _value(second), difference)


def _evaluation(version: RegisteredVersion | None) -> dict[str, float | str]:
    if version is None:
        return {}
    tags = {name: _number(text) for name, text in version.evaluation.items()}
    return {**tags, **version.metrics}


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _value(value: float | str | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value


def _heading(word: str, version: RegisteredVersion | None) -> str:
    return f"{word} ({inert(version.identity.version, 64)})" if version else word


def _label(identity: ModelIdentity, other: ModelIdentity) -> str:
    """Name a version, with the beginning of its digest where the number alone does not tell the two apart."""
    if identity.version != other.version or identity.digest == other.digest:
        return one_line(identity.version, 64)
    return f"{one_line(identity.version, 64)} ({identity.digest.removeprefix('sha256:')[:12] or 'no digest'})"


def _what(change: VersionChange) -> str:
    old, new = _label(change.before, change.after), _label(change.after, change.before)
    match change.kind:
        case ChangeKind.BUMP:
            return f"{change.environment} declares version {new} of {change.after.name} instead of {old}."
        case ChangeKind.PROMOTE:
            return f"{change.environment} declares version {new} of {change.after.name}, as {change.source} does."
        case ChangeKind.ROLLBACK:
            return f"{change.environment} goes back from version {old} of {change.after.name} to {new}."
        case ChangeKind.RETRY:
            return f"{change.environment} tries version {new} of {change.after.name} again, which was rejected here."


def _what_markdown(change: VersionChange) -> str:
    reason = f" Reason: {inert(change.reason, 600)}." if change.reason else ""
    return f"**{str(change.kind).title()}**: {inert(_what(change), 600)}{reason}"


def _identities(change: VersionChange, known: Evaluated) -> str:
    before, after = change.before, change.after
    rows = [
        ("version", _linked(before.version, known.running), _linked(after.version, known.new)),
        ("digest", _fact(before.digest), _fact(after.digest)),
        ("code commit", _fact(before.code_commit), _fact(after.code_commit)),
        ("training data", _fact(before.data_checksum), _fact(after.data_checksum)),
        ("training run", _run(before, known.running), _run(after, known.new)),
        ("feature schema", _fact(before.feature_schema_version), _fact(after.feature_schema_version)),
    ]
    kept = [row for row in rows if row[1:] != ("-", "-")]
    return table(("", "running", "new"), kept)


def _fact(value: str) -> str:
    return code(value) if value else "-"


def _linked(version: str, known: RegisteredVersion | None) -> str:
    return link(version, known.url) if known else _fact(version)


def _run(identity: ModelIdentity, known: RegisteredVersion | None) -> str:
    address = known.run_url if known else ""
    return link(identity.run_id, address) if address else _fact(identity.run_id)


def _checklist(change: VersionChange, known: Evaluated) -> str:
    new, after = known.new, change.after
    items: list[tuple[bool, str]] = []
    if new is None:
        items.append((False, f"The registry has version {inert(after.version)} ready: it could not be asked"))
    else:
        page = link(f"version {after.version}", new.url)
        items.append((new.status == READY, f"The registry has {page} ready"))
        items.append(_approval(new.tags))
    if change.source:
        items.append((known.proven, f"Seen to be stable in {inert(change.source)}"))
    items.append((change.kind is not ChangeKind.RETRY, f"Not rejected in {inert(change.environment)}"))
    if not after.digest:
        items.append((False, "The artifacts are pinned by a digest: there is none, so that the pods check nothing"))
    else:
        done = "computed from them just now" if known.digest_checked else "taken as the registry or Git tells it"
        items.append((True, f"The artifacts are pinned by a digest, {done}"))
    pinned = bool(after.code_commit and after.data_checksum)
    items.append((pinned, "Code commit and checksum of the training data are known"))
    same = change.before.feature_schema_version == after.feature_schema_version
    callers = "The feature schema stays as it is" if same else "Callers send what the new feature schema asks for"
    items.append((same, callers))
    if change.kind is not ChangeKind.ROLLBACK:
        items.append((False, "The evaluation below is good enough"))
        items.append((False, "Somebody is there to watch the rollout"))
    return "\n".join(f"- [{'x' if done else ' '}] {text}" for done, text in items)


def _approval(tags: Mapping[str, str]) -> tuple[bool, str]:
    approved = tags.get(APPROVED, "").strip().lower() in _TRUE
    if not approved:
        return False, f"Approved in the registry (tag `{APPROVED}`)"
    by = f" by {inert(tags[APPROVER], 80)}" if tags.get(APPROVER) else ""
    at = f", {inert(tags[APPROVED_AT], 40)}" if tags.get(APPROVED_AT) else ""
    return True, f"Approved in the registry{by}{at}"
