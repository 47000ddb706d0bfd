"""What Argo CD's Applications tell: which one syncs an object, from where in Git, and how far it is. No I/O."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backstay.adapters.git_url import GitUrlError, parse_url

TRACKING_ID = "argocd.argoproj.io/tracking-id"
REFRESH = "argocd.argoproj.io/refresh"

_IN_CLUSTER = "https://kubernetes.default.svc"
_IN_CLUSTER_NAME = "in-cluster"
_COMMIT = re.compile(r"[0-9A-Fa-f]{7,40}")
_RANGE = re.compile(r"[*^~<>=|,\s]|^v?\d+(?:\.(?:\d+|[xX]))+(?:[-+].*)?$")
_BRANCHES = "refs/heads/"
_WRITABLE_TYPES = frozenset({"", "Kustomize", "Directory"})


@dataclass(frozen=True, slots=True)
class ApplicationRef:
    """The name of an Argo CD Application."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where in Git an Application's manifests come from; ``branch`` is empty for the repository's default branch."""

    url: str
    branch: str
    path: str


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """Why an Application's source cannot be written to: a sentence with the remedy."""

    sentence: str


@dataclass(frozen=True, slots=True)
class SyncState:
    """How far an Application is; what it does not tell is the empty string.

    ``revision`` is the commit it was last compared with and ``operation_revision`` the one of its last sync, whose
    ``phase`` is Running, Succeeded, Failed, Error or Terminating. ``message`` says what is in the way, if anything is.
    """

    revision: str
    operation_revision: str
    phase: str
    sync_status: str
    health: str
    message: str
    automated: bool


def tracking_application(  # noqa: PLR0913 - the coordinates of one object, by keyword
    annotations: Mapping[str, str], *, group: str, kind: str, namespace: str, name: str, default_namespace: str
) -> ApplicationRef | None:
    """Return the Application that an object's tracking annotation names.

    Args:
        annotations: the object's.
        group: the object's API group, like the next three what the annotation must name to be believed: a copy of
            somebody else's annotations names another object.
        kind: its kind.
        namespace: its namespace.
        name: its name.
        default_namespace: where Argo CD runs; Applications elsewhere carry their namespace in the annotation.

    Returns:
        None where there is no annotation, or it is not about this object.
    """
    application, _, rest = annotations.get(TRACKING_ID, "").partition(":")
    if not application or rest != f"{group}/{kind}:{namespace}/{name}":
        return None
    place, separator, short = application.partition("_")
    found = ApplicationRef(place, short) if separator else ApplicationRef(default_namespace, application)
    return found if found.namespace and found.name else None


def source_of(
    application: Mapping[str, Any], *, group: str, kind: str, namespace: str, name: str
) -> Source | SourceProblem:
    """Return the place in Git that declares an object, if the Application may be trusted with it and can be written to.

    Trusted is an Application that deploys to this cluster and lists the object among its resources: anybody may write
    an annotation, but only Argo CD writes that list.
    """
    who = _who(application)
    if not _lists(application, group=group, kind=kind, namespace=namespace, name=name):
        return SourceProblem(
            f"{who} does not list {kind} {namespace}/{name} among its resources; let it sync the object, "
            "or remove the tracking annotation"
        )
    destination = _map(_map(application, "spec"), "destination")
    server = str(destination.get("server", "")).rstrip("/")
    if server != _IN_CLUSTER and (server or destination.get("name") != _IN_CLUSTER_NAME):
        return SourceProblem(f"{who} deploys to another cluster; roll back from the Backstay of that cluster")
    if _map(application, "spec").get("sourceHydrator"):
        return SourceProblem(f"{who} writes its manifests with a source hydrator; use a plain source to have rollbacks")
    places = [index for index, source in enumerate(_sources(application)) if source.get("path")]
    if len(places) != 1:
        charts = any(source.get("chart") for source in _sources(application))
        problem = "installs a Helm chart" if charts and not places else f"has {len(places) or 'no'} sources with a path"
        return SourceProblem(f"{who} {problem}; give it exactly one Git source with a path")
    return _writable(application, places[0])


