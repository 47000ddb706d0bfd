"""What the registry says of one version of a model: the facts for a version file, metrics and tags for people.

MLflow has no fields of its own for most of these facts. `FACTS` is the one table of the names under which they are
looked for; training writes them, by the names in `backstay_contract.tags`.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import quote

from backstay.adapters.git_url import without_user
from backstay.adapters.registry.access import RegistryAccess
from backstay.adapters.registry.artifacts import ArtifactLocationError, download, resolved
from backstay.adapters.registry.errors import RegistryUnavailableError
from backstay.adapters.secrets import CredentialError
from backstay.domain.resource import IDENTITY_FIELDS, ModelIdentity
from backstay_contract import tags as tag_names
from backstay_contract.digest import ArtifactError, NoArtifactsError, artifact_digest

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

READY = "READY"

# Fact of `ModelIdentity` -> where it may stand; the first place that has it counts. "tag" is a tag of the version,
# "run" one of the training run, "param" a parameter of the run.
FACTS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "digest": (("tag", tag_names.DIGEST), ("run", tag_names.DIGEST)),
    "code_commit": (
        ("tag", tag_names.CODE_COMMIT),
        ("run", tag_names.CODE_COMMIT),
        ("run", "mlflow.source.git.commit"),
    ),
    "data_checksum": (
        ("tag", tag_names.DATA_CHECKSUM),
        ("run", tag_names.DATA_CHECKSUM),
        ("param", "data_checksum"),
    ),
    "feature_schema_version": (
        ("tag", tag_names.FEATURE_SCHEMA_VERSION),
        ("run", tag_names.FEATURE_SCHEMA_VERSION),
        ("param", "feature_schema_version"),
    ),
}

# What the ModelDeployment's schema takes, so that no commit brings a file that the API server refuses.
PATTERNS: Mapping[str, tuple[str, str]] = {
    "name": (r"[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9])?", "the registered model's name alone"),
    "version": (r"[A-Za-z0-9._-]{1,64}", 'letters, digits, ".", "_" or "-", such as "7"'),
    "digest": (r"sha256:[0-9a-f]{64}", "sha256: and 64 lower-case hex digits"),
    "code_commit": (r"[0-9a-f]{7,64}", "a commit's 7 to 64 lower-case hex digits"),
    "data_checksum": (r"[a-z][a-z0-9]{1,15}:[0-9a-f]{8,128}", "algorithm:hex, such as sha256: and 64 hex digits"),
    "run_id": (r"[A-Za-z0-9._-]{1,64}", "the run's ID alone"),
    "feature_schema_version": (r"[A-Za-z0-9._-]{1,64}", 'letters, digits, ".", "_" or "-", such as "3"'),
    "promoted_by": (r"[^\x00-\x1f\x7f]{1,256}", "one line of text"),
    "promoted_at": (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "a time in UTC"),
}

_ABSENT = "RESOURCE_DOES_NOT_EXIST"
_REFUSED = "INVALID_PARAMETER_VALUE"


class ModelVersionError(Exception):
    """The registry answers, and what it says rules the version out; the message is a sentence with the remedy."""


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version as the registry has it.

    ``registry`` is its address without user and password. ``metrics`` are those of the training run and of the version,
    ``tags`` the version's own, ``identity`` what a version file says of it, without who promoted it and when.
    """

    identity: ModelIdentity
    registry: str
    status: str
    note: str = ""
    description: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    experiment: str = ""

    @property
    def url(self) -> str:
        """The version's page in MLflow."""
        name, version = quote(self.identity.name, safe=""), quote(self.identity.version, safe="")
        return f"{self.registry.rstrip('/')}/#/models/{name}/versions/{version}"

    @property
    def run_url(self) -> str:
        """The training run's page in MLflow; empty where it is not known."""
        if not (self.experiment and self.identity.run_id):
            return ""
        run = quote(self.identity.run_id, safe="")
        return f"{self.registry.rstrip('/')}/#/experiments/{quote(self.experiment, safe='')}/runs/{run}"

    @property
    def evaluation(self) -> dict[str, str]:
        """The tags that evaluation wrote, without those that say who approved."""
        gates = {tag_names.APPROVED, tag_names.APPROVER, tag_names.APPROVED_AT}
        return {
            name: value
            for name, value in self.tags.items()
            if name.startswith(tag_names.EVALUATION_PREFIX) and name not in gates
        }

    def with_digest(self, digest: str) -> "RegisteredVersion":
        """Return the same version with a digest."""
        return replace(self, identity=replace(self.identity, digest=digest))


