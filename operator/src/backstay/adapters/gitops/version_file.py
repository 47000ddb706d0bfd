"""The version file: which version of a model an overlay declares, and how to put an earlier one back.

It is the one YAML document of kind ModelDeployment that sets ``spec.model``, usually a Kustomize patch in a file of its
own. Restoring changes the fields of ``spec.model`` that identify the version, and no byte besides.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import yaml

from backstay.adapters.yaml_text.edit import (
    LARGEST_FILE,
    MERGE,
    NULL,
    STRING,
    Meaning,
    Splice,
    YamlEditError,
    YamlText,
    splice,
)
from backstay.domain.resource import IDENTITY_FIELDS, KIND, ModelIdentity, Rejection

MOST_REJECTIONS = 50
_RETRY = "retryOf"


@dataclass(frozen=True, slots=True)
class VersionFile:
    """What a version file declares."""

    identity: ModelIdentity
    rejected: tuple[Rejection, ...]
    retry_of: str


class VersionFileError(Exception):
    """The version file cannot be read or edited; the message is a sentence that names the file and the remedy."""


def read_version_file(text: bytes, *, name: str, file: str = "the version file") -> VersionFile:
    """Read what a version file declares for the ModelDeployment ``name``; ``file`` names it in errors.

    Raises:
        VersionFileError: it is no YAML, holds no such ModelDeployment or several, or sets no version.
    """
    try:
        declared = _Declared(_decode(text), name)
        return VersionFile(
            identity=ModelIdentity(**{ours: declared.text_of(field) for ours, field in IDENTITY_FIELDS.items()}),
            rejected=declared.rejections(),
            retry_of=declared.text_of(_RETRY),
        )
    except YamlEditError as error:
        raise VersionFileError(f"{file} {error}") from None


def restore(  # noqa: PLR0913 - the parts of one edit, by keyword
    text: bytes,
    *,
    name: str,
    identity: ModelIdentity,
    reject: Rejection | None,
    drop_retry: bool,
    file: str = "the version file",
) -> bytes:
    """Return the file with ``identity`` in ``spec.model`` and ``reject`` among its rejected versions.

    No byte outside these values changes. An identity field that is the empty string is removed. ``drop_retry`` removes
    ``retryOf``, which lifts a rejection. Restoring what is already there changes nothing. A bump to a new version is
    the same edit, with nothing to reject.

    Raises:
        VersionFileError: the file cannot be read (see `read_version_file`), or the edit would change something besides
            these fields, such as another user of an anchor.
    """
    wanted = {field: getattr(identity, ours) for ours, field in IDENTITY_FIELDS.items()}
    if drop_retry:
        wanted[_RETRY] = ""
    return _edited(text, name, lambda _: wanted, entry=_entry(reject) if reject else {}, file=file)


def retry(text: bytes, *, name: str, rollback_id: str, file: str = "the version file") -> bytes:
    """Return the file with ``retryOf`` set to the rollback whose rejection it lifts, and every other byte as it was.

    Raises:
        VersionFileError: the file cannot be read, no rollback is named, or the edit would change something besides.
    """
    if not rollback_id:
        raise VersionFileError(f"{file} needs the id of a rollback in spec.model.retryOf; give the one to lift")

    def wanted(declared: "_Declared") -> dict[str, str]:
        said = {field: declared.text_of(field) for field in IDENTITY_FIELDS.values()}
        return {field: value for field, value in said.items() if value} | {_RETRY: rollback_id}

    return _edited(text, name, wanted, entry={}, file=file)


def _edited(
    text: bytes, name: str, want: Callable[["_Declared"], Mapping[str, str]], *, entry: Mapping[str, str], file: str
) -> bytes:
    """Set the wanted fields of ``spec.model`` (the empty string removes one), and add an entry to the rejections."""
    try:
        declared = _Declared(_decode(text), name)
        wanted = want(declared)
        _refuse_unwritable({**wanted, **{f"rejectedVersions.{key}": value for key, value in entry.items()}})
        if entry and entry in [_entry(known) for known in declared.rejections()]:
            entry = {}
        after = splice(declared.yaml.text, declared.edits(wanted, entry))
        _refuse_side_effects(declared, after, declared.intended(wanted, entry), wanted)
    except YamlEditError as error:
        raise VersionFileError(f"{file} {error}") from None
    return after.encode()


def _entry(rejection: Rejection) -> dict[str, str]:
    """Write a rejection as the file holds it; without a digest it bars the version whatever its digest."""
    written = {"version": rejection.version, "digest": rejection.digest, "rollbackID": rejection.rollback_id}
    return {name: value for name, value in written.items() if value}


class _Declared:
    """The ModelDeployment of a version file and the place of its ``spec.model``."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.yaml = YamlText(text)
        self.said = self.yaml.meaning()
        found = [number for number, node in enumerate(self.yaml.documents) if _is_deployment(node, name)]
        if len(found) != 1:
            many = "no" if not found else "more than one"
            raise YamlEditError(
                f"holds {many} {KIND} named {name}; keep exactly one document with that kind and metadata.name"
            )
        self.number = found[0]
        node = _child(_child(self.yaml.documents[self.number], "spec"), "model")
        if not isinstance(node, yaml.MappingNode) or not _text(_child(node, "version")):
            raise YamlEditError(f"sets no spec.model.version for {KIND} {name}; declare the version there")
        self.model = node

    def text_of(self, field: str) -> str:
        """Return a field of ``spec.model`` as written, merge keys included; the empty string where it is absent."""
        return _text(_child(self.model, field))

    def rejections(self) -> tuple[Rejection, ...]:
        """Return the entries of ``rejectedVersions``, oldest first."""
        entries = _child(self.model, "rejectedVersions")
        if entries is None or entries.tag == NULL:
            return ()
        if not isinstance(entries, yaml.SequenceNode):
            raise YamlEditError("has a spec.model.rejectedVersions that is no list; write a list there")
        for entry in entries.value:
            if not _text(_child(entry, "version")):
                line = entry.start_mark.line + 1
                raise YamlEditError(
                    f"has a rejected version without a version in line {line}; name it or remove the entry"
                )
        return tuple(
            Rejection(*(_text(_child(entry, key)) for key in ("version", "digest", "rollbackID")))
            for entry in entries.value
        )

    def edits(self, wanted: Mapping[str, str], entry: Mapping[str, str]) -> list[Splice]:
        """Return the splices that set the wanted fields (removing empty ones) and add the rejected entry, if any."""
        members = self.yaml.members(self.model)
        own = {_text(member.key): number for number, member in enumerate(members)}
        gone = {own[field] for field, value in wanted.items() if not value and field in own}
        last = max((own[field] for field in wanted if field in own and own[field] not in gone), default=-1)
        if last < 0:
            raise YamlEditError("takes the fields of spec.model from a merge key; write them out")
        changed = {field: value for field, value in wanted.items() if value and value != self.text_of(field)}
        splices = [self.yaml.replace(members[own[field]], value) for field, value in changed.items() if field in own]
        new = {field: value for field, value in changed.items() if field not in own}
        splices += self.yaml.insert_fields(self.model, last, new)
        splices += self.yaml.drop(self.model, gone)
        if not entry:
            return splices
        if "rejectedVersions" not in own:
            return [*splices, *self.yaml.insert_list(self.model, last, "rejectedVersions", entry)]
        listed = members[own["rejectedVersions"]]
        surplus = len(self.rejections()) + 1 - MOST_REJECTIONS
        if surplus > 0 and isinstance(listed.value, yaml.SequenceNode):
            splices += self.yaml.drop(listed.value, range(surplus))
        return [*splices, *self.yaml.append(self.model, listed, entry)]

    def intended(self, wanted: Mapping[str, str], entry: Mapping[str, str]) -> list[Meaning]:
        """Return what the whole file must mean after the edit."""
        said = self.yaml.meaning()
        model = said[self.number]
        for step in ("spec", "model"):
            model = model.get((STRING, step)) if isinstance(model, dict) else None
        if not isinstance(model, dict):
            raise YamlEditError("takes spec.model from a merge key; write its fields out")
        for field, value in wanted.items():
            if not value:
                model.pop((STRING, field), None)
            elif value != self.text_of(field):
                model[STRING, field] = (STRING, value)
        if entry:
            before = model.get((STRING, "rejectedVersions"))
            added: Meaning = {(STRING, key): (STRING, value) for key, value in entry.items()}
            kept = before if isinstance(before, list) else []
            model[STRING, "rejectedVersions"] = [*kept, added][-MOST_REJECTIONS:]
        return said


