"""What the registry has to say of the versions that are declared."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from backstay.adapters.modelversion import READY, ModelRegistry, ModelVersionError, RegisteredVersion
from backstay.adapters.policy import Policy
from backstay.cli.verifying.environments import Checked
from backstay.cli.verifying.findings import Finding, Weight
from backstay.domain.resource import IDENTITY_FIELDS

_COMPARED = ("digest", "code_commit", "data_checksum", "run_id", "feature_schema_version")


class Registries:
    """Asks each registry once for each version.

    Args:
        uri: asked instead of the one that an environment names, which may be reachable from the cluster only.
        trusted: tells whether an address that an environment names may be asked. The credentials for MLflow go to
            whatever is asked, and a pull request can name any address.
    """

    def __init__(self, uri: str = "", trusted: Callable[[str], bool] = lambda _: True) -> None:
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
                self._known[place] = ModelRegistry(place[0]).read(name, version)
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
        if isinstance(known, ModelVersionError):
            yield Finding(file, 0, str(known))
            return
        what = f"version {version} of {name}"
        if known.status != READY:
            yield Finding(file, 0, f"{what} is {known.status} in the registry; wait until it is {READY}")
        yield from _compared(checked.body["spec"]["model"], known, file, what)
        if policy.concerns(checked.body):
            for tag, value in policy.required_tags.items():
                has = known.tags.get(tag, "")
                if has != value:
                    said = f"has {tag} = {has!r}" if has else f"has no tag {tag}"
                    yield Finding(file, 0, f"{what} {said}, and the policy asks for {value!r}; have it evaluated first")


def _compared(model: Mapping[str, str], known: RegisteredVersion, file: str, what: str) -> Iterator[Finding]:
    for ours in _COMPARED:
        theirs = IDENTITY_FIELDS[ours]
        declared, has = model.get(theirs, ""), getattr(known.identity, ours)
        if declared and has and declared != has:
            yield Finding(file, 0, f"{theirs} is {declared}, and the registry has {has} of {what}; use backstay bump")
    if model.get("digest") and not known.identity.digest:
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
