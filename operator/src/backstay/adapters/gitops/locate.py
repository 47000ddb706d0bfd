"""Find the file that declares a ModelDeployment's version, and which versions it has declared before."""

from dataclasses import dataclass

from backstay.adapters.git.clone import Clone
from backstay.adapters.git.objects import TreeEntry
from backstay.adapters.gitops.kustomization import KUSTOMIZATIONS
from backstay.adapters.gitops.render import sources
from backstay.adapters.gitops.version_file import VersionFile, VersionFileError, read_version_file
from backstay.adapters.yaml_text.edit import LARGEST_FILE
from backstay.domain.resource import KIND, ModelIdentity, Rejection

USUAL_NAME = "model-version.yaml"
_REGULAR = frozenset({"100644", "100755"})
_LINK = "120000"
_MOST_COMMITS = 100
_MOST_VERSIONS = 20


class VersionFileMissingError(VersionFileError):
    """The folder, or a version file in it, does not exist."""


@dataclass(frozen=True, slots=True)
class HistoricVersion:
    """A version that the file declares or has declared, and the commit that set it."""

    identity: ModelIdentity
    commit: str


@dataclass(frozen=True, slots=True)
class Located:
    """The version file of a ModelDeployment at one commit of the branch.

    ``set_by`` is the commit that brought the declared version to the branch, ``changed_by`` the last one that changed
    anything that its folder is rendered from. ``history`` lists up to 20 distinct versions, newest first; the first one
    is the declared one.
    """

    head: str
    file: str
    identity: ModelIdentity
    rejected: tuple[Rejection, ...]
    retry_of: str
    set_by: str
    changed_by: str
    history: tuple[HistoricVersion, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A version file with its bytes; ``rendered`` tells whether Kustomize builds its folder."""

    entry: TreeEntry
    content: bytes
    declared: VersionFile
    folder: str
    rendered: bool


def find(clone: Clone, commit: str, *, path: str, name: str) -> Found:
    """Find the version file in a folder: ``model-version.yaml``, else the only file that sets the version.

    Raises:
        VersionFileMissingError: there is no such folder or file.
        VersionFileError: it is a link, cannot be read, or there are several.
        CloneBroken, GitUnavailable: the clone cannot be read.
    """
    folder = _clean(path)
    try:
        entries = clone.entries(commit, folder)
    except KeyError:
        raise VersionFileMissingError(
            f"{folder} is not a folder at commit {commit[:10]}; correct the path or restore the folder"
        ) from None
    rendered = bool(KUSTOMIZATIONS & entries.keys())
    usual = entries.get(USUAL_NAME)
    if usual is not None:
        _refuse_unfit(usual)
        content = clone.content(usual)
        return Found(usual, content, read_version_file(content, name=name, file=usual.path), folder, rendered)
    others = []
    for entry in entries.values():
        if entry.mode in _REGULAR and entry.size <= LARGEST_FILE and entry.path.endswith((".yaml", ".yml")):
            content = clone.content(entry)
            try:
                others.append(Found(entry, content, read_version_file(content, name=name), folder, rendered))
            except VersionFileError:
                continue
    if not others:
        raise VersionFileMissingError(
            f"{folder or 'The root folder'} has no {USUAL_NAME} at commit {commit[:10]}, and no other YAML file there "
            f"sets spec.model.version of {KIND} {name}; add one, with that name in its metadata"
        )
    if len(others) > 1:
        files = ", ".join(found.entry.path for found in others)
        raise VersionFileError(f"{files} all set spec.model.version of {KIND} {name}; keep it in {USUAL_NAME} alone")
    return others[0]


def version_file(clone: Clone, commit: str, *, path: str, name: str) -> str:
    """Return the path of the version file in a folder; the usual one where the commit has none that can be used.

    Raises:
        VersionFileError: the folder's path leads out of the repository.
        CloneBroken, GitUnavailable: the clone cannot be read.
    """
    folder = _clean(path)
    try:
        return find(clone, commit, path=folder, name=name).entry.path
    except VersionFileError:
        return f"{folder}/{USUAL_NAME}" if folder else USUAL_NAME


def locate(clone: Clone, head: str, *, path: str, name: str) -> Located:
    """Find the version file and what it has declared on the branch, following first parents only.

    Raises:
        VersionFileError: see `find`.
        GitError: the history cannot be read.
    """
    found = find(clone, head, path=path, name=name)
    history: dict[tuple[str, str, str], HistoricVersion] = {}
    complete: set[tuple[str, str, str]] = set()
    for commit, content in clone.revisions(head, found.entry.path, _MOST_COMMITS):
        identity = _identity(content, name)
        key = _key(identity)
        complete |= history.keys() - {key}
        if identity is None or key in complete:
            continue
        history[key] = HistoricVersion(history[key].identity if key in history else identity, commit)
    versions = tuple(history.values())[:_MOST_VERSIONS]
    return Located(
        head=head,
        file=found.entry.path,
        identity=found.declared.identity,
        rejected=found.declared.rejected,
        retry_of=found.declared.retry_of,
        set_by=versions[0].commit,
        changed_by=clone.read("rev-list", "--first-parent", "--max-count=1", head, "--", *_sources(clone, found)),
        history=versions,
    )


def _sources(clone: Clone, found: Found) -> list[str]:
    return [path or "." for path in sorted(sources(clone.tree, found.folder) or {found.folder})]


def _identity(content: bytes, name: str) -> ModelIdentity | None:
    try:
        return read_version_file(content, name=name).identity
    except VersionFileError:
        return None


def _key(identity: ModelIdentity | None) -> tuple[str, str, str]:
    """Return what makes a version another one: editing who promoted it does not."""
    return (identity.name, identity.version, identity.digest) if identity else ("", "", "")


def _clean(path: str) -> str:
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in parts or not path.isprintable():
        raise VersionFileError(f"{path!r} leads out of the repository; give the folder's path from its root")
    return "/".join(parts)


def _refuse_unfit(entry: TreeEntry) -> None:
    if entry.mode not in _REGULAR:
        kind = "a symbolic link" if entry.mode == _LINK else "not a file"
        raise VersionFileError(f"{entry.path} is {kind}; replace it by a regular file")
    if entry.size > LARGEST_FILE:
        raise VersionFileError(f"{entry.path} has {entry.size} bytes; a version file has at most {LARGEST_FILE}")
