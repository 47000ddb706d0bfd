"""MLflow as the memory that outlives the cluster: an alias for each target names its stable version."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backstay.domain.resource import Key

if TYPE_CHECKING:
    from mlflow import MlflowClient

_ABSENT = "RESOURCE_DOES_NOT_EXIST"
# What is set in the environment already wins. MLflow tells its makers of its use unless it is told not to.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def mlflow_client(uri: str) -> "MlflowClient":
    """Return MLflow's client of a tracking server, which is the registry too.

    MLflow is imported at the first use: it is slow to import, and most starts of the controller need it not.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient  # noqa: PLC0415 - see above; and it reads the settings at its import

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


class RegistryUnavailableError(Exception):
    """The registry did not answer; the text is a sentence for people."""


def alias(cluster: str, key: Key) -> str:
    """Name the alias of one target: ``stable-`` and 16 hexadecimal digits."""
    return f"stable-{_target(cluster, key)}"


def promotion_tag(cluster: str, key: Key) -> str:
    """Name the tag of a version that says when it became stable in one target.

    A name for each target: what two of them write at once is not in each other's way.
    """
    return f"promotion.{_target(cluster, key)}"


def rollback_tag(cluster: str, key: Key) -> str:
    """Name the tag of a version that says why it was rolled back in one target."""
    return f"rollback.{_target(cluster, key)}"


def _target(cluster: str, key: Key) -> str:
    text = f"{cluster}\0{key.namespace}\0{key.name}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Registry:
    """Reads and moves aliases; blocking, to be called from a thread of its own."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client = mlflow_client(uri)

    def stable_version(self, model: str, name: str) -> str:
        """Read which version the alias names; empty when there is none.

        Raises:
            RegistryUnavailableError: when the registry gives no answer.
        """
        with self._errors(model):
            versions = self._client.get_registered_model(model).aliases
            return str(versions.get(name, ""))

    def set_stable_version(self, model: str, name: str, version: str) -> None:
        """Move the alias.

        Raises:
            RegistryUnavailableError: when the registry does not take it.
        """
        with self._errors(model):
            self._client.set_registered_model_alias(model, name, version)

    def note(self, model: str, version: str, tag: str, text: str) -> None:
        """Set a tag of a version.

        Raises:
            RegistryUnavailableError: when the registry does not take it.
        """
        with self._errors(model):
            self._client.set_model_version_tag(model, version, tag, text)

    @contextmanager
    def _errors(self, model: str) -> Iterator[None]:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow to import

        try:
            yield
        except (MlflowException, OSError) as problem:
            first = (str(problem).splitlines() or [type(problem).__name__])[0]
            if isinstance(problem, MlflowException) and problem.error_code == _ABSENT:
                raise RegistryUnavailableError(
                    f"The registry {self._uri} does not have what model {model} needs: {first}; register it there"
                ) from problem
            raise RegistryUnavailableError(
                f"The registry {self._uri} does not answer for model {model}: {first}"
            ) from problem
