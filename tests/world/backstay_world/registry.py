"""An MLflow server in memory: what the controller's own registry code asks MLflow's clients for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException, RestException

from backstay.adapters.registry.access import Connection, RegistryAccess, RegistryUrl, parse_registry_url
from backstay_world.looptime import SimulatedLoop

_TAKES = 0.05


@dataclass(slots=True)
class SimulatedRegistry:
    """The registered models.

    It answers nothing before ``hangs_until``, a time of the loop: a call gives up after ``patience`` seconds, as
    MLflow's client does with the controller's settings.
    """

    loop: SimulatedLoop
    hangs_until: float = 0.0
    patience: float = 20.0
    aliases: dict[str, dict[str, str]] = field(default_factory=dict)
    tags: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def register(self, model: str, version: str, **tags: str) -> None:
        """Register a version."""
        self.aliases.setdefault(model, {})
        self.tags[model, version] = dict(tags)

    def stable(self, model: str) -> set[str]:
        """Return the versions that any alias names as stable."""
        return set(self.aliases.get(model, {}).values())

    def _reach(self) -> None:
        left = self.hangs_until - self.loop.time()
        if left > 0:
            self.loop.spend(min(left, self.patience))
            raise MlflowException("the server does not answer")
        self.loop.spend(_TAKES)

    def _known(self, model: str, version: str) -> dict[str, str]:
        self._reach()
        if (model, version) not in self.tags:
            raise RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"{model} {version} not found"})
        return self.tags[model, version]

    def get_registered_model(self, name: str) -> Any:
        """Return a model with its aliases, as MLflow's client does."""
        self._reach()
        if name not in self.aliases:
            raise RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"{name} not found"})
        return SimpleNamespace(aliases=dict(self.aliases[name]))

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        """Move an alias."""
        self._known(name, version)
        self.aliases[name][alias] = version

    def set_model_version_tag(self, name: str, version: str, tag: ModelVersionTag) -> None:
        """Set a tag."""
        self._known(name, version)[tag.key] = tag.value

    def get_model_version(self, name: str, version: str) -> Any:
        """Return a version."""
        tags = dict(self._known(name, version))
        return SimpleNamespace(
            name=name,
            version=version,
            run_id="",
            tags=tags,
            status="READY",
            status_message="",
            description="",
            metrics=(),
        )


class SimulatedAccess(RegistryAccess):
    """Connects addresses to the registries of the world."""

    def __init__(self, registries: Mapping[str, SimulatedRegistry]) -> None:
        super().__init__()
        object.__setattr__(self, "_registries", registries)

    def connect(self, uri: str) -> Connection:
        """Return a connection to a simulated registry."""
        server = parse_registry_url(uri)
        registry: Any = self.__dict__["_registries"][server.text]
        return Connection(server, registry, registry)

    def hint(self, server: RegistryUrl, problem: MlflowException) -> str:
        """Say nothing of credentials: none are asked for."""
        del server, problem
        return ""
