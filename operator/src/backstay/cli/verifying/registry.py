"""What the registry has to say of the versions that are declared."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from backstay.adapters.policy.admission import Policy
from backstay.adapters.policy.gates import gates
from backstay.adapters.registry.access import RegistryAccess
from backstay.adapters.registry.versions import ModelRegistry, ModelVersionError, RegisteredVersion
from backstay.cli.verifying.environments import Checked
from backstay.cli.verifying.findings import Finding, Weight
from backstay.domain.resource import ModelIdentity


class Registries:
    """Asks each registry once for each version.

    Args:
        access: the credentials that there are, each for its own addresses.
        uri: asked instead of the one that an environment names, which may be reachable from the cluster only.
        trusted: tells whether an address that an environment names may be asked. The credentials for MLflow go to
            registries that the command was told of, but a pull request can name any address, which would be connected.
    """

    def __init__(self, access: RegistryAccess, uri: str = "", trusted: Callable[[str], bool] = lambda _: True) -> None:
        self._access = access
        self._uri = uri
        self._trusted = trusted
        self._known: dict[tuple[str, str, str], RegisteredVersion | ModelVersionError] = {}

    def may_ask(self, uri: str) -> bool:
        """Tell whether an environment that names this address leads to a registry that may be asked."""
        return bool(self._uri) or self._trusted(uri)

    def read(self, uri: str, name: str, version: str) -> RegisteredVersion | ModelVersionError:
        """Read a version.

        Raises:
            RegistryUnavailableError: the registry gives no answer.
        """
        place = (self._uri or uri, name, version)
        if place not in self._known:
            try:
                self._known[place] = ModelRegistry(place[0], self._access).read(name, version)
            except ModelVersionError as error:
                self._known[place] = error
        return self._known[place]

    def findings(self, checked: Checked, policy: Policy) -> Iterator[Finding]:
        """Compare what an environment declares with what the registry has.

        Raises:
            RegistryUnavailableError: the registry gives no answer.
        """
        place = asked_of(checked)
        if checked.body is None or place is None:
            return
        file, (uri, name, version) = checked.environment.version_file, place
        if not self.may_ask(uri):
            sentence = (
                f"the registry {uri} is new with this change and was not asked; name it by --registry to trust it"
            )
            yield Finding(file, 0, sentence)
            return
        known = self.read(uri, name, version)
        schemas = tuple(checked.body["spec"]["registry"].get("featureSchemaVersions", ()))
        asked = replace(policy.asked_of_registry(checked.body), schemas=schemas)
        declared = ModelIdentity.of(checked.body["spec"]["model"])
        yield from (Finding(file, 0, gate.message) for gate in gates(declared, known, asked) if not gate.passed)
        if isinstance(known, RegisteredVersion) and declared.digest and not known.identity.digest:
            what = f"version {version} of {name}"
            sentence = f"the registry does not say the digest of {what}, so it was not compared; the pods compare it"
            yield Finding(file, 0, sentence, Weight.NOTE)


def asked_of(checked: Checked) -> tuple[str, str, str] | None:
    """Return registry, model and version of an environment; None where it keeps too little of the schema to tell."""
    try:
        spec: Mapping[str, Any] = (checked.body or {})["spec"]
        place = (spec["registry"]["uri"], spec["model"]["name"], spec["model"]["version"])
    except (KeyError, TypeError):
        return None
    return place if all(isinstance(part, str) and part for part in place) else None
