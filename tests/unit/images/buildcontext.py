"""Which files of the checkout a build sends to the image builder, by the rules of a ``.dockerignore`` file.

The rules are those of Docker's own matcher, and not those of Git: every pattern starts at the root of the context, and
the last pattern that fits a path or a folder above it decides. So a file can come back out of an excluded folder.
"""

import os
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pattern:
    """One line of an ignore file; ``keeps`` is true for a line that begins with ``!``."""

    text: str
    keeps: bool

    def fits(self, path: str) -> bool:
        """Tell whether the pattern fits a path or a folder above it."""
        parts = path.split("/")
        expression = re.compile(_expression(self.text))
        return any(expression.fullmatch("/".join(parts[:end])) for end in range(1, len(parts) + 1))

    def may_fit_below(self, folder: str) -> bool:
        """Tell whether the pattern may fit something inside a folder."""
        wanted = self.text.split("/")
        for part, pattern in zip(folder.split("/"), wanted, strict=False):
            if "**" in pattern:
                return True
            if not re.fullmatch(_expression(pattern), part):
                return False
        return True


def patterns(text: str) -> tuple[Pattern, ...]:
    """Read the lines of an ignore file."""
    found = []
    for line in text.removeprefix("\ufeff").splitlines():
        # A comment begins in the first column; spaces around a pattern do not count.
        if line.startswith("#") or not (pattern := line.strip()):
            continue
        keeps = pattern.startswith("!")
        cleaned = posixpath.normpath(pattern.removeprefix("!").strip()).lstrip("/")
        if cleaned not in ("", "."):
            found.append(Pattern(cleaned, keeps))
    return tuple(found)


def is_sent(path: str, rules: tuple[Pattern, ...]) -> bool:
    """Tell whether a file goes to the builder."""
    sent = True
    for rule in rules:
        if rule.keeps != sent and rule.fits(path):
            sent = rule.keeps
    return sent


def context_of(root: Path, dockerfile: Path) -> frozenset[str]:
    """List the files that a build of this Dockerfile sends, by their path from the root of the checkout.

    The ignore file is the one beside the Dockerfile that has its name; without it, the one at the root.
    """
    own, common = dockerfile.with_name(f"{dockerfile.name}.dockerignore"), root / ".dockerignore"
    ignore = next((file for file in (own, common) if file.is_file()), None)
    rules = patterns(ignore.read_text(encoding="utf-8")) if ignore else ()
    sent: set[str] = set()
    for folder, folders, names in os.walk(root):
        above = "" if Path(folder) == root else f"{Path(folder).relative_to(root).as_posix()}/"
        folders[:] = [name for name in folders if _is_entered(above + name, rules)]
        sent.update(above + name for name in names if is_sent(above + name, rules))
    return frozenset(sent)


def _is_entered(folder: str, rules: tuple[Pattern, ...]) -> bool:
    return is_sent(folder, rules) or any(rule.keeps and rule.may_fit_below(folder) for rule in rules)


def _expression(pattern: str) -> str:
    """Translate a pattern: ``**`` stands for any number of folders, ``*`` and ``?`` stay within one."""
    expression, rest = "", pattern
    while rest:
        if rest.startswith("**"):
            rest = rest[2:].removeprefix("/")
            expression += "(.*/)?" if rest else ".*"
            continue
        one, rest = rest[0], rest[1:]
        if one == "\\" and rest:
            one, rest = rest[0], rest[1:]
            expression += re.escape(one)
        elif one == "[" and "]" in rest:
            inside, _, rest = rest.partition("]")
            expression += f"[{inside}]"
        else:
            expression += {"*": "[^/]*", "?": "[^/]"}.get(one) or re.escape(one)
    return expression
