"""The promotion policy: expressions that the API server, `backstay verify` and the controller evaluate alike.

They stand in the ValidatingAdmissionPolicy itself, ``policies/promotion/policy.yaml``; what is asked of which
namespaces is in the ConfigMap beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from backstay.adapters.policy.cel import CelError, cel_value, compiled, evaluate, holds
from backstay.adapters.policy.gates import Asked, MetricLimit, PolicyError
from backstay.adapters.shipped import PROMOTION_POLICY, shipped_files

SETTINGS_FILE = f"{PROMOTION_POLICY}/settings.yaml"
POLICY_FILE = f"{PROMOTION_POLICY}/policy.yaml"
_ASKED = "asked"


@dataclass(frozen=True, slots=True)
class Policy:
    """A ValidatingAdmissionPolicy and the settings that it reads.

    ``conditions`` say whether it is asked at all; ``variables`` are names with expressions, each may use those before
    it; ``validations`` are expressions with those of their messages.
    """

    conditions: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]
    validations: tuple[tuple[str, str], ...]
    settings: Mapping[str, str]

    @staticmethod
    def shipped() -> "Policy":
        """Return the policy of this version of Backstay, with the settings that it is installed with."""
        files = shipped_files(PROMOTION_POLICY)
        return Policy.of(files[POLICY_FILE], files[SETTINGS_FILE])

    @staticmethod
    def of(policy: str, settings: str) -> "Policy":
        """Read a policy and its settings from their manifests.

        Raises:
            PolicyError: one of them is something else, or an expression is no CEL.
        """
        try:
            documents = list(yaml.safe_load_all(policy))
            spec = next(d for d in documents if d["kind"] == "ValidatingAdmissionPolicy")["spec"]
            conditions = tuple(c["expression"] for c in spec.get("matchConditions", ()))
            variables = tuple((v["name"], v["expression"]) for v in spec.get("variables", ()))
            validations = tuple((v["expression"], v["messageExpression"]) for v in spec["validations"])
        except (yaml.YAMLError, RecursionError, StopIteration, KeyError, TypeError):
            raise PolicyError(
                f"{POLICY_FILE} is no ValidatingAdmissionPolicy with expressions and messageExpressions: restore it"
            ) from None
        try:
            named, told = (one for _, one in variables), (one for both in validations for one in both)
            for expression in (*conditions, *named, *told):
                compiled(str(expression))
        except CelError as problem:
            raise PolicyError(f"{POLICY_FILE} cannot be evaluated: {problem}") from None
        return Policy(conditions, variables, validations, {}).with_settings(settings)

    def with_settings(self, settings: str) -> "Policy":
        """Return the same policy with the settings of a ConfigMap's manifest.

        Raises:
            PolicyError: it is something else.
        """
        try:
            document = yaml.safe_load(settings)
            kind, data = document["kind"], dict(document["data"])
        except (yaml.YAMLError, RecursionError, KeyError, TypeError, ValueError):
            kind, data = "", {}
        if kind != "ConfigMap":
            raise PolicyError(f"{SETTINGS_FILE} is no ConfigMap with data: restore it")
        return self.configured(data)

    def configured(self, data: Mapping[str, Any]) -> "Policy":
        """Return the same policy with other settings; what they leave out is not asked.

        Raises:
            PolicyError: a value is no text, or the pattern of namespaces cannot be used.
        """
        for name, value in data.items():
            if not isinstance(value, str):
                raise PolicyError(f"{name} in {SETTINGS_FILE} is no text: put {value!r} in quotes")
        policy = Policy(self.conditions, self.variables, self.validations, dict(data))
        try:
            evaluate("''.matches(pattern)", {"pattern": cel_value(data.get("namespaces", ""))})
        except CelError:
            raise PolicyError(
                f"namespaces in {SETTINGS_FILE} is no pattern: write an RE2 expression, such as -production$"
            ) from None
        try:
            for text in policy._listed("metricLimits"):
                MetricLimit.parse(text)
        except ValueError as problem:
            raise PolicyError(f"metricLimits in {SETTINGS_FILE}: {problem}") from None
        return policy

    def misconfigured(self) -> tuple[str, ...]:
        """List what is wrong with the settings themselves, by the expressions that look at nothing else."""
        values = self._values({})
        return tuple(
            _worded(message, values)
            for rule, message in self.validations
            if not _looks_at_object(rule) and not holds(rule, values)
        )

    def violations(self, body: Mapping[str, Any]) -> tuple[str, ...]:
        """List what the policy has against declaring a ModelDeployment, as the API server would word it."""
        values = self._values(body)
        try:
            if not all(evaluate(condition, values) for condition in self.conditions):
                return ()
        except CelError as problem:
            # The API server refuses as well where it cannot tell whether the policy is meant.
            return (f"a condition of the promotion policy cannot be evaluated: {problem}",)
        return tuple(_worded(message, values) for rule, message in self.validations if not holds(rule, values))

    def concerns(self, body: Mapping[str, Any]) -> bool:
        """Tell whether the settings ask anything of a ModelDeployment's namespace."""
        return holds(f"variables.{_ASKED}", self._values(body))

    def asked_of_registry(self, body: Mapping[str, Any]) -> Asked:
        """Return what the registry must say of a version, for a ModelDeployment that the settings are about."""
        if not self.concerns(body):
            return Asked()
        pairs = (pair.partition("=") for pair in self._listed("requiredTags"))
        return Asked(
            tags={name.strip(): value.strip() for name, _, value in pairs},
            limits=tuple(MetricLimit.parse(text) for text in self._listed("metricLimits")),
            model_card=self.settings.get("requireModelCard") == "true",
        )

    def _listed(self, setting: str) -> list[str]:
        return [text for text in self.settings.get(setting, "").split(",") if text.strip()]

    @property
    def one_environment_at_a_time(self) -> bool:
        """Whether one change may move the version of one environment only."""
        return self.settings.get("oneEnvironmentAtATime") == "true"

    def _values(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Name what the expressions may look at; a variable that cannot be evaluated breaks what uses it."""
        values = {
            "object": cel_value(body),
            "oldObject": None,
            "params": cel_value({"data": dict(self.settings)}),
            "variables": cel_value({}),
        }
        for name, expression in self.variables:
            try:
                values["variables"][cel_value(name)] = evaluate(expression, values)
            except CelError:
                continue
        return values


def _looks_at_object(rule: str) -> bool:
    return "object." in rule or f"variables.{_ASKED}" in rule


def _worded(message: str, values: Mapping[str, Any]) -> str:
    try:
        return " ".join(str(evaluate(message, values)).split())
    except CelError:
        return "the promotion policy does not allow it"