def sync_state(application: Mapping[str, Any]) -> SyncState:
    """Read how far an Application is."""
    status = _map(application, "status")
    sync, operation = _map(status, "sync"), _map(status, "operationState")
    automated = _map(_map(application, "spec"), "syncPolicy").get("automated")
    return SyncState(
        revision=_revision(application, sync),
        operation_revision=_revision(application, _map(operation, "syncResult")),
        phase=str(operation.get("phase", "")),
        sync_status=str(sync.get("status", "")),
        health=str(_map(status, "health").get("status", "")),
        message=_message(status),
        automated=isinstance(automated, Mapping) and automated.get("enabled") is not False,
    )


def refreshes(application: Mapping[str, Any]) -> bool:
    """Tell whether Argo CD has been asked to look at Git and has not done so yet: it takes the annotation off then."""
    return REFRESH in _map(_map(application, "metadata"), "annotations")


def refresh_patch() -> dict[str, Any]:
    """Return the merge patch that makes Argo CD look at Git now instead of at its next poll."""
    return {"metadata": {"annotations": {REFRESH: "normal"}}}


def _writable(application: Mapping[str, Any], index: int) -> Source | SourceProblem:
    who, source = _who(application), _sources(application)[index]
    if source.get("chart") or source.get("helm") or _type(application, index) not in _WRITABLE_TYPES:
        made = "Helm" if source.get("chart") or source.get("helm") else _type(application, index)
        return SourceProblem(f"{who} renders its source with {made}; use Kustomize or plain manifests")
    url, revision = str(source.get("repoURL", "")), str(source.get("targetRevision") or "")
    try:
        allowed = parse_url(url).scheme != "file"
    except GitUrlError as error:
        return SourceProblem(f"{who} cannot be written to: {error}")
    if not allowed:
        return SourceProblem(f"{who} reads a local folder; use an http, https or ssh URL")
    branch = "" if revision == "HEAD" else revision.removeprefix(_BRANCHES)
    if not revision.startswith(_BRANCHES) and branch:
        what = _no_branch(branch)
        if what:
            return SourceProblem(f"{who} follows {what} {branch}; set its targetRevision to a branch")
    return Source(url=url, branch=branch, path=str(source["path"]))


def _no_branch(revision: str) -> str:
    """Name what a revision is if it is no branch; a tag with a branch's name is told apart by the Git adapter."""
    if revision.startswith("refs/tags/"):
        return "the tag"
    if revision.startswith("refs/"):
        return "the reference"
    if _COMMIT.fullmatch(revision):
        return "the commit"
    return "the version range or tag" if _RANGE.search(revision) else ""


def _lists(application: Mapping[str, Any], *, group: str, kind: str, namespace: str, name: str) -> bool:
    wanted = (group, kind, namespace, name)
    resources = _map(application, "status").get("resources") or ()
    return any(
        tuple(listed.get(key, "") for key in ("group", "kind", "namespace", "name")) == wanted for listed in resources
    )


def _sources(application: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the sources; ``spec.sources`` hides ``spec.source``, as in Argo CD."""
    spec = _map(application, "spec")
    return spec.get("sources") or ([spec["source"]] if spec.get("source") else [])


def _type(application: Mapping[str, Any], index: int) -> str:
    status = _map(application, "status")
    types = status.get("sourceTypes") or ()
    return str(types[index] if index < len(types) else status.get("sourceType", ""))


def _revision(application: Mapping[str, Any], holder: Mapping[str, Any]) -> str:
    """Return the revision of the source with the path, out of a list where there are several sources."""
    revisions = holder.get("revisions") or ()
    places = [index for index, source in enumerate(_sources(application)) if source.get("path")]
    if revisions and places and places[0] < len(revisions):
        return str(revisions[places[0]])
    return str(holder.get("revision", ""))


def _message(status: Mapping[str, Any]) -> str:
    """Return what keeps the Application from syncing: an error condition, else what its last operation said."""
    for condition in status.get("conditions") or ():
        if str(condition.get("type", "")).endswith("Error"):
            return str(condition.get("message", ""))
    operation = _map(status, "operationState")
    return "" if operation.get("phase") == "Succeeded" else str(operation.get("message", ""))


def _who(application: Mapping[str, Any]) -> str:
    meta = _map(application, "metadata")
    return f"The Argo CD Application {meta.get('namespace', '')}/{meta.get('name', '')}"


def _map(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, Mapping) else {}
