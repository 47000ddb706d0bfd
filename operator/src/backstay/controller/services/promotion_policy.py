"""The promotion policy as the controller asks it, before it starts a version."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backstay.adapters.policy.gates import Asked, PolicyError
from backstay.domain.resource import ModelDeployment

if TYPE_CHECKING:
    from backstay.adapters.policy.admission import Policy


class PromotionPolicy:
    """Evaluates the policy's expressions with the settings in a folder, one file a setting, as a ConfigMap is mounted.

    Args:
        folder: read again at each question; None, or a folder that is not there, asks nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._shipped: Policy | None = None

    def violations(self, desired: ModelDeployment) -> tuple[str, ...]:
        """List what the policy has against starting what is declared.

        Settings that cannot be read forbid it: what they ask for is not known.
        """
        try:
            policy = self._read()
            return policy.violations(_body(desired)) if policy is not None else ()
        except PolicyError as problem:
            return (f"the settings of the promotion policy cannot be used: {problem}",)

    def asked_of_registry(self, desired: ModelDeployment) -> Asked:
        """Return what policy and environment ask of the registry, about what is declared.

        Raises:
            PolicyError: the settings cannot be read.
        """
        policy = self._read()
        asked = policy.asked_of_registry(_body(desired)) if policy is not None else Asked()
        return replace(asked, schemas=desired.feature_schemas)

    def _read(self) -> "Policy | None":
        if self._folder is None or not self._folder.is_dir():
            return None
        from backstay.adapters.policy.admission import Policy  # noqa: PLC0415 - CEL takes much memory, where nothing asks for it

        self._shipped = self._shipped or Policy.shipped()
        try:
            settings = {file.name: file.read_text(encoding="utf-8") for file in self._files()}
        except (OSError, UnicodeDecodeError) as problem:
            raise PolicyError(str(problem)) from None
        return self._shipped.configured(settings)

    def _files(self) -> list[Path]:
        folder = self._folder or Path()
        return [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]


def _body(desired: ModelDeployment) -> dict[str, Any]:
    """Put together what the expressions may look at; what is not decided by the plan is left out."""
    document = desired.plan.document
    return {
        "metadata": {"namespace": desired.key.namespace, "name": desired.key.name},
        "spec": {
            **document,
            "model": desired.plan.model.to_dict(),
            "registry": {"uri": desired.registry_uri},
        },
    }
