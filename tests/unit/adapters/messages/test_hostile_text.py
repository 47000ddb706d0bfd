"""Text from outside does nothing, wherever Backstay writes it."""

import importlib
import inspect
import pkgutil
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from live_text import in_commit, in_event, in_line, in_markdown, in_terminal
from text_producers import NO_PRODUCERS, PRODUCERS, Producer

import backstay
from backstay.adapters import messages
from backstay.adapters.messages import rollback_commit
from backstay.adapters.messages.change import evaluation_rows

SOURCE = Path(backstay.__path__[0])
HOSTILE = {
    "mentions": "@org/everyone (@here) \u00e9@channel @all",
    "references": "fixes #12, closes org/repo#3, resolves GH-12 and GL-4: !7 &8 $9",
    "labels and milestones": '~label ~"two words" %milestone %"two words" %12',
    "addresses": "closes https://github.com/o/r/issues/1 www.evil.example mailto:a@b.example",
    "quick actions": "x\n/close\n/merge\n\n/tag v1\n/assign @me",
    "quick action first": "/close",
    "skipped checks": "[skip ci] [ci skip] [no ci] [skip actions] [SKIP\u200bCI] [[skip ci]] [ci-skip] [skip@ci]",
    "trailers": "x\n\nCo-authored-by: Boss <boss@example.com>\nSigned-off-by : B <b@c>\nBackstay-Rollback-Id: 0\n"
    "skip-checks:true",
    "comments of git": "x\n# gone\n#\n; # gone",
    "headings and lists": "# heading",
    "list": "- [x] Approved",
    "numbers": "1. one\n2. two",
    "rule": "---\n===",
    "hidden marks": "<!-- backstay-incident: 4a7d1ed414474e40 --> <!-- backstay-change: 1 --> <!--",
    "tags": "<img src=//evil.example/x.png> <b>bold</b> <script>x</script> </details>",
    "images": "![x](https://evil.example/x.png) ![y][z] [z]: https://evil.example",
    "links": "[click](https://evil.example) [c](//evil.example) <https://evil.example> <a@b.example>",
    "code": "` ``` @all ` #1 \n```\n~~~\n@all",
    "table": "a | b\n| forged | row | |\n|---|---|",
    "escapes": r"\@all \\[x](y) \`@all\` \| &#64;all &lt;b&gt; &#35;12",
    "invisible": "zero\u200bwidth @\u200ball #\u200b12 \u202eevil\u2066 \ufeff\u00ad",
    "terminal": "\x1b[31mred \x1b]8;;https://evil.example\x07link\x1b]8;;\x07 \x9b2J\r\x7f\x00 [red]rich[/red] \u2028",
    "chat": "<!channel> <!here|x> <@U123> <https://evil.example|click> @everyone *b* _i_",
    "long": "x" * 5000 + "\u00e9" * 2000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("producer", PRODUCERS, ids=[producer.name for producer in PRODUCERS])
def test_hostile_text_does_nothing(producer: Producer, text: str) -> None:
    for hostile, harmless in zip(producer.write(text), producer.write("harmless"), strict=True):
        assert producer.live(hostile) - producer.live(harmless) == {}, hostile


@pytest.mark.parametrize(
    ("look", "text"),
    [
        (in_commit, "s\n\nx [skip ci]\n"),
        (in_commit, "s\n\nb\n\nSigned-off-by: x\n"),
        (in_commit, "s\n\n# x\n"),
        (in_commit, "s\n\nfixes #1\n"),
        (in_line, "thanks @all"),
        (in_line, "see https://x"),
        (in_line, "a\u202eb"),
        (in_markdown, "![x](y)"),
        (in_markdown, "[x](y)"),
        (in_markdown, "a <b>"),
        (in_markdown, "`<!-- x -->`"),
        (in_markdown, r"\@all"),
        (in_markdown, "&#64;all"),
        (in_markdown, "x\n/close"),
        (in_terminal, "\x1b[31m"),
        (in_event, "\u00e9" * 600),
        (in_line, "a@b.example"),
        (in_commit, "s\n\nskip-checks: true\n"),
    ],
)
def test_live_text_is_found(look: Callable[[str], Counter[str]], text: str) -> None:
    assert look(text)


def test_each_function_that_words_a_message_is_tried() -> None:
    """A new module or function of `messages` fails here until it is among the producers."""
    tried = {function.__name__ for producer in PRODUCERS for function in producer.of} | {
        function.__name__ for function in NO_PRODUCERS
    }
    parts = {
        rollback_commit.rollback_subject.__name__,
        rollback_commit.rollback_text.__name__,
        rollback_commit.rollback_trailers.__name__,
        evaluation_rows.__name__,
    }
    names = {found.name for found in pkgutil.iter_modules(messages.__path__)} - {"plain", "markdown"}
    modules = [importlib.import_module(f"{messages.__name__}.{name}") for name in names]
    public = {
        name
        for module in modules
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    }
    assert public == tried | parts


@pytest.mark.parametrize(
    ("written", "files"),
    {
        r"(?<!class )\bNewCommit\(": {"adapters/gitops/drafts.py"},
        r"(?<!class )\bProposal\(": {
            "adapters/messages/rollback_proposal.py",
            "cli/git/changing.py",
            "controller/services/promotions.py",
        },
        r"(?<!class )\bReport\(": {"adapters/messages/incident.py"},
        r"\bforge\.close\(": {"controller/services/promotions.py", "controller/services/write_back.py"},
        r"\.comment\(": {"cli/verifying/posting.py"},
        r"\.create\(EVENT\b": {"controller/act.py"},
        r"(?<!def )(?<![.\w])send\(": {"controller/services/notifications.py"},
        r"\becho\(|(?<![\w.])print\(|\bConsole\(|(?<!\w)Text\(": {"cli/terminal.py"},
        # Names of commands for the shell, and what is wrong with the controller's own settings.
        r"\bsys\.std(?:out|err)\b": {"cli/completion.py", "controller/__main__.py"},
    }.items(),
)
def test_each_way_out_is_known(written: str, files: set[str]) -> None:
    """A new place that writes to a forge, a chat, a cluster's Events or a terminal fails here until it is tried too."""
    found = {
        file.relative_to(SOURCE).as_posix() for file in SOURCE.rglob("*.py") if re.search(written, file.read_text())
    }
    assert found == files
