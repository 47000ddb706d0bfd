"""What verification finds, and how it is told to people and to forges."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing to mend: the file (from the repository's root), the line where that is known, and the sentence."""

    file: str
    line: int
    sentence: str


class Form(StrEnum):
    """How findings are printed."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"
    GITLAB = "gitlab"


def told(findings: Iterable[Finding], checked: Iterable[str], form: Form) -> str:
    """Write what was found in what was checked; for people also that nothing was."""
    found, looked_at = sorted(set(findings)), sorted(checked)
    return _FORMS[form](found, looked_at)


def _text(found: list[Finding], checked: list[str]) -> str:
    lines: list[str] = []
    for place in sorted({finding.file for finding in found}):
        here = [one for one in found if one.file == place]
        lines += [place, *(f"  {f'line {one.line}: ' if one.line else ''}{one.sentence}" for one in here)]
    what = f"{len(checked)} environment{'' if len(checked) == 1 else 's'}"
    summary = f"{what} checked, {len(found)} thing{'' if len(found) == 1 else 's'} to mend"
    return "\n".join([*lines, *([""] if lines else []), summary])


def _json(found: list[Finding], checked: list[str]) -> str:
    listed = [{"file": one.file, "line": one.line or None, "sentence": one.sentence} for one in found]
    return json.dumps({"checked": checked, "findings": listed}, indent=2, ensure_ascii=False)


def _github(found: list[Finding], checked: list[str]) -> str:
    """Write workflow commands, which GitHub (and Gitea) shows beside the lines of a pull request."""
    lines = [f"::error file={_property(one.file)},line={one.line or 1}::{_data(one.sentence)}" for one in found]
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
        "severity": "blocker",
        "location": {"path": finding.file, "lines": {"begin": finding.line or 1}},
    }


_FORMS: Mapping[Form, Callable[[list[Finding], list[str]], str]] = {
    Form.TEXT: _text,
    Form.JSON: _json,
    Form.GITHUB: _github,
    Form.GITLAB: _gitlab,
}
