"""Which namespace may have commits written where: tenants of one cluster share the controller's Git account."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import yaml

from backstay.adapters.argocd import Source
from backstay.adapters.git_url import GitUrlError, normalise_url
from backstay.domain.resource import Key

VARIABLE = "BACKSTAY_WRITE_RULES"
_ANY = "*"
_FIELDS = frozenset({"namespaces", "repositories", "paths"})


@dataclass(frozen=True, slots=True)
class WriteRule:
    """What some namespaces may write to.

    ``namespaces`` are glob patterns, ``repositories`` normalised URL prefixes and ``paths`` folders; prefixes end at
    whole segments, and ``*`` stands for all.
    """

    namespaces: tuple[str, ...]
    repositories: tuple[str, ...]
    paths: tuple[str, ...]

    def allows(self, key: Key, url: str, path: str) -> bool:
        """Tell whether a ModelDeployment may have a folder of a repository changed; ``url`` is normalised."""
        return (
            any(fnmatchcase(key.namespace, pattern) for pattern in self.namespaces)
            and _within(url, self.repositories)
            and _within(path.strip("/"), self.paths)
        )


@dataclass(frozen=True, slots=True)
class WriteRules:
    """All rules; what none of them allows is refused."""

    rules: tuple[WriteRule, ...]

    @staticmethod
    def parse(text: str) -> "WriteRules":
        """Read the rules from YAML, a list of mappings with namespaces, repositories and paths.

        Raises:
            ValueError: a sentence that names the rule which cannot be read.
        """
        try:
            listed = yaml.safe_load(text)
        except yaml.YAMLError as problem:
            where = getattr(problem, "problem_mark", None)
            line = f" in line {where.line + 1}" if where else ""
            raise ValueError(f"{VARIABLE} is not YAML{line}: write a list of rules") from None
        if not isinstance(listed, list):
            wanted = ", ".join(sorted(_FIELDS))
            raise ValueError(f"{VARIABLE} is no list: write one rule a line, each with {wanted}")  # noqa: TRY004 - a text
        return WriteRules(tuple(_rule(number, entry) for number, entry in enumerate(listed, start=1)))

    def refusal(self, key: Key, source: Source) -> str:
        """Say why a ModelDeployment may not have this place changed; empty where it may."""
        url = normalise_url(source.url)
        if any(rule.allows(key, url, source.path) for rule in self.rules):
            return ""
        return (
            f"Namespace {key.namespace} may not write to {source.path or 'the root'} of {url}: "
            f"add a rule to {VARIABLE} in the controller's configuration"
        )


EVERYTHING = WriteRules((WriteRule((_ANY,), (_ANY,), (_ANY,)),))


def _rule(number: int, entry: Any) -> WriteRule:
    if not isinstance(entry, Mapping) or set(entry) != _FIELDS:
        raise ValueError(f"Rule {number} of {VARIABLE} must have exactly {', '.join(sorted(_FIELDS))}, each a list")
    for name in sorted(_FIELDS):
        values = entry[name]
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
            raise ValueError(
                f"Rule {number} of {VARIABLE} has {name} that are no list of texts: write [{_ANY}] for all"
            )
    try:
        repositories = tuple(url if url == _ANY else normalise_url(url) for url in entry["repositories"])
    except GitUrlError as problem:
        raise ValueError(f"Rule {number} of {VARIABLE}: {problem}") from None
    paths = tuple(path.strip("/") for path in entry["paths"])
    return WriteRule(tuple(entry["namespaces"]), repositories, paths)


def _within(place: str, prefixes: tuple[str, ...]) -> bool:
    return any(prefix == _ANY or f"{place}/".startswith(f"{prefix}/") for prefix in prefixes)
