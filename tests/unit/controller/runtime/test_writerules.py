"""Which namespace may have commits written where."""

import pytest

from backstay.adapters.argocd import Source
from backstay.controller.runtime.write_rules import EVERYTHING, WriteRules
from backstay.domain.resource import Key

RULES = """
- namespaces: [fraud-*]
  repositories: [https://git.example.com/models]
  paths: [applications/fraud-detector/]
- namespaces: [platform]
  repositories: ["*"]
  paths: ["*"]
"""
FRAUD = Key("fraud-production", "fraud-detector")


def source(url: str = "https://git.example.com/models/gitops.git", path: str = "") -> Source:
    return Source(url, "main", path or "applications/fraud-detector/overlays/production")


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (FRAUD, source()),
        (FRAUD, source("https://GIT.example.com:443/models/gitops")),
        (FRAUD, source(path="applications/fraud-detector")),
        (FRAUD, source(path="/applications/fraud-detector/overlays/staging/")),
        (Key("platform", "any"), source("https://elsewhere.example.com/x.git", "anything")),
    ],
)
def test_a_namespace_writes_where_a_rule_gives_it_the_place(key: Key, place: Source) -> None:
    assert WriteRules.parse(RULES).refusal(key, place) == ""


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (FRAUD, source("https://git.example.com/models-of-others/gitops.git")),
        (FRAUD, source("https://git.example.com.evil.example/models/gitops.git")),
        (FRAUD, source("https://git.example.com/other/gitops.git")),
        (FRAUD, source(path="applications/fraud-detector-2/overlays/production")),
        (FRAUD, source(path="applications")),
        (Key("credit", "fraud-detector"), source()),
        (Key("my-fraud-production", "fraud-detector"), source()),
        (Key("platform-2", "any"), source()),
    ],
)
def test_everything_else_is_refused_with_the_remedy(key: Key, place: Source) -> None:
    refusal = WriteRules.parse(RULES).refusal(key, place)
    assert refusal.startswith(f"Namespace {key.namespace} may not write to {place.path} of https://")
    assert refusal.endswith("add a rule to BACKSTAY_WRITE_RULES in the controller's configuration")


def test_no_rule_allows_nothing() -> None:
    assert WriteRules.parse("[]").refusal(FRAUD, source())
    assert EVERYTHING.refusal(FRAUD, source()) == ""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "BACKSTAY_WRITE_RULES is no list"),
        ("- {", "BACKSTAY_WRITE_RULES is not YAML in line"),
        ("- namespaces: ['*']", "Rule 1 of BACKSTAY_WRITE_RULES must have exactly namespaces, paths, repositories"),
        ("- {namespaces: '*', repositories: ['*'], paths: ['*']}", "Rule 1 of BACKSTAY_WRITE_RULES has namespaces"),
        ("- {namespaces: ['*'], repositories: [], paths: ['*']}", "Rule 1 of BACKSTAY_WRITE_RULES has repositories"),
        ("- {namespaces: ['*'], repositories: ['ftp://x'], paths: ['*']}", "Rule 1 of BACKSTAY_WRITE_RULES: ftp://x"),
    ],
)
def test_rules_that_cannot_be_read_are_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint.replace("[", r"\[")):
        WriteRules.parse(text)
