"""Argo CD's Applications in the repository, which deliver its environments."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from backstay.adapters.yaml_text.plain import PlainYamlError, child, read
from backstay.cli.verifying.environments import APPLICATIONS, Environment
from backstay.cli.verifying.findings import Finding

_FOLDER = f"{APPLICATIONS}/argocd"


def undelivered(root: Path, environments: Iterable[Environment]) -> Iterator[Finding]:
    """Find Applications of environments that do not exist, which Argo CD could not sync."""
    known = {one.path for one in environments}
    for file in sorted((root / _FOLDER).glob("*.y*ml")):
        where = file.relative_to(root).as_posix()
        if not file.resolve().is_relative_to(root):
            yield Finding(where, 0, "the file is a link out of the repository; put the file itself here")
            continue
        try:
            documents = read(file)
        except (PlainYamlError, OSError) as problem:
            yield Finding(where, getattr(problem, "line", 0), f"the file {problem}")
            continue
        for document in documents:
            path = _path(document.value)
            if path.startswith(f"{APPLICATIONS}/") and path not in known and path != _FOLDER:
                node = child(child(child(document.node, "spec"), "source"), "path")
                line = node.start_mark.line + 1 if node is not None else 0
                sentence = f"{path} is no environment here; name one of {', '.join(sorted(known))}, or add it"
                yield Finding(where, line, sentence)


def _path(document: Any) -> str:
    if not isinstance(document, dict) or document.get("kind") != "Application":
        return ""
    spec = document.get("spec")
    source = spec.get("source") if isinstance(spec, dict) else None
    path = source.get("path") if isinstance(source, dict) else None
    return path.strip("/") if isinstance(path, str) else ""
