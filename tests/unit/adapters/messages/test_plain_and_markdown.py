"""Texts of others do nothing in a pull request or a commit message."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstay.adapters.messages.markdown import code, inert, table
from backstay.adapters.messages.plain import (
    event_text,
    inactive,
    notification_text,
    one_line,
    person,
    prose,
    terminal_json,
    terminal_text,
    title,
)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("auc 0.98, 3 % better", "auc 0.98, 3 % better"),
        ("a | b", r"a \| b"),
        ("`x` *y* _z_", r"\`x\` \*y\* \_z\_"),
        ("<img src=x onerror=y>", r"\<img src=x onerror=y\>"),
        ("[here](/x)", r"\[here\]\(/x\)"),
        ("thanks @all", "thanks @&#8203;all"),
        ("closes #12 and o/r#3", "closes #&#8203;12 and o/r#&#8203;3"),
        ("GH-7", "GH-&#8203;7"),
        ("fixes https://github.com/o/r/issues/1", "fixes https:&#8203;//github.com/o/r/issues/1"),
        ("!5 ~bug $&x", r"!&#8203;5 \~&#8203;bug \$&amp;&#8203;x"),
        ("one\n\n/close\ntwo", "one /close two"),
        ("zero\u200bwidth \x1b[31mred\u202e", r"zero width \[31mred"),
    ],
)
def test_a_text_shows_as_it_is(text: str, written: str) -> None:
    assert inert(text) == written


@settings(max_examples=60)
@given(st.text(max_size=300))
def test_no_text_leaves_its_cell(text: str) -> None:
    for cell in (inert(text), code(text)):
        assert not re.search(r"[\x00-\x1f\x7f\u2028\u2029]", cell)
        (row,) = table(("a", "b"), [(cell, "end")]).splitlines()[2:]
        bare = re.sub(r"\\.", "", row)
        assert bare.count("|") == 3, row


@settings(max_examples=60)
@given(st.text(alphabet="@#!ab\\`|<&; ", max_size=60))
def test_nobody_is_mentioned(text: str) -> None:
    assert not re.search(r"[@#](?=\w)", inert(text).replace("&#8203;", "\u200b"))
    assert not re.search(r"[@#]", title(text))


def test_code_is_for_what_can_be_copied() -> None:
    assert code("sha256:0a") == "`sha256:0a`"
    assert code("a`b") == r"a\`b"
    assert code("") == ""


def test_long_texts_are_cut() -> None:
    assert one_line("x" * 300, 10) == "xxxxxxx..."


@settings(max_examples=60)
@given(st.text(max_size=200))
def test_prose_forges_no_trailer(text: str) -> None:
    line = prose(f"{text} Backstay-Rollback-Id: 0123 Signed-off-by: me")
    assert "\n" not in line
    assert "Backstay-Rollback-Id:" not in line
    assert "Signed-off-by:" not in line


def test_numbers_are_set_to_the_right() -> None:
    assert table(("a", "b"), [("x", "1")], right=[1]) == "| a | b |\n| --- | ---: |\n| x | 1 |"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("errors 4.1 % against 1.0 %, E = 1e15 > 1,000", "errors 4.1 % against 1.0 %, E = 1e15 > 1,000"),
        ("7@0a1b2c -> 6, p < 0.05 & rising (see a/b_c)", "7@0a1b2c -> 6, p < 0.05 & rising (see a/b_c)"),
        ("fixes #12 of @org/all, GH-7", "fixes # 12 of @ org/all, GH 7"),
        ("[skip ci] ![x](https://evil.example)", "(skip ci) !(x)(https: //evil.example)"),
        ("jo@example.com <!channel>", "jo@ example.com < !channel>"),
    ],
)
def test_plain_text_reads_nearly_as_it_was(text: str, written: str) -> None:
    assert inactive(text) == written


def test_only_addresses_of_our_own_stay_links_in_a_notification() -> None:
    ours = "https://git.example.com/pulls/7"
    told = f"{ours} waits, {ours}: see {ours}.evil.example, [x]({ours}) and https://evil.example"
    apart = ours.replace(":", ": ")
    assert notification_text(told, (ours,)) == (
        f"{ours} waits, {ours}: see {apart}.evil.example, (x)({apart}) and https: //evil.example"
    )


def test_the_note_of_an_event_fits_whatever_its_letters_take() -> None:
    assert event_text("x" * 1024) == "x" * 1024
    assert len(event_text("\u00e9" * 1024).encode()) <= 1024
    assert event_text("\u00e9" * 1024).endswith("\u00e9...")


def test_a_terminal_shows_codes_and_keeps_lines() -> None:
    assert terminal_text("a\n\tb\x1b[31m\u202e \u00e9") == "a\n\tb\\x1b[31m\\u202e \u00e9"


@settings(max_examples=60)
@given(st.text(max_size=200))
def test_a_document_keeps_its_values(text: str) -> None:
    written = terminal_json(json.dumps({text: text}, ensure_ascii=False))
    assert written.isprintable()
    assert json.loads(written) == {text: text}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Jo Doe <jo@localhost>", "Jo Doe <jo@localhost>"),
        ("it[bot] <2+it[bot]@users.example.com>", "it(bot) <2+it[bot]@users.example.com>"),
        ("@all fixes #1 <jo@localhost>", "@ all fixes # 1 <jo@localhost>"),
        ("Jo\nX <jo@localhost>", ""),
        ("Jo <jo@a <b@c>", ""),
    ],
)
def test_a_person_is_a_name_and_a_mail(text: str, written: str) -> None:
    assert person(text) == written
