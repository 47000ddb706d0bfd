"""What a controller has to be told, and shows, to be measured beside others."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backstay_bench_scale.process import ControllerProcess
from backstay_playground.node.api import Informer
from backstay_playground.playground import Playground

NAMESPACE = "scale"
PROMETHEUS = "http://127.0.0.1:31090"
INTERVAL = 5.0
"""Seconds between two looks at a canary's metrics."""
OLD, NEW = "1", "2"
"""The version that is stable, and the one that is tried."""
WEIGHT = 20
"""The canary's share in percent, at which it stays."""

Object = dict[str, Any]
Stores = Mapping[str, Informer]
"""What the API server holds, by the path that is watched."""


class Contender(ABC):
    """One controller. Models are numbered; each gets version 1, then version 2 as a canary that stays at one weight."""

    name: str
    components: tuple[str, ...]
    """What of the playground it needs."""
    watched: tuple[str, ...]
    """The paths of what its models are read from."""

    def __init__(self, models: int) -> None:
        """Prepare for so many models."""
        self._models = models

    @abstractmethod
    def install(self, playground: Playground) -> None:
        """Bring its definitions, and what all models share, into the cluster."""

    @abstractmethod
    def process(self, playground: Playground, folder: Path) -> ControllerProcess:
        """Describe the process that is measured."""

    @abstractmethod
    def objects(self, number: int) -> list[tuple[str, Object]]:
        """Return what declares a model of version 1: paths to post to, and bodies."""

    @abstractmethod
    def bump(self, number: int) -> tuple[str, Object]:
        """Return what declares version 2: a path, and a merge patch."""

    @abstractmethod
    def is_stable(self, stores: Stores, number: int) -> bool:
        """Tell whether version 1 serves and nothing is under way."""

    @abstractmethod
    def weight(self, stores: Stores, number: int) -> int:
        """Return the canary's share of the traffic in percent."""


def name(number: int) -> str:
    """Name a model."""
    return f"model-{number:05}"


def found(stores: Stores, path: str, thing: str) -> Object:
    """Return an object; an empty one while there is none."""
    return stores[path].store.get((NAMESPACE, thing), {})
