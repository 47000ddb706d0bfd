"""Check with Argo CD's own tool that an edit changes one ModelDeployment's ``spec.model`` and nothing else."""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from backstay.domain.resource import KIND

KUSTOMIZATIONS = frozenset({"kustomization.yaml", "kustomization.yml", "Kustomization"})
_SECONDS = 20.0
_KEPT = ("PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_MOST_NAMED = 5
_LONGEST_PATH = 200
_Key = tuple[str, str, str]


class RenderError(Exception):
    """A folder cannot be rendered; the message is a sentence with the remedy."""


class RenderTimeoutError(RenderError):
    """Rendering took too long, which may pass: a base may have to come over the network."""


def render(tree: Path, folder: str, *, home: Path) -> str:
    """Run ``kustomize build`` on a folder of a work tree and return the manifests.

    Kustomize gets neither our credentials nor our configuration, since a base may be anywhere.

    Raises:
        RenderError: it failed, is not installed, or (RenderTimeoutError) did not end.
    """
    environment = {name: os.environ[name] for kept in _KEPT for name in (kept, kept.lower()) if name in os.environ}
    environment |= {"HOME": str(home), "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C"}
    command = ["kustomize", "build", str(tree / folder)]
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=tree,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise RenderError(f"{folder} cannot be checked without kustomize; install it on the PATH") from None
    with process:
        try:
            out, err = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise RenderTimeoutError(f"kustomize build {folder} did not end within {_SECONDS:.0f} s") from None
    if process.returncode:
        said = " ".join(err.decode(errors="replace").replace(f"{tree}/", "").split())
        raise RenderError(f"kustomize build {folder} fails: {said[:400]}; correct the folder so that it renders")
    return out.decode(errors="replace")


def sources(tree: Path, folder: str) -> frozenset[str]:
    """List what rendering a folder of a work tree reads, as paths from its root: files, and folders with all in them.

    Kustomize reads what its own files name, so every text in them that names something in the tree counts. Nothing is
    listed where one of them cannot be read.
    """
    root, found, pending = tree.resolve(), {folder}, [tree.resolve() / folder]
    while pending:
        place = pending.pop()
        try:
            texts = [text for name in KUSTOMIZATIONS if (place / name).is_file() for text in _texts(place / name)]
        except (OSError, ValueError, yaml.YAMLError):
            return frozenset()
        named = ((place / text).resolve() for text in texts)
        for path in named:
            if not path.is_relative_to(root) or not path.exists() or str(path.relative_to(root)) in found:
                continue
            found.add(str(path.relative_to(root)))
            if path.is_dir():
                pending.append(path)
    return frozenset(found)


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


def _texts(file: Path) -> Iterator[str]:
    """Go through the texts in a YAML file that may be paths; generators write them behind a key and an equals sign."""
    pending = list(yaml.load_all(file.read_bytes(), Loader=yaml.CSafeLoader))
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str) and "\n" not in value and len(value) < _LONGEST_PATH:
            yield from (value, value.partition("=")[2] or value)


def _documents(text: str) -> Iterator[str]:
    yield from (document.strip("\n") for document in f"\n{text}".split("\n---\n") if document.strip())


def _by_key(documents: Counter[str]) -> dict[_Key, list[dict[str, Any]]]:
    found: dict[_Key, list[dict[str, Any]]] = {}
    for text in documents.elements():
        document = yaml.load(text, Loader=yaml.CSafeLoader)
        meta = document.get("metadata") or {}
        key = (str(document.get("kind", "")), str(meta.get("namespace", "")), str(meta.get("name", "")))
        found.setdefault(key, []).append(document)
    return found


def _take_model(document: dict[str, Any]) -> Mapping[str, Any]:
    model = (document.get("spec") or {}).pop("model", None)
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
