"""The promotion policy: expressions that the API server, `backstay verify` and the controller evaluate alike.

They stand in the ValidatingAdmissionPolicy itself, ``policies/promotion/policy.yaml``; what is asked of which
namespaces is in the ConfigMap beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from backstay.adapters.cel import CelError, cel_value, evaluate, holds
from backstay.adapters.shipped import shipped_files

PLACE = "policies/promotion"
SETTINGS = "backstay-promotion"
_POLICY, _SETTINGS = f"{PLACE}/policy.yaml", f"{PLACE}/settings.yaml"


class PolicyError(Exception):
    """The policy or its settings cannot be read; the message is a sentence with the remedy."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The conditions under which it is asked, the expressions with their messages, and the settings that they read."""

    conditions: tuple[str, ...]
    validations: tuple[tuple[str, str], ...]
    settings: Mapping[str, str]

    @staticmethod
    def shipped() -> "Policy":
        """Return the policy of this version of Backstay, with the settings that it is installed with."""
        files = shipped_files(PLACE)
        return Policy.of(files[_POLICY], files[_SETTINGS])

    @staticmethod
    def of(policy: str, settings: str) -> "Policy":
        """Read a policy and its settings from their manifests.

        Raises:
            PolicyError: one of them is something else.
        """
        try:
            documents = list(yaml.safe_load_all(policy))
            found = next(d for d in documents if d["kind"] == "ValidatingAdmissionPolicy")
            conditions = tuple(c["expression"] for c in found["spec"].get("matchConditions", ()))
            validations = tuple((v["expression"], v["messageExpression"]) for v in found["spec"]["validations"])
        except (yaml.YAMLError, StopIteration, KeyError, TypeError):
            raise PolicyError(
                f"{_POLICY} is no ValidatingAdmissionPolicy with expressions and messageExpressions: restore it"
            ) from None
        return Policy(conditions, validations, {}).with_settings(settings)

    def with_settings(self, settings: str) -> "Policy":
        """Return the same policy with the settings of a ConfigMap's manifest.

        Raises:
            PolicyError: it is something else.
        """
        try:
            data = dict(yaml.safe_load(settings)["data"])
        except (yaml.YAMLError, KeyError, TypeError, ValueError):
            raise PolicyError(f"{_SETTINGS} is no ConfigMap with data: restore it") from None
        return self.configured(data)

    def configured(self, data: Mapping[str, Any]) -> "Policy":
        """Return the same policy with other settings; what they leave out is as it is shipped.

        Raises:
            PolicyError: a value is no text, or no setting has that name.
        """
        usual: dict[str, Any] = yaml.safe_load(shipped_files(_SETTINGS)[_SETTINGS])["data"]
        for name, value in data.items():
            if name not in usual:
                raise PolicyError(f"{_SETTINGS} has no setting {name!r}: there are {', '.join(sorted(usual))}")
            if not isinstance(value, str):
                raise PolicyError(f"{name} in {_SETTINGS} is no text: put {value!r} in quotes")
        return Policy(self.conditions, self.validations, {**usual, **data})

    def violations(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        """List what the policy has against a ModelDeployment, as the API server would word it."""
        values = {"object": cel_value(body), "params": cel_value({"data": dict(self.settings)})}
        if not all(holds(condition, values) for condition in self.conditions):
            return ()
        return tuple(_worded(message, values) for rule, message in self.validations if not holds(rule, values))

    def concerns(self, body: Mapping[str, Any]) -> bool:
        """Tell whether the settings ask anything of a ModelDeployment's namespace."""
        values = {
            "namespace": cel_value(body["metadata"]["namespace"]),
            "pattern": cel_value(self.settings["namespaces"]),
        }
        return holds("namespace.matches(pattern)", values)

    @property
    def required_tags(self) -> dict[str, str]:
        """The tags that the registry must have on a version."""
        pairs = (pair.partition("=") for pair in self.settings.get("requiredTags", "").split(",") if pair.strip())
        return {name.strip(): value.strip() for name, _, value in pairs}


def _worded(message: str, values: Mapping[str, Any]) -> str:
    try:
        return " ".join(str(evaluate(message, values)).split())
    except CelError:
        return "the promotion policy does not allow it"
