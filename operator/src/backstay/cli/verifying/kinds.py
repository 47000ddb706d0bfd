"""What a change of its kind may touch: one that moves a version moves one environment's, and nothing besides."""

from collections.abc import Iterable, Iterator

from backstay.adapters.gitops.locate import USUAL_NAME
from backstay.adapters.gitops.version_file import MOST_REJECTIONS, VersionFile
from backstay.adapters.messages.rollback_commit import ID_TRAILER
from backstay.adapters.policy.admission import Policy
from backstay.adapters.shipped import PROMOTION_POLICY
from backstay.adapters.yaml_text.plain import PlainYamlError, documents
from backstay.cli.verifying.change import Change
from backstay.cli.verifying.environments import APPLICATIONS, Checked, Environment
from backstay.cli.verifying.findings import Finding, Weight
from backstay.cli.verifying.kustomizations import kustomization
from backstay.cli.verifying.places import place_of

_MOST_NAMED = 3


def findings(change: Change, checked: Iterable[Checked], policy: Policy) -> Iterator[Finding]:
    """Find what one change must not do, or must not do at once; and name what else it does, for people."""
    every = list(checked)
    moved = [one for one in every if one.environment.version_file in change.files]
    existing = [one for one in moved if change.before(one.environment.version_file) is not None]
    if existing:
        yield from _beside(change, existing, policy)
        yield from _elsewhere(change)
    for one in existing:
        before = change.declared_before(one)
        if before is not None and one.declared is not None:
            yield from _identities(change, one.environment, before, one.declared)
            yield from _rejections(change, one.environment, before, one.declared)
    for one in every:
        yield from _namespace(change, one)
    yield from _removed(change, every)


def _beside(change: Change, moved: list[Checked], policy: Policy) -> Iterator[Finding]:
    """Refuse whatever else would reach a cluster, or change by what the version is judged, in the same change."""
    files = {one.environment.version_file for one in moved}
    if len(moved) > 1 and policy.one_environment_at_a_time:
        sentence = (
            f"the change moves the versions of several environments at once ({', '.join(sorted(files))}); give each a "
            "change of its own"
        )
        yield Finding(sorted(files)[1], 0, sentence)
    read = {file.relative_to(change.root).as_posix() for one in moved for file in one.files}
    first = min(files)
    others = sorted(path for path in change.files - files if path.startswith(f"{APPLICATIONS}/") or path in read)
    if others:
        yield Finding(
            first, 0, f"the change moves the version and touches {_named(others)} as well; change the version alone"
        )
    rules = sorted(path for path in change.files if path.startswith(f"{PROMOTION_POLICY}/"))
    if rules:
        sentence = f"the change moves the version and {_named(rules)}, by which it is checked; change that first"
        yield Finding(first, 0, sentence)


def _elsewhere(change: Change) -> Iterator[Finding]:
    inside = (f"{APPLICATIONS}/", f"{PROMOTION_POLICY}/")
    outside = sorted(path for path in change.files if not path.startswith(inside))
    if outside:
        sentence = f"beside the version the change touches {_named(outside)}, which is a change of another kind"
        yield Finding(outside[0], 0, sentence, Weight.NOTE)


def _identities(change: Change, environment: Environment, before: VersionFile, after: VersionFile) -> Iterator[Finding]:
    old, new = before.identity, after.identity
    moves = old.version != new.version
    complaint, field = "", "version"
    if old.name != new.name:
        field = "name"
        complaint = f"spec.model.name becomes {new.name}, not {old.name}; a new model is a new application"
    elif moves and old.digest and old.digest == new.digest:
        field = "digest"
        complaint = f"version {new.version} has the digest of version {old.version}; use backstay bump, which fills it"
    elif not moves and old.digest and new.digest and old.digest != new.digest:
        field = "digest"
        complaint = f"version {new.version} gets another digest; a version is for ever, so register a new one"
    elif not moves and old.digest and not new.digest:
        complaint = f"version {new.version} loses its digest, and could be any model; restore spec.model.digest"
    elif moves and old.promoted_at and old.promoted_at == new.promoted_at:
        field = "promotedAt"
        complaint = f"promotedAt is still that of version {old.version}; use backstay bump, or write when this one came"
    elif not moves and (_rewritten(old.promoted_by, new.promoted_by) or _rewritten(old.promoted_at, new.promoted_at)):
        field = "promotedBy" if _rewritten(old.promoted_by, new.promoted_by) else "promotedAt"
        complaint = f"{field} changes and the version does not; restore it, for it says who brought this version"
    if complaint:
        yield _at(change, environment, f"spec.model.{field}", complaint)


