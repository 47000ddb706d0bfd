"""What the registry has to say of the versions that are declared."""

from collections.abc import Iterator, Mapping

from backstay.adapters.modelversion import READY, ModelRegistry, ModelVersionError, RegisteredVersion
from backstay.adapters.policy import Policy
from backstay.cli.verifying.environments import Checked
from backstay.cli.verifying.findings import Finding
from backstay.domain.resource import IDENTITY_FIELDS

_COMPARED = ("digest", "code_commit", "data_checksum", "run_id", "feature_schema_version")


class Registries:
    """Asks each registry once for each version.

    Args:
        uri: asked instead of the one that an environment names, which may be reachable from the cluster only.
    """

    def __init__(self, uri: str = "") -> None:
        self._uri = uri
        self._known: dict[tuple[str, str, str], RegisteredVersion | ModelVersionError] = {}

    def read(self, uri: str, name: str, version: str) -> RegisteredVersion | ModelVersionError:
        """Read a version.

        Raises:
            RegistryUnavailableError: the registry gives no answer.
        """
        place = (self._uri or uri, name, version)
        if place not in self._known:
            try:
                self._known[place] = ModelRegistry(place[0]).read(name, version)
            except ModelVersionError as error:
                self._known[place] = error
        return self._known[place]

    def findings(self, checked: Checked, policy: Policy) -> Iterator[Finding]:
        """Compare what an environment declares with what the registry has.

        Raises:
            RegistryUnavailableError: the registry gives no answer.
        """
        if checked.body is None or checked.declared is None:
            return
        spec, file = checked.body["spec"], checked.environment.version_file
        model: Mapping[str, str] = spec["model"]
        known = self.read(spec["registry"]["uri"], model["name"], model["version"])
        if isinstance(known, ModelVersionError):
            yield Finding(file, 0, str(known))
            return
        what = f"version {model['version']} of {model['name']}"
        if known.status != READY:
            yield Finding(file, 0, f"{what} is {known.status} in the registry; wait until it is {READY}")
        for ours in _COMPARED:
            theirs = IDENTITY_FIELDS[ours]
            declared, has = model.get(theirs, ""), getattr(known.identity, ours)
            if declared and has and declared != has:
                yield Finding(
                    file, 0, f"{theirs} is {declared}, and the registry has {has} of {what}; use backstay bump"
                )
        if policy.concerns(checked.body):
            for tag, value in policy.required_tags.items():
                has = known.tags.get(tag, "")
                if has != value:
                    said = f"has {tag} = {has!r}" if has else f"has no tag {tag}"
                    yield Finding(file, 0, f"{what} {said}, and the policy asks for {value!r}; have it evaluated first")
