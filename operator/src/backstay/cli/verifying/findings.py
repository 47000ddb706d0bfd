"""What verification finds, and how it is told to people and to forges."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from backstay.adapters.messages.plain import one_line

_LONGEST = 1000


class Weight(StrEnum):
    """What follows from a finding: it has to be mended, or people should know of it."""

    MEND = "mend"
    NOTE = "note"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing to mend or to know: the file (from the repository's root), the line where known, and the sentence."""

    file: str
    line: int
    sentence: str
    weight: Weight = Weight.MEND


class WrongError(Exception):
    """Something is so wrong that nothing after it can be checked."""

    def __init__(self, file: str, sentence: str, line: int = 0) -> None:
        super().__init__(sentence)
        self.finding = Finding(file, line, sentence)


class Form(StrEnum):
    """How findings are printed."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"
    GITLAB = "gitlab"


def to_mend(findings: Iterable[Finding]) -> list[Finding]:
    """Return what has to be mended, sorted and once each."""
    return sorted({one for one in findings if one.weight is Weight.MEND})


def notes(findings: Iterable[Finding]) -> list[Finding]:
    """Return what people should know, sorted and once each."""
    return sorted({one for one in findings if one.weight is Weight.NOTE})


def told(findings: Iterable[Finding], checked: Iterable[str], form: Form) -> str:
    """Write what was found in what was checked; for people also that nothing was.

    Names and values of a pull request stand in it, so everything is one line: a runner reads lines as commands.
    """
    plain = {Finding(one_line(f.file, _LONGEST), f.line, one_line(f.sentence, _LONGEST), f.weight) for f in findings}
    return _FORMS[form](sorted(plain), sorted(checked))


def _text(found: list[Finding], checked: list[str]) -> str:
    lines: list[str] = []
    for place in sorted({finding.file for finding in found}):
        here = [one for one in found if one.file == place]
        lines += [place, *(f"  {_prefix(one)}{one.sentence}" for one in here)]
    count = len(to_mend(found))
    what = f"{len(checked)} environment{'' if len(checked) == 1 else 's'}"
    summary = f"{what} checked, {count} thing{'' if count == 1 else 's'} to mend"
    return "\n".join([*lines, *([""] if lines else []), summary])


def _prefix(one: Finding) -> str:
    note = "note: " if one.weight is Weight.NOTE else ""
    return f"{f'line {one.line}: ' if one.line else ''}{note}"


def _json(found: list[Finding], checked: list[str]) -> str:
    def listed(some: list[Finding]) -> list[Mapping[str, object]]:
        return [{"file": one.file, "line": one.line or None, "sentence": one.sentence} for one in some]

    document = {"checked": checked, "findings": listed(to_mend(found)), "notes": listed(notes(found))}
    return json.dumps(document, indent=2, ensure_ascii=False)


def _github(found: list[Finding], checked: list[str]) -> str:
    """Write workflow commands, which GitHub (and Gitea) shows beside the lines of a pull request."""
    kinds = {Weight.MEND: "error", Weight.NOTE: "notice"}
    lines = [
        f"::{kinds[one.weight]} file={_property(one.file)},line={one.line or 1}::{_data(one.sentence)}" for one in found
    ]
    return "\n".join([*lines, _text(found, checked)])


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _gitlab(found: list[Finding], _: list[str]) -> str:
    """Write a code quality report, which GitLab shows beside the lines of a merge request."""
    return json.dumps([_quality(one) for one in found], indent=2, ensure_ascii=False)


def _quality(finding: Finding) -> Mapping[str, object]:
    name = f"{finding.file}\0{finding.sentence}".encode()
    return {
        "description": finding.sentence,
        "check_name": "backstay",
        "fingerprint": hashlib.sha256(name).hexdigest(),
        "severity": "blocker" if finding.weight is Weight.MEND else "info",
        "location": {"path": finding.file, "lines": {"begin": finding.line or 1}},
    }


_FORMS: Mapping[Form, Callable[[list[Finding], list[str]], str]] = {
    Form.TEXT: _text,
    Form.JSON: _json,
    Form.GITHUB: _github,
    Form.GITLAB: _gitlab,
}
