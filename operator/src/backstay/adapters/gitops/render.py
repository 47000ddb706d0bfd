"""Check with Argo CD's own tool that an edit changes one ModelDeployment's ``spec.model`` and nothing else."""

import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from backstay.adapters.git.work_folder import COPY
from backstay.adapters.gitops.kustomization import KUSTOMIZATIONS, KustomizationError, inputs
from backstay.adapters.gitops.limited import Ended, Exceeded, Limits, run
from backstay.adapters.yaml_text.plain import PlainYamlError, values
from backstay.domain.resource import KIND

_MIB = 1024 * 1024
# The controller's pod has 1 GiB, and renders twice at the same time. A usual folder takes 60 MiB and 0.1 s.
LIMITS = Limits(memory=320 * _MIB, processor_seconds=8, seconds=20.0, output=4 * _MIB)
_HEAP = "200MiB"
_LARGEST_MANIFEST = _MIB
# How Go's runtime ends where it gets no memory; its message varies. Kustomize itself ends with 1.
_GO_DIED = (2, -signal.SIGABRT)
_MOST_NAMED = 5
_Key = tuple[str, str, str]


class RenderError(Exception):
    """A folder cannot be rendered; the message is a sentence with the remedy."""


class RenderTimeoutError(RenderError):
    """Rendering took too long or found no room, which may pass."""


def render(tree: Path, folder: str, *, home: Path) -> str:
    """Run ``kustomize build`` on a folder of a work tree and return the manifests.

    Kustomize sees a copy of the files that `kustomization.inputs` lets through, in ``home``; it gets none of our
    environment and finds no program, so that it can fetch nothing.

    Raises:
        RenderError: it must not start, failed, or is not installed; or (RenderTimeoutError) it did not end.
    """
    program = shutil.which("kustomize")
    if program is None:
        raise RenderError(f"{folder} cannot be checked without kustomize; install it on the PATH")
    try:
        found = inputs(tree, folder)
        with tempfile.TemporaryDirectory(prefix=COPY, dir=home) as made:
            copy = Path(os.path.realpath(made))
            return _built(Path(program).absolute(), folder, copy, found.copy(copy))
    except KustomizationError as error:
        raise RenderError(str(error)) from None
    except OSError as error:
        raise RenderTimeoutError(f"{folder} cannot be rendered now: {error.strerror}; free memory and disk") from None


def sources(tree: Path, folder: str) -> frozenset[str]:
    """List what rendering a folder of a work tree reads, as paths from its root: files, and folders with all in them.

    Nothing is listed where Kustomize must not start on the folder.
    """
    if not any((tree / folder / name).exists() for name in KUSTOMIZATIONS):
        return frozenset({folder})
    try:
        found = inputs(tree, folder)
    except (KustomizationError, OSError):
        return frozenset()
    return frozenset({folder, *(str(path.relative_to(found.root)) for path in (*found.folders[1:], *found.files))})


def check(before: str, after: str, *, name: str, namespace: str, version: str) -> None:
    """Compare the manifests before and after an edit of ``spec.model`` of one ModelDeployment.

    Args:
        before: the manifests before the edit.
        after: those after it.
        name: the ModelDeployment's name.
        namespace: its namespace, where the manifests give one.
        version: what ``spec.model.version`` must be after the edit; empty where the edit leaves it alone.

    Raises:
        RenderError: something else would change, or the edit does not arrive.
    """
    old, new = Counter(_documents(before)), Counter(_documents(after))
    if any(len(text) > _LARGEST_MANIFEST for text in (old - new) + (new - old)):
        raise RenderError("the edit changes a manifest of more than 1 MiB, which no cluster takes; make it smaller")
    removed, added = _by_key(old - new), _by_key(new - old)
    ours = next((key for key in added if key[0] == KIND and key[1] in {"", namespace} and key[2] == name), None)
    others = [_describe(key) for key in sorted(removed.keys() | added.keys()) if key != ours]
    model: Mapping[str, Any] = {}
    if ours is not None:
        was, becomes = removed.get(ours, []), added[ours]
        if len(was) != 1 or len(becomes) != 1:
            raise RenderError(f"{_describe(ours)} is rendered several times; declare it once")
        _take_model(was[0])
        model = _take_model(becomes[0])
        others += [f"{path} of {_describe(ours)}" for path in _differences(was[0], becomes[0])]
    if others:
        listed = ", ".join(others[:_MOST_NAMED])
        raise RenderError(f"the edit would also change {listed}; keep spec.model in a file that nothing else reads")
    if ours is None or (version and model.get("version") != version):
        raise RenderError(
            f"the edit does not reach spec.model of {KIND} {name}; list the version file among the kustomization's "
            "patches, and set spec.model.version nowhere else"
        )


def _built(program: Path, folder: str, copy: Path, place: Path) -> str:
    """Run Kustomize on a place in the copy."""
    environment = {"HOME": str(copy), "PATH": os.devnull, "LC_ALL": "C", "GOMAXPROCS": "2", "GOMEMLIMIT": _HEAP}
    ended = run([str(program), "build", str(place)], environment=environment, folder=copy, limits=LIMITS)
    if isinstance(ended, Ended) and ended.status == 0:
        return ended.out.decode(errors="replace")
    raise _failure(f"kustomize build {folder}", ended, copy)


def _failure(build: str, ended: Ended | Exceeded, copy: Path) -> RenderError:
    match ended:
        case Exceeded.TIME:
            return RenderTimeoutError(
                f"{build} did not end within {LIMITS.seconds:.0f} s; try again, or make the folder smaller"
            )
        case Exceeded.OUTPUT:
            what = f"writes more than {LIMITS.output // _MIB} MiB"
        case Ended(status, _, _) if status == -signal.SIGKILL:
            what = f"needs more than {LIMITS.processor_seconds} s of processor time, or more memory than there is"
        case Ended(status, _, error) if status in _GO_DIED and b"panic: " not in error:
            what = f"needs more than {LIMITS.memory // _MIB} MiB of memory"
        case Ended(_, _, error):
            said = " ".join(error.decode(errors="replace").replace(f"{copy}/", "").split())
            return RenderError(f"{build} fails: {said[:400]}; correct the folder so that it renders")
    return RenderError(f"{build} {what}; make the folder smaller")


def _documents(text: str) -> Iterator[str]:
    yield from (document.strip("\n") for document in f"\n{text}".split("\n---\n") if document.strip())


def _by_key(documents: Counter[str]) -> dict[_Key, list[dict[str, Any]]]:
    found: dict[_Key, list[dict[str, Any]]] = {}
    for text in documents.elements():
        for document in _read(text):
            meta = document.get("metadata") or {}
            key = (str(document.get("kind", "")), str(meta.get("namespace", "")), str(meta.get("name", "")))
            found.setdefault(key, []).append(document)
    return found


def _read(text: str) -> list[dict[str, Any]]:
    try:
        documents = values(text.encode())
    except PlainYamlError as problem:
        raise RenderError(f"a manifest that kustomize makes of the folder {problem}") from None
    if not all(isinstance(document, dict) and isinstance(document.get("metadata", {}), dict) for document in documents):
        raise RenderError("kustomize makes something of the folder that is no manifest; remove it from its resources")
    return documents


def _take_model(document: dict[str, Any]) -> Mapping[str, Any]:
    spec = document.get("spec")
    model = spec.pop("model", None) if isinstance(spec, dict) else None
    return model if isinstance(model, dict) else {}


def _differences(before: object, after: object, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before | after:
            yield from _differences(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
    elif before != after:
        yield path


def _describe(key: _Key) -> str:
    kind, namespace, name = key
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
