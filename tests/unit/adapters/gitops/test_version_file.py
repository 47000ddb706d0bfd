import json
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from backstay.adapters.gitops.version_file import VersionFileError, read_version_file, restore, retry
from backstay.domain.resource import IDENTITY_FIELDS, ModelIdentity, Rejection

GOOD = ModelIdentity(name="fraud-detector", version="6", digest="sha256:66")
BAD = Rejection("7", "sha256:77", "b" * 8)

BLOCK = """\
# Which version production runs.
apiVersion: backstay.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: fraud-detector
spec:
  model: # patched here and nowhere else
    name: fraud-detector
    # two lines
    # of comment
    version: "7" # keep the quotes
    digest: 'sha256:77'
    runID: run-7   # goes away
    promotedBy: Jo Doe
"""


def edited(
    text: str | bytes, *, identity: ModelIdentity = GOOD, reject: Rejection | None = None, drop: bool = True
) -> str:
    raw = text.encode() if isinstance(text, str) else text
    return restore(
        raw, name="fraud-detector", identity=identity, reject=reject, drop_retry=drop, file="a.yaml"
    ).decode()


def test_changes_values_and_removes_lines_and_nothing_else() -> None:
    assert edited(BLOCK) == BLOCK.replace('"7"', '"6"').replace("sha256:77", "sha256:66").replace(
        "    runID: run-7   # goes away\n", ""
    ).replace("    promotedBy: Jo Doe\n", "")


def test_new_fields_follow_the_last_one_in_its_indentation_and_quoted_where_yaml_would_misread_them() -> None:
    identity = replace(GOOD, run_id="12e45", code_commit="0x1f", feature_schema_version="3", promoted_by="yes")
    text = edited(BLOCK, identity=identity)
    assert text.endswith(
        '    digest: \'sha256:66\'\n    runID: "12e45"   # goes away\n    promotedBy: "yes"\n'
        '    codeCommit: "0x1f"\n    featureSchemaVersion: "3"\n'
    )


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('version: "7"', 'version: "6"'),
        ("version: '7'", "version: '6'"),
        ("version: 7", 'version: "6"'),
        ("version: >-\n      7", 'version: "6"'),
        ('version: "\\x37"', 'version: "6"'),
        ("version: !!str 7", 'version: !!str "6"'),
        ("version: &version 7", 'version: &version "6"'),
        ("? version\n    : '7'", "? version\n    : '6'"),
    ],
)
def test_the_kind_of_quotes_is_kept_when_it_reads_as_a_string(written: str, expected: str) -> None:
    text = BLOCK.replace('version: "7"', written)
    assert expected in edited(text, reject=None, identity=replace(GOOD, run_id="run-7", promoted_by="Jo Doe"))


def test_rejections_are_listed_below_the_fields() -> None:
    assert edited(BLOCK, reject=BAD).endswith(
        "    digest: 'sha256:66'\n"
        "    rejectedVersions:\n"
        '      - version: "7"\n        digest: sha256:77\n        rollbackID: bbbbbbbb\n'
    )


@pytest.mark.parametrize("empty", [" []", "", " ~", " null", " [ ]", " &list []"])
def test_an_empty_list_of_rejections_keeps_its_comment(empty: str) -> None:
    text = BLOCK + f"    rejectedVersions:{empty} # none yet\n"
    after = edited(text, reject=replace(BAD, digest="", rollback_id=""))
    assert after.endswith('    rejectedVersions: # none yet\n      - version: "7"\n')


@pytest.mark.parametrize(
    ("listed", "added"),
    [
        ("    - version: '5'\n", '    - version: "7"\n      digest: sha256:77\n      rollbackID: bbbbbbbb\n'),
        (
            "        -   version: '5' # odd\n            digest: x\n",
            '        -   version: "7"\n            digest: sha256:77\n            rollbackID: bbbbbbbb\n',
        ),
        ("    - {version: '5'}\n", '    - {version: "7", digest: sha256:77, rollbackID: bbbbbbbb}\n'),
    ],
)
def test_a_block_list_of_rejections_grows_in_its_own_layout(listed: str, added: str) -> None:
    text = BLOCK + "    rejectedVersions:\n" + listed + "# the end\n"
    assert edited(text, reject=BAD).endswith("    rejectedVersions:\n" + listed + added + "# the end\n")