def _rewritten(old: str, new: str) -> bool:
    return bool(old) and old != new


def _rejections(change: Change, environment: Environment, before: VersionFile, after: VersionFile) -> Iterator[Finding]:
    gone = [entry for entry in before.rejected if entry not in after.rejected]
    # A list that is full makes room for a new entry by its oldest ones.
    if len(after.rejected) == MOST_REJECTIONS and before.rejected[: len(gone)] == tuple(gone):
        gone = []
    for entry in gone:
        if not entry.rollback_id or after.retry_of != entry.rollback_id:
            remedy = f"backstay retry {environment.application} --environment {environment.name}"
            sentence = f"version {entry.version} is no longer rejected; leave the entry, or lift it by {remedy}"
            yield _at(change, environment, "spec.model.rejectedVersions", sentence)
    if not after.retry_of:
        return
    named = [entry for entry in (*before.rejected, *after.rejected) if entry.rollback_id == after.retry_of]
    if named and all(entry.version != after.identity.version for entry in named):
        sentence = (
            f"retryOf lifts the rejection of version {named[0].version}, and the file declares version "
            f"{after.identity.version}; remove spec.model.retryOf"
        )
        yield _at(change, environment, "spec.model.retryOf", sentence)
    elif not named and after.retry_of != before.retry_of and not change.has_trailer(f"{ID_TRAILER}: {after.retry_of}"):
        sentence = (
            f"retryOf names rollback {after.retry_of}, which neither rejectedVersions nor the history knows; it lifts "
            "nothing unless the cluster does"
        )
        found = _at(change, environment, "spec.model.retryOf", sentence)
        yield Finding(found.file, found.line, sentence, Weight.NOTE)


def _namespace(change: Change, one: Checked) -> Iterator[Finding]:
    """Refuse to move an environment: the old object would be deleted, and the new one has proved nothing."""
    file = next((path for path in one.files if path.name == "kustomization.yaml"), None)
    where = file.relative_to(change.root).as_posix() if file is not None else ""
    if file is None or where not in change.files or one.body is None:
        return
    content = change.before(where)
    try:
        said = documents(content or b"")
    except PlainYamlError:
        return
    was = said[0].value.get("namespace") if said and isinstance(said[0].value, dict) else None
    now = kustomization(change.root, file).get("namespace")
    if was and now and was != now:
        yield Finding(
            where,
            0,
            f"the environment moves from namespace {was} to {now}, where it starts without what it has proved; add "
            "a new environment instead, and remove this one later",
        )


def _removed(change: Change, checked: list[Checked]) -> Iterator[Finding]:
    """Name environments that are taken away, for Argo CD deletes what they serve."""
    there = {one.environment.version_file for one in checked}
    for path in sorted(change.files):
        parts = path.split("/")
        is_one = len(parts) == 5 and parts[0] == APPLICATIONS and parts[2] == "overlays" and parts[4] == USUAL_NAME  # noqa: PLR2004 - applications/x/overlays/y/file
        if is_one and path not in there and not (change.root / path).exists():
            sentence = f"{parts[1]} is no longer served in {parts[3]}: Argo CD deletes what is there"
            yield Finding(path, 0, sentence, Weight.NOTE)


def _at(change: Change, environment: Environment, field: str, sentence: str) -> Finding:
    file, line = place_of(change.root, [(change.root / environment.version_file).resolve()], field)
    return Finding(file, line, sentence)


def _named(paths: list[str]) -> str:
    more = len(paths) - _MOST_NAMED
    return ", ".join(paths[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
