"""Whom to tell what, as a mounted Secret says it."""

import re
from pathlib import Path

import pytest

import backstay.domain
from backstay.adapters.notify import OTHERS, USUAL, Target, read_targets

HIDDEN = "T0KEN0F0A0TEAM"


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_a_target_is_addresses_with_the_events_and_namespaces_that_it_asks_for(tmp_path: Path) -> None:
    files = {
        "team.url": f"json://127.0.0.1/one\njsons://{HIDDEN}@127.0.0.1\n",
        "pager.url": "json://127.0.0.1/two",
        "pager.events": "RollingBack, WriteBackRefused",
        "pager.namespaces": "-production$",
        "archive.url": "json://127.0.0.1/three",
        "archive.events": "*",
    }
    targets, problems = read_targets(written(tmp_path, files))
    assert problems == ()
    found = {target.name: target for target in targets}
    assert len(found["team"].urls) == 2
    assert found["archive"].reasons == USUAL | OTHERS
    assert found["pager"] == Target(
        "pager", ("json://127.0.0.1/two",), frozenset({"RollingBack", "WriteBackRefused"}), "-production$"
    )


@pytest.mark.parametrize(
    "url",
    [
        f"slack://T1JJ3T3L2/A1BRTD4JD/{24 * 'T'}/#models",
        f"workflows://prod.example.com:443/643{29 * 'a'}/{40 * 's'}/",
        f"pagerduty://{32 * 'k'}@{20 * 'a'}",
        "mailto://user:password@example.com",
        "jsons://hooks.example.com/models?+Authorization=Bearer",
    ],
)
def test_the_services_that_people_have_are_known(tmp_path: Path, url: str) -> None:
    targets, problems = read_targets(written(tmp_path, {"team.url": url}))
    assert (len(targets), problems) == (1, ())


@pytest.mark.parametrize(
    ("target", "reason", "namespace", "wanted"),
    [
        (Target("a", ()), "RollingBack", "anywhere", True),
        (Target("a", ()), "StepEnded", "anywhere", False),
        (Target("a", (), namespaces="-production$"), "RollingBack", "fraud-production", True),
        (Target("a", (), namespaces="-production$"), "RollingBack", "fraud-staging", False),
    ],
)
def test_a_target_gets_what_it_wants(target: Target, reason: str, namespace: str, *, wanted: bool) -> None:
    assert target.wants(reason, namespace) is wanted


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"team.url": f"slcak://{HIDDEN}"}, "team.url, address 1: apprise knows no such service"),
        ({"team.url": f"json://127.0.0.1 slack://{HIDDEN}"}, "team.url, address 2: apprise knows no such service"),
        ({"team.events": "*"}, "team has no team.url: write the address of a service there"),
        ({"team.url": "json://127.0.0.1", "team.events": "Rolledback"}, "no event is Rolledback; known are Approved, "),
        ({"team.url": "json://127.0.0.1", "team.events": f"slack://{HIDDEN}"}, "no event is what it says; known are"),
        ({"team.url": "json://127.0.0.1", "team.namespaces": "("}, "team.namespaces is no pattern"),
        ({"team.address": HIDDEN}, "team.address is not understood: name it <target>.url, <target>.events"),
        ({"url": HIDDEN}, "url is not understood"),
    ],
)
def test_what_is_wrong_is_said_and_the_other_targets_are_used(
    tmp_path: Path, files: dict[str, str], sentence: str
) -> None:
    targets, problems = read_targets(written(tmp_path, {"good.url": "json://127.0.0.1", **files}))
    assert [target.name for target in targets] == ["good"]
    assert len(problems) == 1
    assert sentence in problems[0]
    assert HIDDEN not in problems[0]


def test_the_events_that_can_be_asked_for_are_those_that_are_announced() -> None:
    texts = [file.read_text() for file in Path(backstay.domain.__path__[0]).glob("*.py")]
    said = {reason for text in texts for reason in re.findall(r"announce\(\s*\"([A-Za-z]+)\"", text)}
    named = {"GateFailed"}
    assert said | named == USUAL | OTHERS
