"""What the controller is told by its environment."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from backstay.adapters.registry.access import RegistryAccess
from backstay.controller.runtime.write_rules import EVERYTHING, VARIABLE, WriteRules


@dataclass(frozen=True, slots=True)
class Settings:
    """The controller's configuration; every field has its variable in the manifests of ``operator/config``."""

    cluster_name: str = ""
    prometheus_url: str = ""
    argocd_namespace: str = "argocd"
    git_credentials: Path | None = None
    registries: RegistryAccess = field(default_factory=RegistryAccess)
    state: Path = Path("/var/lib/backstay")
    address: str = "0.0.0.0"
    health_port: int = 8081
    metrics_port: int = 8082
    workers: int = 16
    write_rules: WriteRules = EVERYTHING
    policy: Path | None = None
    notifications: Path | None = None
    # A ModelDeployment's progress is written at most this often, in seconds; verdicts and intents are written at once.
    progress: float = 5.0

    @staticmethod
    def from_environment() -> "Settings":
        """Read the variables.

        Raises:
            ValueError: naming the variable, when one is not of its kind.
        """
        text = os.environ.get
        return Settings(
            cluster_name=text("BACKSTAY_CLUSTER_NAME", ""),
            prometheus_url=text("BACKSTAY_PROMETHEUS_URL", "").rstrip("/"),
            argocd_namespace=text("BACKSTAY_ARGOCD_NAMESPACE", "argocd"),
            git_credentials=_folder("BACKSTAY_GIT_CREDENTIALS"),
            registries=RegistryAccess.from_environment(),
            state=Path(text("BACKSTAY_STATE", "/var/lib/backstay")),
            address=text("POD_IP", "0.0.0.0"),
            health_port=_number("BACKSTAY_HEALTH_PORT", 8081),
            metrics_port=_number("BACKSTAY_METRICS_PORT", 8082),
            workers=_number("BACKSTAY_WORKERS", 16),
            policy=_folder("BACKSTAY_POLICY"),
            notifications=_folder("BACKSTAY_NOTIFICATIONS"),
            write_rules=WriteRules.parse(os.environ[VARIABLE]) if VARIABLE in os.environ else EVERYTHING,
        )


def _folder(variable: str) -> Path | None:
    value = os.environ.get(variable, "")
    return Path(value) if value else None


def _number(variable: str, default: int) -> int:
    value = os.environ.get(variable, str(default))
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{variable} is {value!r}: write a whole number") from None
