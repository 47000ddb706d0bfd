"""Messages to people, through apprise: Slack, Teams, PagerDuty, a webhook, and what else it knows.

The addresses are secrets: they hold tokens. No sentence here repeats one, and apprise's own log, which does, is shut.
apprise is imported with the first address: it takes 45 MB, and most controllers have none.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

logging.getLogger("apprise").disabled = True

# The reasons of which people are told unless a target asks for others, and those that are told where asked for.
USUAL = frozenset(
    {
        "GateFailed",
        "IncidentNotReported",
        "Promoted",
        "PromotionLeftOpen",
        "PromotionProposed",
        "PromotionRefused",
        "RollbackProposed",
        "RolledBack",
        "RollingBack",
        "RolloutFailed",
        "StableNotServing",
        "WriteBackRefused",
    }
)
OTHERS = frozenset(
    {
        "Approved",
        "IncidentReported",
        "PromotionClosed",
        "PromotionDone",
        "ReturnedToPrevious",
        "RollbackPushed",
        "RolloutStarted",
        "RolloutSuperseded",
        "StableRecalled",
        "StableServesAgain",
        "StepEnded",
        "StepSkipped",
    }
)
_EVERYTHING = "*"
_FIELDS = ("url", "events", "namespaces")


class Tone(StrEnum):
    """How a message is meant."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to tell what: one or more addresses, the reasons that they want, and of which namespaces."""

    name: str
    urls: tuple[str, ...]
    reasons: frozenset[str] = USUAL
    namespaces: str = ""

    def wants(self, reason: str, namespace: str) -> bool:
        """Tell whether a message is for this target."""
        return reason in self.reasons and (not self.namespaces or re.search(self.namespaces, namespace) is not None)


def read_targets(folder: Path) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """Read what a Secret holds, mounted as files ``<name>.url``, ``<name>.events`` and ``<name>.namespaces``.

    A folder that is not there has no targets.

    Returns:
        The targets that can be used, and a sentence for each thing that is wrong.
    """
    if not folder.is_dir():
        return (), ()
    fields: dict[str, dict[str, str]] = defaultdict(dict)
    problems = []
    try:
        for file in sorted(folder.iterdir()):
            name, _, field = file.name.rpartition(".")
            if file.name.startswith(".") or not file.is_file():
                continue
            if not name or field not in _FIELDS:
                problems.append(f"{file.name} is not understood: name it <target>.{', <target>.'.join(_FIELDS)}")
                continue
            fields[name][field] = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        return (), (f"{folder} cannot be read: {problem}",)
    targets = []
    for name, given in fields.items():
        wrong = list(_wrong(name, given))
        problems.extend(wrong)
        if not wrong:
            targets.append(
                Target(
                    name, tuple(given["url"].split()), _reasons(given.get("events", "")), given.get("namespaces", "")
                )
            )
    return tuple(targets), tuple(problems)


def _wrong(name: str, given: dict[str, str]) -> Iterator[str]:
    import apprise  # noqa: PLC0415 - see above

    urls = given.get("url", "").split()
    if not urls:
        yield f"{name} has no {name}.url: write the address of a service there, such as slack://… or json://…"
    for number, url in enumerate(urls, start=1):
        if not apprise.Apprise().add(url):
            yield f"{name}.url, address {number}: apprise knows no such service, or the address lacks a part"
    unknown = _reasons(given.get("events", "")) - USUAL - OTHERS
    if unknown:
        known = ", ".join(sorted(USUAL | OTHERS))
        # What is no name may be an address that somebody put into the wrong key.
        said = ", ".join(sorted(reason for reason in unknown if reason.isalpha())) or "what it says"
        yield f"{name}.events: no event is {said}; known are {known}, and {_EVERYTHING} for all"
    try:
        re.compile(given.get("namespaces", ""))
    except re.error:
        yield f"{name}.namespaces is no pattern: write a regular expression, such as -production$"


def _reasons(text: str) -> frozenset[str]:
    if text == _EVERYTHING:
        return USUAL | OTHERS
    return frozenset(reason.strip() for reason in re.split(r"[,\s]+", text) if reason.strip()) or USUAL


def send(url: str, *, title: str, body: str, tone: Tone) -> bool:
    """Send one plain text; blocks for some seconds at most, unless the address asks for longer (``cto``, ``rto``).

    Returns:
        Whether the service has taken it.
    """
    import apprise  # noqa: PLC0415 - see above

    service = apprise.Apprise()
    return bool(service.add(url)) and bool(
        service.notify(
            body=body,
            title=title,
            notify_type=apprise.NotifyType(tone),
            # Has it escaped for services that take Markdown or HTML.
            body_format=apprise.NotifyFormat.TEXT,
        )
    )