class ModelRegistry:
    """Reads versions from MLflow; blocking.

    Args:
        uri: the tracking server, which is the registry too.
        access: the credentials that there are.

    Raises:
        RegistryUrlError: the address is not one of an MLflow server.
    """

    def __init__(self, uri: str, access: RegistryAccess) -> None:
        self._access = access
        self._at = access.connect(uri)
        self._shown = self._at.server.text

    def read(self, name: str, version: str) -> RegisteredVersion:
        """Read a version with its training run.

        Raises:
            ModelVersionError: the registry has no such version, or a fact of it cannot stand in a version file.
            RegistryUnavailableError: the registry gives no answer.
        """
        with self._errors(name, version):
            found = self._at.models.get_model_version(name, version)
        run = self._run(found)
        return RegisteredVersion(
            identity=_identity(found, run),
            registry=self._shown,
            status=str(found.status),
            note=str(found.status_message or ""),
            description=str(found.description or ""),
            metrics={
                **({key: float(value) for key, value in run.data.metrics.items()} if run else {}),
                **{metric.key: float(metric.value) for metric in found.metrics or ()},
            },
            tags={str(key): str(value) for key, value in found.tags.items()},
            experiment=str(run.info.experiment_id) if run else "",
        )

    def digest(self, name: str, version: str, allowed: tuple[str, ...] = ()) -> str:
        """Download a version's artifacts and return their digest, as the model server will compute it.

        Args:
            name: the registered model.
            version: its version.
            allowed: where artifacts may be beside the registry's own store: URL prefixes, see `artifacts`.

        Raises:
            ModelVersionError: it has no artifacts, something in them is no regular file, or they are where they may not
                be fetched from.
            RegistryUnavailableError: the registry or its store gives no answer.
        """
        what = f"version {version} of {name}"
        with TemporaryDirectory(prefix="backstay-") as folder, self._errors(name, version):
            source = resolved(self._at, self._at.models.get_model_version_download_uri(name, version))
            try:
                place = download(source, self._at.server, self._access, allowed, into=Path(folder))
            except ArtifactLocationError as problem:
                raise ModelVersionError(f"The artifacts of {what} are not fetched: {problem}") from None
            return version_digest(place, what)

    def _run(self, version: "ModelVersion") -> "Run | None":
        """Read the training run; one that was deleted takes its metrics along, and no more."""
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow to import

        if not version.run_id:
            return None
        with self._errors(version.name, version.version):
            try:
                run: Run = self._at.runs.get_run(version.run_id)
            except MlflowException as problem:
                if problem.error_code == _ABSENT:
                    return None
                raise
        return run

    @contextmanager
    def _errors(self, name: str, version: str) -> Iterator[None]:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow to import

        try:
            yield
        except CredentialError as problem:
            raise RegistryUnavailableError(str(problem)) from problem
        except (MlflowException, OSError) as problem:
            hint = self._access.hint(self._at.server, problem) if isinstance(problem, MlflowException) else ""
            if hint:
                # It says nothing of the version, which may be right.
                raise RegistryUnavailableError(hint) from None
            code = problem.error_code if isinstance(problem, MlflowException) else ""
            if code == _ABSENT:
                raise ModelVersionError(
                    f"The registry {self._shown} has no version {version} of {name}: register it, or name another"
                ) from None
            first = without_user((str(problem).splitlines() or [type(problem).__name__])[0])
            if code == _REFUSED:
                raise ModelVersionError(
                    f"The registry {self._shown} does not show version {version} of {name}: {first}"
                ) from None
            raise RegistryUnavailableError(
                f"The registry {self._shown} does not answer for version {version} of {name}: {first}"
            ) from None


def version_digest(folder: Path, what: str) -> str:
    """Return the digest of a version's artifact folder, as the reference model server checks it.

    Raises:
        ModelVersionError: there is no file, or something is neither a regular file nor a folder; ``what`` names it.
    """
    try:
        return artifact_digest(folder)
    except NoArtifactsError:
        raise ModelVersionError(f"{what} has no artifacts: log the model again, and register that") from None
    except ArtifactError as error:
        raise ModelVersionError(
            f"{error.path} in {what} is not a regular file: log the model with regular files only"
        ) from None


def unfit(identity: ModelIdentity) -> str:
    """Say which fact of a version cannot stand in a version file; empty where all can."""
    for ours, (pattern, form) in PATTERNS.items():
        value = getattr(identity, ours)
        if value and not re.fullmatch(pattern, value):
            return f"{IDENTITY_FIELDS[ours]} is {value[:80]!r}, where a version file takes {form}"
    return ""


def _identity(version: "ModelVersion", run: "Run | None") -> ModelIdentity:
    places = {"tag": version.tags, "run": run.data.tags if run else {}, "param": run.data.params if run else {}}
    facts = {
        fact: next((str(places[place][key]) for place, key in known if places[place].get(key)), "")
        for fact, known in FACTS.items()
    }
    identity = ModelIdentity(version.name, str(version.version), run_id=str(version.run_id or ""), **facts)
    problem = unfit(identity)
    if problem:
        raise ModelVersionError(
            f"Version {identity.version} of {identity.name} cannot be deployed as the registry describes it: {problem};"
            " correct its tag or the run's"
        )
    return identity
