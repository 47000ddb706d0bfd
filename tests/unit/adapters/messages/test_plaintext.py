"""Texts of others do nothing in a pull request or a commit message."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backstay.adapters.messages.plaintext import code, inert, one_line, prose, table, title


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