def test_flow_style_stays_flow_style() -> None:
    text = (
        "kind: ModelDeployment\nmetadata: {name: fraud-detector}\n"
        "spec: {model: {name: fraud-detector, version: '7', promotedBy: Jo, digest: x, "
        "rejectedVersions: [{version: '5'}]}}\n"
    )
    assert edited(text, reject=BAD).splitlines()[2] == (
        "spec: {model: {name: fraud-detector, version: '6', digest: sha256:66, "
        "rejectedVersions: [{version: '5'}, {version: \"7\", digest: sha256:77, rollbackID: bbbbbbbb}]}}"
    )


def test_a_comment_between_flow_entries_stays() -> None:
    text = (
        "kind: ModelDeployment\nmetadata: {name: fraud-detector}\nspec:\n  model: {\n"
        "    name: fraud-detector, # name\n    runID: x, # run\n"
        "    version: '7', # version\n    promotedBy: Jo # who\n  }\n"
    )
    after = edited(text)
    for comment in ("# name", "# run", "# version", "# who"):
        assert comment in after
    assert read_version_file(after.encode(), name="fraud-detector").identity == GOOD


def test_a_file_in_json_stays_json() -> None:
    document = {
        "kind": "ModelDeployment",
        "metadata": {"name": "fraud-detector"},
        "spec": {"model": {"name": "fraud-detector", "version": "7", "promotedBy": "Jo"}},
    }
    after = json.loads(edited(json.dumps(document, indent=2), reject=BAD))
    assert after["spec"]["model"] == {
        "name": "fraud-detector",
        "version": "6",
        "digest": "sha256:66",
        "rejectedVersions": [{"version": "7", "digest": "sha256:77", "rollbackID": "bbbbbbbb"}],
    }


def test_line_ends_byte_order_mark_and_a_missing_last_newline_stay() -> None:
    text = b"\xef\xbb\xbf" + BLOCK.replace("\n", "\r\n").removesuffix("\r\n").encode()
    after = restore(
        text, name="fraud-detector", identity=replace(GOOD, promoted_by="Jo Doe"), reject=BAD, drop_retry=True
    )
    assert after.startswith(b"\xef\xbb\xbf# Which")
    assert after.endswith(b"rollbackID: bbbbbbbb")
    assert after.count(b"\n") == after.count(b"\r\n") == BLOCK.count("\n") - 2 + 4


def test_only_the_named_document_of_several_is_edited() -> None:
    other = BLOCK.replace("fraud-detector", "other")
    text = f"{other}---\n{BLOCK}...\n---\nkind: ConfigMap\n"
    after = edited(text)
    assert after.startswith(f"{other}---\n")
    assert after.endswith("...\n---\nkind: ConfigMap\n")
    assert read_version_file(after.encode(), name="other").identity.version == "7"


def test_restoring_twice_changes_nothing_more() -> None:
    once = edited(BLOCK, reject=BAD)
    assert edited(once, reject=BAD) == once


def test_retry_is_dropped_only_when_asked() -> None:
    text = BLOCK + "    retryOf: abc\n"
    assert read_version_file(text.encode(), name="fraud-detector").retry_of == "abc"
    assert "retryOf" not in edited(text)
    assert "    retryOf: abc\n" in edited(text, drop=False)


def test_a_retry_follows_the_fields_or_takes_the_place_of_the_last_one() -> None:
    once = retry(BLOCK.encode(), name="fraud-detector", rollback_id="abc")
    assert once.decode() == f"{BLOCK}    retryOf: abc\n"
    twice = retry(once.replace(b"abc", b"'abc' # why"), name="fraud-detector", rollback_id="7")
    assert twice.decode() == f"{BLOCK}    retryOf: '7' # why\n"


def test_a_retry_adds_to_what_a_merge_key_brings() -> None:
    common = "x-common: &common {version: '7', retryOf: old}\n"
    text = common + BLOCK.replace('    version: "7" # keep the quotes\n', "    <<: *common\n")
    after = retry(text.encode(), name="fraud-detector", rollback_id="new").decode()
    assert after == f"{text}    retryOf: new\n"
    with pytest.raises(VersionFileError, match="anchor or merge key"):
        restore(text.encode(), name="fraud-detector", identity=replace(GOOD, version="7"), reject=None, drop_retry=True)