def _refuse_unwritable(wanted: Mapping[str, str]) -> None:
    if not wanted["version"]:
        raise YamlEditError("must declare a version; name the one to restore")
    for field, value in wanted.items():
        if not value.isprintable():
            raise YamlEditError(f"cannot take a control character in spec.model.{field}; give {value!r} without it")


def _refuse_side_effects(declared: _Declared, after: str, intended: list[Meaning], wanted: Mapping[str, str]) -> None:
    """Refuse an edit after which the file does not mean exactly what was intended."""
    try:
        result = _Declared(after, declared.name)
        if result.said == intended and all(result.text_of(field) == value for field, value in wanted.items()):
            return
    except YamlEditError:
        pass
    if declared.yaml.shares:
        raise YamlEditError(
            "shares values through an anchor or merge key, and restoring the version would change another user of it; "
            f"write the fields of spec.model of {declared.name} out without anchors"
        )
    raise YamlEditError(
        "is laid out in a way that cannot be edited safely; write spec.model with one plain field a line"
    )


def _decode(text: bytes) -> str:
    if len(text) > LARGEST_FILE:
        raise YamlEditError(f"has {len(text)} bytes; a version file has at most {LARGEST_FILE}")
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise YamlEditError("is not UTF-8 text; save it as UTF-8") from None


def _is_deployment(node: yaml.Node | None, name: str) -> bool:
    return _text(_child(node, "kind")) == KIND and _text(_child(_child(node, "metadata"), "name")) == name


def _child(node: yaml.Node | None, key: str) -> yaml.Node | None:
    """Return the value of a key of a mapping; its own entries come before what a merge key brings."""
    if not isinstance(node, yaml.MappingNode):
        return None
    for name, value in node.value:
        if name.tag == STRING and name.value == key:
            child: yaml.Node = value
            return child
    for name, value in node.value:
        if name.tag == MERGE:
            sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
            found = [child for child in (_child(source, key) for source in sources) if child is not None]
            if found:
                return found[0]
    return None


def _text(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) and node.tag != NULL else ""
