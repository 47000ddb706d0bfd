"""MLflow as the memory that outlives the cluster: an alias for each target names its stable version."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from backstay.adapters.registry.access import RegistryAccess
from backstay.adapters.registry.errors import RegistryUnavailableError
from backstay.adapters.secrets import CredentialError
from backstay.domain.resource import Key

_ABSENT = "RESOURCE_DOES_NOT_EXIST"


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
    """Reads and moves aliases; blocking, to be called from a thread of its own.

    Args:
        uri: the tracking server, which is the registry too.
        access: the credentials that there are.

    Raises:
        RegistryUrlError: the address is not one of an MLflow server.
    """

    def __init__(self, uri: str, access: RegistryAccess) -> None:
        self._access = access
        self._at = access.connect(uri)

    def stable_version(self, model: str, name: str) -> str:
        """Read which version the alias names; empty when there is none.

        Raises:
            RegistryUnavailableError: when the registry gives no answer.
        """
        with self._errors(model):
            versions = self._at.models.get_registered_model(model).aliases
            return str(versions.get(name, ""))

    def set_stable_version(self, model: str, name: str, version: str) -> None:
        """Move the alias.

        Raises:
            RegistryUnavailableError: when the registry does not take it.
        """
        with self._errors(model):
            self._at.models.set_registered_model_alias(model, name, version)

    def note(self, model: str, version: str, tag: str, text: str) -> None:
        """Set a tag of a version.

        Raises:
            RegistryUnavailableError: when the registry does not take it.
        """
        from mlflow.entities.model_registry import ModelVersionTag  # noqa: PLC0415 - slow to import

        with self._errors(model):
            self._at.models.set_model_version_tag(model, version, ModelVersionTag(tag, text))

    @contextmanager
    def _errors(self, model: str) -> Iterator[None]:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow to import

        uri = self._at.server.text
        try:
            yield
        except CredentialError as problem:
            raise RegistryUnavailableError(str(problem)) from problem
        except (MlflowException, OSError) as problem:
            first = (str(problem).splitlines() or [type(problem).__name__])[0]
            if isinstance(problem, MlflowException):
                hint = self._access.hint(self._at.server, problem)
                if hint:
                    raise RegistryUnavailableError(hint) from problem
                if problem.error_code == _ABSENT:
                    raise RegistryUnavailableError(
                        f"The registry {uri} does not have what model {model} needs: {first}; register it there"
                    ) from problem
            raise RegistryUnavailableError(
                f"The registry {uri} does not answer for model {model}: {first}"
            ) from problem