@pytest.mark.parametrize(
    ("text", "rollback_id", "says"),
    [
        (BLOCK, "", r"a\.yaml needs the id of a rollback in spec\.model\.retryOf; give the one to lift"),
        (BLOCK, "a\nb", r"a\.yaml cannot take a control character in spec\.model\.retryOf"),
        (f"{BLOCK}    retryOf: &r x\n  other: *r\n", "abc", "change another user"),
        (BLOCK.replace("fraud-detector\nspec", "other\nspec"), "abc", "holds no ModelDeployment named fraud-detector"),
    ],
)
def test_a_retry_that_cannot_be_written_is_refused(text: str, rollback_id: str, says: str) -> None:
    with pytest.raises(VersionFileError, match=says):
        retry(text.encode(), name="fraud-detector", rollback_id=rollback_id, file="a.yaml")


def test_the_oldest_of_fifty_rejections_makes_room() -> None:
    entries = "".join(f"      - version: '{number}' # {number}\n" for number in range(50))
    after = edited(f"{BLOCK}    rejectedVersions:\n{entries}", reject=BAD)
    rejected = read_version_file(after.encode(), name="fraud-detector").rejected
    assert len(rejected) == 50
    assert [entry.version for entry in (rejected[0], rejected[-2], rejected[-1])] == ["1", "49", "7"]
    assert "# 0\n" not in after
    flow = ", ".join(f"{{version: '{number}'}}" for number in range(50))
    after = edited(f"{BLOCK}    rejectedVersions: [{flow}]\n", reject=BAD)
    assert "rejectedVersions: [{version: '1'}, " in after
    assert read_version_file(after.encode(), name="fraud-detector").rejected == rejected


def test_an_alias_is_replaced_and_its_anchor_left_alone() -> None:
    text = BLOCK.replace('version: "7"', "version: *v").replace("metadata:", "x-common: &v '7'\nmetadata:")
    assert "x-common: &v '7'\n" in edited(text)
    assert 'version: "6"' in edited(text)


@pytest.mark.parametrize(
    "text",
    [
        BLOCK.replace('version: "7"', "version: &v '7'") + "    retryOf: *v\n---\n",
        BLOCK.replace('version: "7"', "version: &v '7'").replace("promotedBy: Jo Doe", "promotedBy: Jo") + "x: *v\n",
        BLOCK.replace("  model: #", "  model: &model #") + "  other: *model\n",
        BLOCK.replace("  model: #", "  model: &model #") + "other: {<<: *model}\n",
    ],
)
def test_an_edit_that_would_reach_another_user_of_an_anchor_is_refused(text: str) -> None:
    with pytest.raises(VersionFileError, match=r"a\.yaml shares values through an anchor.*write the fields"):
        edited(text, drop=False)


def test_a_merge_key_is_overridden_but_cannot_be_taken_from() -> None:
    common = "x-common: &common {digest: sha256:77, runID: run-7}\n"
    text = common + BLOCK.replace("    digest: 'sha256:77'\n    runID: run-7   # goes away\n", "    <<: *common\n")
    assert read_version_file(text.encode(), name="fraud-detector").identity.digest == "sha256:77"
    with pytest.raises(VersionFileError, match="anchor or merge key"):
        edited(text)
    after = edited(text, identity=replace(GOOD, run_id="run-6", promoted_by="Jo Doe"))
    assert after.startswith(common)
    assert after.endswith("    promotedBy: Jo Doe\n    digest: sha256:66\n    runID: run-6\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"kind: [", "a.yaml is not valid YAML in line 1"),
        (b"\xff\xfe", "a.yaml is not UTF-8"),
        (b"\x01", "a.yaml is not valid YAML"),
        (b"", "holds no ModelDeployment named fraud-detector"),
        (f"{BLOCK}---\n{BLOCK}".encode(), "holds more than one ModelDeployment named fraud-detector"),
        (BLOCK.replace("  name: fraud-detector\nspec", "  name: other\nspec").encode(), "holds no ModelDeployment"),
        (BLOCK.replace('    version: "7" # keep the quotes\n', "").encode(), "sets no spec.model.version"),
        ((BLOCK + '    version: "8"\n').encode(), "writes the key 'version' twice .again in line 15"),
        ((BLOCK + "    rejectedVersions: none\n").encode(), "rejectedVersions that is no list"),
        ((BLOCK + "    rejectedVersions: [{digest: x}]\n").encode(), "rejected version without a version in line 15"),
        ((BLOCK + "x: &x [*x]\n").encode(), "anchor that contains its own alias"),
        (
            BLOCK.encode() + b"a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            b"b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
            b"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d]\n",
            "says far more than a version file",
        ),
        (b"a: " + b"[" * 3000, "nested too deeply"),
        (BLOCK.encode() + b'x: "\\UFFFFFFFF"\n', "is not valid YAML"),
        (b"#" * 300_000, "has 300000 bytes"),
    ],
)
def test_what_cannot_be_read_is_named_with_the_remedy(text: bytes, says: str) -> None:
    with pytest.raises(VersionFileError, match=says):
        read_version_file(text, name="fraud-detector", file="a.yaml")


