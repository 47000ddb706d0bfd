"""What a forge, a chat or a terminal would act on in a text; written from their documentation, not from our code."""

import re
import subprocess
from collections import Counter
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

REFERENCES = {
    "mention": r"(?<![A-Za-z0-9_`])@[A-Za-z0-9_]",
    "issue": r"#\d|\bG[HL]-\d",
    "merge request, epic or snippet": r"[!&$]\d",
    "milestone or label": r"(?<!\w)[%~][\w\"]",
    "link": r"https?://[^\s>)]*|\bwww\.\w|\w@[\w-]+\.\w",
}
COMMANDS = {
    "skipped checks": r"\[\s*(?:skip|no|ci|actions)[ _-](?:skip|ci|actions)\s*\]|(?m:^)skip-checks:",
    "image or link": r"\]\(|\]\[|\]:",
    "tag": r"<[A-Za-z/!?@#]",
    "comment of git, or command": r"(?m)^[#/]",
}
_MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def found(patterns: dict[str, str], text: str) -> Counter[str]:
    return Counter(
        f"{name}: {hit[0]}" for name, pattern in patterns.items() for hit in re.finditer(pattern, text, re.IGNORECASE)
    )


def unseen(text: str, allowed: str = "") -> Counter[str]:
    """Find control, invisible and direction-changing characters."""
    return Counter(f"U+{ord(char):04X}" for char in text if not (char.isprintable() or char in allowed))


def in_commit(message: str) -> Counter[str]:
    said = subprocess.run(
        ["git", "interpret-trailers", "--parse"], input=message, capture_output=True, text=True, check=True
    ).stdout
    named = Counter(f"trailer {entry.partition(':')[0]}" for entry in said.splitlines())
    # The mail of a trailer that we make ourselves is no tag.
    plain = re.sub(r"(?m)^(Co-authored-by: [^<\n]*)<[^<>\n]*>$", r"\1", message)
    return found(REFERENCES | COMMANDS, plain) + unseen(message, "\n") + named


def in_line(text: str) -> Counter[str]:
    """Look through a title, a chat message or a notification."""
    return found(REFERENCES | COMMANDS, text) + unseen(text)


def in_markdown(body: str) -> Counter[str]:
    """Read Markdown as a forge does: blocks, links, images, tags and hidden marks, and references in what is shown."""
    tokens = _MARKDOWN.parse(body)
    blocks = Counter(token.type for token in tokens if token.type != "inline")
    live = Counter(f"hidden: {mark}" for mark in re.findall(r"<!--.*?-->", body))
    # A forge reads lines as commands, whatever Markdown makes of them.
    live += found({"command": r"(?m)^\s*/\w"}, body) + unseen(body, "\n")
    for token in tokens:
        if token.type == "inline":
            live += _in_inline(token.children or [])
    return live + blocks


def _in_inline(children: list[Token]) -> Counter[str]:
    live = Counter(f"{one.type} {_server(one)}" for one in children if one.type not in _QUIET)
    # The entity that parts a reference shows nothing, and the forge reads it as a character like others.
    shown = "".join(one.content if one.type == "text" else "`" for one in children)
    return live + found(REFERENCES, shown)


def _server(token: Token) -> str:
    """Return where a link or image leads; the path at our own registry holds the names of versions and runs."""
    return "//".join(urlsplit(str(token.attrs.get("href") or token.attrs.get("src") or ""))[:2])


_QUIET = {"text", "code_inline", "softbreak", "link_close", "text_special"}


def in_terminal(text: str) -> Counter[str]:
    return unseen(text, "\n\t")


def in_event(note: str) -> Counter[str]:
    return unseen(note) + Counter({"bytes over 1,024": max(len(note.encode()) - 1024, 0)})
