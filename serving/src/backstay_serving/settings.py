"""What a model server is told when it starts, and how its parts are checked."""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from backstay_contract.locations import parse_prefixes

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REGISTERED = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>[0-9]+)")


class StartError(Exception):
    """The server cannot serve what it was told to; the message is one sentence for the person who deploys it."""


@dataclass(frozen=True)
class Registered:
    """A version of a registered model: `models:/<name>/<version>`."""

    name: str
    version: str


@dataclass(frozen=True)
class Folder:
    """A model's artifact folder that is already on this machine."""

    path: Path


@dataclass(frozen=True)
class Elsewhere:
    """Any other URI that MLflow's client can download: `runs:/…`, `s3://…`, `models:/<name>@<alias>`."""

    uri: str


Source = Registered | Folder | Elsewhere


@dataclass(frozen=True)
class Identity:
    """Who this server says it is: in its metrics, in `/version` and in the headers of every answer."""

    name: str
    version: str
    revision: str


@dataclass(frozen=True)
class Digest:
    """The digest that the artifacts must have."""

    value: str


@dataclass(frozen=True)
class AnyDigest:
    """No digest was given: the artifacts are taken as they are."""


@dataclass(frozen=True)
class Threshold:
    """The score from which on a binary classifier answers its positive class."""

    value: float


@dataclass(frozen=True)
class ModelsOwnDecision:
    """No threshold was given: the answer is what the model's own `predict` says."""


@dataclass(frozen=True)
class ModelSettings:
    """Which model, from where, and what is demanded of it.

    Attributes:
        source: where the artifacts come from.
        identity: the names to report.
        digest: what the artifacts must hash to.
        decision: how a score becomes a label.
        tracking_uri: the MLflow server; empty where the source needs none.
        download_folder: where downloads go; below it the server makes a folder of its own and removes it at the end.
        artifact_locations: where a version's artifacts may be beside the MLflow server: URL prefixes.
    """

    source: Source
    identity: Identity
    digest: Digest | AnyDigest
    decision: Threshold | ModelsOwnDecision
    tracking_uri: str
    download_folder: Path
    artifact_locations: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchSettings:
    """How waiting requests are joined into one call of the model.

    Attributes:
        max_requests: the most in one call; 1 joins none.
        max_wait_seconds: how long the first one of a call waits for others.
        max_bytes: the most of all their bodies together; a larger one goes alone.
    """

    max_requests: int
    max_wait_seconds: float
    max_bytes: int


@dataclass(frozen=True)
class ServerSettings:
    """How the server answers.

    Attributes:
        host: the address to listen on.
        port: the TCP port to listen on.
        drain_seconds: how long requests are still taken after SIGTERM, while the pod's address leaves the routes.
        max_body_bytes: the largest request body that is read.
        max_waiting: how many predictions may wait for the one that runs; more are answered 503 at once.
        batch: how those that wait are joined.
    """

    host: str
    port: int
    drain_seconds: float
    max_body_bytes: int
    max_waiting: int
    batch: BatchSettings


def parse_source(uri: str) -> Source:
    """Read a model URI: a registered version, a folder on this machine, or anything else that MLflow downloads."""
    registered = _REGISTERED.fullmatch(uri)
    if registered is not None:
        return Registered(name=registered["name"], version=registered["version"])
    if uri.startswith("file://"):
        return Folder(Path(uri.removeprefix("file://")))
    if "://" not in uri and not uri.startswith(("models:", "runs:", "mlflow-artifacts:")):
        return Folder(Path(uri))
    return Elsewhere(uri)


def identify(source: Source, *, name: str, version: str, revision: str) -> Identity:
    """Say who serves: what was given, completed by what the URI tells.

    Raises:
        StartError: the name or the version is neither given nor part of the URI, or they disagree.
    """
    match source:
        case Registered():
            for what, given, registered in (("NAME", name, source.name), ("VERSION", version, source.version)):
                if given not in ("", registered):
                    raise StartError(
                        f"MODEL_{what} is {given!r} but MODEL_URI is models:/{source.name}/{source.version}: "
                        f"set them to the same, or leave MODEL_{what} out"
                    )
            return Identity(name=source.name, version=source.version, revision=revision)
        case Folder() | Elsewhere():
            if not name or not version:
                raise StartError("Set MODEL_NAME and MODEL_VERSION: MODEL_URI does not say which version this is")
            return Identity(name=name, version=version, revision=revision)


def parse_artifact_locations(text: str) -> tuple[str, ...]:
    """Read MODEL_ARTIFACT_LOCATIONS; an empty one allows the MLflow server alone.

    Raises:
        StartError: one of them is no URL prefix.
    """
    try:
        return parse_prefixes(text)
    except ValueError as error:
        raise StartError(
            f"MODEL_ARTIFACT_LOCATIONS has {str(error)!r}, but its prefixes have a scheme and a place, such as s3://models/"
        ) from error


def parse_digest(text: str) -> Digest | AnyDigest:
    """Read MODEL_DIGEST; an empty one demands nothing.

    Raises:
        StartError: the text is no SHA-256 digest.
    """
    if not text:
        return AnyDigest()
    if not _DIGEST.fullmatch(text):
        raise StartError(f"MODEL_DIGEST is {text!r}, but a digest is `sha256:` and 64 hexadecimal digits")
    return Digest(text)


def parse_threshold(text: str) -> Threshold | ModelsOwnDecision:
    """Read SERVING_THRESHOLD; an empty one leaves the decision to the model.

    Raises:
        StartError: the text is no number from 0 to 1.
    """
    if not text:
        return ModelsOwnDecision()
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise StartError(f"SERVING_THRESHOLD is {text!r}, but a threshold is a number from 0 to 1")
    return Threshold(value)


def parse_buckets(text: str) -> tuple[float, ...]:
    """Read PREDICTION_BUCKETS: the upper edges of the prediction histogram, increasing, parted by commas, or none.

    Raises:
        StartError: an edge is no number, or they do not increase.
    """
    if not text:
        return ()
    try:
        edges = tuple(float(edge) for edge in text.split(","))
    except ValueError:
        raise StartError(f"PREDICTION_BUCKETS is {text!r}, but its edges are numbers parted by commas") from None
    if any(high <= low for low, high in pairwise(edges)):
        raise StartError(f"PREDICTION_BUCKETS is {text!r}, but its edges have to increase")
    return edges