def test_values_that_cannot_be_written_are_refused() -> None:
    with pytest.raises(VersionFileError, match=r"a\.yaml cannot take a control character in spec\.model\.runID"):
        edited(BLOCK, identity=replace(GOOD, run_id="x\nversion: 8"))
    with pytest.raises(VersionFileError, match="must declare a version"):
        edited(BLOCK, identity=replace(GOOD, version=""))
    with pytest.raises(VersionFileError, match="more than a single value in line 12"):
        edited(BLOCK.replace("'sha256:77'", "[sha256:77]"))


# Any file that people may write: fields in any order, any quotes, comments and line ends anywhere.

_words = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f\x85\xa0\xad"), max_size=12
)
_values = st.one_of(
    st.sampled_from(
        ["7", "1e5", "0o17", "yes", "null", "~", "sha256:ab", "2026-01-01", "a: b", "a #b", "- x", "'", '"', "0x1F"]
    ),
    _words.map(str.strip).filter(lambda word: bool(word) and word.isprintable()),
)
_comments = st.sampled_from(["", "", " # a comment: with 'quotes\" and \u00fc", "   #"])
_identities = st.fixed_dictionaries(
    {"version": _values}, optional={ours: _values for ours in IDENTITY_FIELDS if ours != "version"}
).map(lambda given: ModelIdentity(**{"name": "", **given}))


@st.composite
def _files(draw: st.DrawFn, *, shared: bool = False) -> tuple[str, ModelIdentity, list[tuple[str, str]]]:
    """Return a file, what it declares, and its pieces: (text, what it belongs to).

    If ``shared``, its version has an anchor with another user below.
    """
    identity = draw(_identities)
    indent, newline = draw(st.sampled_from(["  ", "    "])), draw(st.sampled_from(["\n", "\r\n"]))
    fields = [(field, getattr(identity, ours)) for ours, field in IDENTITY_FIELDS.items() if getattr(identity, ours)]
    fields += [("retryOf", draw(_values))] if draw(st.booleans()) else []
    lines = []
    for field, value in draw(st.permutations([*fields, ("unknown", "kept")])):
        if draw(st.booleans()):
            lines.append((draw(st.sampled_from(["# note", f"{indent}{indent}# note", ""])), "other"))
        written = _dump(value, draw(st.sampled_from(["'", '"'])))
        if value.isdigit() and value.isascii() and draw(st.booleans()):
            written = value
        anchored = (shared and field == "version") or draw(st.sampled_from([False, False, True]))
        anchor = f"&{field} " if anchored else ""
        lines.append((f"{indent}{indent}{field}: {anchor}{written}{draw(_comments)}", field))
    if draw(st.booleans()):
        lines.append(
            (f"{indent}{indent}rejectedVersions:{draw(st.sampled_from(['', ' []', ' null']))}", "rejectedVersions")
        )
    after = draw(st.sampled_from(["", f"{indent}serving: {{replicas: 3}}", "---\nkind: Other", "# the end\n\n"]))
    after = "other: *version" if shared else after
    pieces = [
        (draw(st.sampled_from(["", "# head\n", "\ufeff", "\ufeff# head\n"])) + "kind: ModelDeployment", "other"),
        (f"metadata: {{name: m}}\nspec:\n{indent}model:{draw(_comments)}", "other"),
        *lines,
        (after, "other"),
    ]
    pieces = [(text.replace("\n", newline) + newline, owner) for text, owner in pieces]
    if draw(st.booleans()):
        pieces[-1] = (pieces[-1][0].rstrip("\r\n"), "other")
    return "".join(text for text, _ in pieces), identity, pieces


def _dump(value: str, style: str) -> str:
    dumped: str = yaml.safe_dump(value, default_style=style, allow_unicode=True, width=10_000)
    return dumped.rstrip("\n")


@settings(deadline=None)  # a busy machine is no failure
@given(file=_files(), wanted=_identities, reject=st.sampled_from([None, BAD]))
def test_any_file_says_what_was_wanted_and_keeps_every_other_byte(
    file: tuple[str, ModelIdentity, list[tuple[str, str]]], wanted: ModelIdentity, reject: Rejection | None
) -> None:
    text, declared, pieces = file
    assert read_version_file(text.encode(), name="m").identity == declared
    after = restore(text.encode(), name="m", identity=wanted, reject=reject, drop_retry=True).decode()
    read = read_version_file(after.encode(), name="m")
    assert read.identity == wanted
    assert read.rejected == ((reject,) if reject else ())
    place = 0
    for piece, owner in pieces:
        ours = next((name for name, field in IDENTITY_FIELDS.items() if field == owner), "")
        touched = owner in {"rejectedVersions", "retryOf"} or (
            ours and getattr(wanted, ours) != getattr(declared, ours)
        )
        if not touched:
            place = after.index(piece, place) + len(piece)
    assert restore(after.encode(), name="m", identity=wanted, reject=reject, drop_retry=True) == after.encode()


@settings(deadline=None)  # a busy machine is no failure
@given(file=_files())
def test_restoring_what_is_declared_changes_no_byte(file: tuple[str, ModelIdentity, list[tuple[str, str]]]) -> None:
    text, declared, _ = file
    assert restore(text.encode(), name="m", identity=declared, reject=None, drop_retry=False) == text.encode()


@settings(deadline=None, max_examples=50)
@given(file=_files(), wanted=_identities)
def test_a_bump_keeps_the_rejections_and_drops_the_retry(
    file: tuple[str, ModelIdentity, list[tuple[str, str]]], wanted: ModelIdentity
) -> None:
    text, declared, _ = file
    rejected = restore(text.encode(), name="m", identity=declared, reject=BAD, drop_retry=False)
    after = read_version_file(restore(rejected, name="m", identity=wanted, reject=None, drop_retry=True), name="m")
    assert (after.identity, after.rejected, after.retry_of) == (wanted, (BAD,), "")


@settings(deadline=None, max_examples=50)
@given(file=_files(), rollback_id=_values)
def test_a_retry_of_any_file_changes_its_own_field_alone_and_can_be_taken_back(
    file: tuple[str, ModelIdentity, list[tuple[str, str]]], rollback_id: str
) -> None:
    text, declared, pieces = file
    before = read_version_file(text.encode(), name="m")
    after = retry(text.encode(), name="m", rollback_id=rollback_id)
    assert read_version_file(after, name="m") == replace(before, retry_of=rollback_id)
    assert retry(after, name="m", rollback_id=rollback_id) == after
    place = 0
    for piece, owner in pieces:
        if owner != "retryOf":
            place = after.decode().index(piece, place) + len(piece)
    if not before.retry_of:
        assert restore(after, name="m", identity=declared, reject=None, drop_retry=True) == text.encode()


@settings(deadline=None, max_examples=50)
@given(file=_files(shared=True), wanted=_identities)
def test_another_user_of_the_version_s_anchor_is_never_changed(
    file: tuple[str, ModelIdentity, list[tuple[str, str]]], wanted: ModelIdentity
) -> None:
    text, declared, _ = file
    kept = restore(text.encode(), name="m", identity=declared, reject=BAD, drop_retry=True)
    kept = retry(kept, name="m", rollback_id="abc")
    assert kept.decode().rstrip().endswith("other: *version")
    assert read_version_file(kept, name="m").identity == declared
    if wanted.version != declared.version:
        with pytest.raises(VersionFileError, match="change another user"):
            restore(text.encode(), name="m", identity=wanted, reject=None, drop_retry=True)
