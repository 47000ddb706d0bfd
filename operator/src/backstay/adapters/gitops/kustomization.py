"""What Kustomize may read for a folder, decided before Kustomize starts.

Tenants write kustomizations, and Kustomize does more with them than render. What looks like an address is fetched by
git or HTTP, even where a file of that name exists, and an address may hold options of git, which run commands.
Kustomize takes a field's name in any case. So each field must be on a list and be spelled as there, and each path must
lead to a file or folder of the work tree. Kustomize then gets a copy of these files alone, in which the
kustomizations are written anew from what was checked here.
"""

import difflib
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NoReturn

import yaml

from backstay.adapters.messages.plain import one_line
from backstay.adapters.yaml_text.edit import LARGEST_FILE
from backstay.adapters.yaml_text.strict import StrictYamlError, compose, is_null, write

KUSTOMIZATIONS = frozenset({"kustomization.yaml", "kustomization.yml", "Kustomization"})

_MOST_PATHS = 1000
_MOST_BYTES = 4 * 1024 * 1024
_LONGEST_PATH = 1024
_LONGEST_NAMED = 120
# What Kustomize takes for an address begins with a scheme, user@host or github.com, in any case.
_ADDRESS = re.compile(r"[:?]|^[^/]*@|^github\.com/", re.IGNORECASE)


class _Kind(StrEnum):
    """What a path must lead to."""

    FILE = "file"
    FOLDER = "folder"
    EITHER = "file or folder"


_LISTS: Mapping[str, _Kind] = {
    "resources": _Kind.EITHER,
    "bases": _Kind.EITHER,
    "components": _Kind.FOLDER,
    "configurations": _Kind.FILE,
    "crds": _Kind.FILE,
}
_PATCH = frozenset({"options", "patch", "path", "target"})
_GENERATOR = frozenset({"behavior", "env", "envs", "files", "literals", "name", "namespace", "options"})
# Lists of mappings that may name files, with the fields of an entry.
_ENTRIES: Mapping[str, frozenset[str]] = {
    "patches": _PATCH,
    "patchesJson6902": _PATCH,
    "replacements": frozenset({"path", "source", "sourceValue", "targets"}),
    "configMapGenerator": _GENERATOR,
    "secretGenerator": _GENERATOR | {"type"},
}
_STRATEGIC, _OPENAPI = "patchesStrategicMerge", "openapi"
# No value of these fields names a file.
_PLAIN = frozenset(
    {
        *("apiVersion", "kind", "metadata", "namespace", "namePrefix", "nameSuffix", "commonLabels", "labels"),
        *("commonAnnotations", "images", "imageTags", "replicas", "vars", "sortOptions", "generatorOptions"),
        "buildMetadata",
    }
)
_KNOWN = frozenset({*_LISTS, *_ENTRIES, _STRATEGIC, _OPENAPI, *_PLAIN})
_CHARTS = "has charts fetched from elsewhere; render them, and commit the manifests"
_PLUGINS = (
    "configures plugins, which may fetch files or run programs; use patches, labels, replacements and other fields of "
    "a kustomization, or commit what the plugins make"
)
_REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("helmCharts", "helmChartInflationGenerator", "helmGlobals"), _CHARTS),
    **dict.fromkeys(("generators", "transformers", "validators"), _PLUGINS),
}


class KustomizationError(Exception):
    """Kustomize must not start on a folder.

    Args:
        file: what is to be mended, from the root of the work tree.
        sentence: what is wrong with it, and the remedy.
        line: where in the file; 0 where no line is to blame.
    """

    def __init__(self, file: str, sentence: str, line: int = 0) -> None:
        super().__init__(f"{file}{f' (line {line})' if line else ''}: {sentence}")
        self.file = file
        self.sentence = sentence
        self.line = line


@dataclass(frozen=True, slots=True)
class Inputs:
    """What Kustomize may read for a folder.

    Args:
        root: the work tree, without links in its path.
        folders: the folders with a kustomization: the one to build, and those that it builds on.
        files: what is read, each before what it builds on.
        kustomizations: those of the files that are kustomizations, as Kustomize gets them.
    """

    root: Path
    folders: tuple[Path, ...]
    files: tuple[Path, ...]
    kustomizations: Mapping[Path, bytes]

    def copy(self, to: Path) -> Path:
        """Put all of it into an empty folder, at the same paths, and return the folder to build there.

        Raises:
            OSError: it cannot be read or written.
        """
        for file in self.files:
            target = to / file.relative_to(self.root)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.kustomizations[file] if file in self.kustomizations else file.read_bytes())
        return to / self.folders[0].relative_to(self.root)


def inputs(tree: Path, folder: str) -> Inputs:
    """Find what Kustomize may read for a folder of a work tree.

    Raises:
        KustomizationError: a kustomization cannot be read or is ambiguous, has a field that is not allowed, or names
            something from elsewhere or something that is not there; or there is too much of it.
        OSError: a file cannot be read.
    """
    root = Path(os.path.realpath(tree))
    top = Path(os.path.realpath(root / folder))
    if not top.is_relative_to(root):
        raise KustomizationError(folder, "the folder lies outside of the repository; copy it into the repository")
    files: dict[Path, None] = {}
    folders: dict[Path, None] = {}
    written: dict[Path, bytes] = {}
    paths = size = 0
    pending = deque([top])
    while pending:
        place = pending.popleft()
        if place in folders:
            continue
        folders[place] = None
        kustomization = _Kustomization.of(root, place)
        for path in chain([kustomization.file], kustomization.named()):
            paths += 1
            if path.is_dir():
                pending.append(path)
            elif path not in files:
                files[path] = None
                size += path.stat().st_size
            if paths > _MOST_PATHS or size > _MOST_BYTES:
                most = f"{_MOST_PATHS} paths or {_MOST_BYTES // 1024**2} MiB"
                kustomization.refuse(f"the folder is built from more than {most}; build it from less")
        written[kustomization.file] = write(kustomization.top)
    return Inputs(root, tuple(folders), tuple(files), written)


@dataclass(frozen=True, slots=True)
class _Kustomization:
    """One kustomization: ``top`` is what it says, with links in paths resolved once these have been gone through."""

    root: Path
    file: Path
    top: yaml.Node

    @staticmethod
    def of(root: Path, folder: Path) -> "_Kustomization":
        """Read a folder's kustomization."""
        there = [folder / name for name in sorted(KUSTOMIZATIONS) if os.path.lexists(folder / name)]
        if len(there) != 1:
            several = f"the folder has {' and '.join(file.name for file in there)}; keep one of them"
            none = "the folder has no kustomization.yaml; add one that lists base and patches"
            raise KustomizationError(folder.relative_to(root).as_posix(), several if there else none)
        (file,) = there
        where = file.relative_to(root).as_posix()
        if file.is_symlink() or not file.is_file():
            raise KustomizationError(where, "the kustomization is a link or folder; replace it by a regular file")
        size = file.stat().st_size
        if size > LARGEST_FILE:
            raise KustomizationError(where, f"the kustomization has {size} bytes; it has at most {LARGEST_FILE}")
        try:
            return _Kustomization(root, file, compose(file.read_bytes()))
        except StrictYamlError as problem:
            raise KustomizationError(where, f"the kustomization {problem}", problem.line) from None

    def refuse(self, sentence: str, node: yaml.Node | None = None) -> NoReturn:
        """Say what is wrong with it, at the line of a node."""
        line = node.start_mark.line + 1 if node is not None else 0
        raise KustomizationError(self.file.relative_to(self.root).as_posix(), sentence, line)

    def named(self) -> Iterator[Path]:
        """Go through the files and folders that it names, all of them in the work tree.

        Raises:
            KustomizationError: it has a field that it may not have, or names what it may not name.
        """
        for field, value in self._fields(self.top, _KNOWN):
            if field in _LISTS:
                yield from (self._found(entry, _LISTS[field]) for entry in self._entries(value))
            elif field in _ENTRIES:
                for entry in self._entries(value):
                    yield from self._entry(entry, _ENTRIES[field])
            elif field == _STRATEGIC:
                entries = self._entries(value)
                yield from (self._found(entry, _Kind.FILE) for entry in entries if not self._is_inline(entry))
            elif field == _OPENAPI and not is_null(value):
                yield from self._entry(value, frozenset({"path", "version"}))

    def _fields(self, node: yaml.Node, known: frozenset[str]) -> Iterator[tuple[str, yaml.Node]]:
        """Go through the fields of a mapping, which must be known ones, in their own spelling and once each."""
        if not isinstance(node, yaml.MappingNode):
            self.refuse("the kustomization has something else where fields are due; write one field a line", node)
        seen = set()
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name not in known:
                self.refuse(f"{_quoted(name)} {_REFUSED.get(name) or _remedy(name, known)}", key)
            if name in seen:
                self.refuse(f"the kustomization says {name} twice; keep one of them", key)
            seen.add(name)
            yield name, value

    def _entries(self, node: yaml.Node) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode) and not is_null(node):
            self.refuse("the kustomization has something else where a list is due; write one entry a line", node)
        entries: list[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else []
        return entries

    def _entry(self, entry: yaml.Node, known: frozenset[str]) -> Iterator[Path]:
        """Go through the files that an entry with fields names."""
        for field, value in self._fields(entry, known):
            if field in {"path", "env"} and not is_null(value):
                yield self._found(value, _Kind.FILE)
            elif field == "envs":
                yield from (self._found(each, _Kind.FILE) for each in self._entries(value))
            elif field == "files":
                yield from (self._keyed(each) for each in self._entries(value))

    def _keyed(self, node: yaml.Node) -> Path:
        """Find a generator's file, which may stand behind a key and an equals sign."""
        text = self._text(node)
        key, _, path = text.rpartition("=")
        if _ADDRESS.search(key):
            key, path = "", text
        if "=" in key or (not key and path != text):
            self.refuse(f"{_quoted(text)} is no file of a generator; write key=file, or the file alone", node)
        found, written = self._resolved(node, path, _Kind.FILE)
        if written != path:
            # The file's name is the key where none is given, and a link keeps its own.
            node.value = f"{key or PurePosixPath(path).name}={written}"
        return found

    def _found(self, node: yaml.Node, kind: _Kind) -> Path:
        found, node.value = self._resolved(node, self._text(node), kind)
        return found

    def _resolved(self, node: yaml.Node, text: str, kind: _Kind) -> tuple[Path, str]:
        """Return what a path leads to, and the path to write for it: the same one, unless a link is in it."""
        # As Kustomize does: two dots take away what is before them, and links are followed after that.
        plain = Path(os.path.normpath(self.file.parent / text.replace("\0", "")))
        path = Path(os.path.realpath(plain))
        inside = path.relative_to(self.root) if path.is_relative_to(self.root) else None
        is_folder = os.path.isdir(path)  # noqa: PTH112 - False also where the system refuses the path, as for a long name
        is_file = os.path.isfile(path)  # noqa: PTH113 - as above
        complaint = ""
        if _ADDRESS.search(text):
            complaint = "comes from elsewhere and may change without a commit here; copy it into the repository"
        elif not text or len(text) > _LONGEST_PATH or not text.isprintable():
            complaint = "is no path; name a file or folder of the repository"
        elif text.startswith("/") or inside is None:
            complaint = "lies outside of the repository; copy it into the repository"
        elif ".git" in str(inside).lower().split("/"):
            complaint = "belongs to Git itself; name a file or folder of the repository"
        elif not is_folder and not is_file:
            complaint = "is not there; correct the path so that the folder renders"
        elif kind is not _Kind.EITHER and is_folder is not (kind is _Kind.FOLDER):
            complaint = f"is no {kind}, and one is due here; correct the path"
        elif is_file and path.name in KUSTOMIZATIONS:
            complaint = "is a kustomization, which is no file to include; name its folder"
        if complaint:
            self.refuse(f"{_quoted(text)} {complaint}", node)
        # What a link leads to may be called like an address; nothing that begins with a dot is taken for one.
        return path, text if path == plain else f"./{os.path.relpath(path, self.file.parent)}"

    def _is_inline(self, node: yaml.Node) -> bool:
        """Tell a patch that is written in place; no path has a line end or a brace at its start."""
        text = self._text(node)
        return "\n" in text or text.lstrip().startswith("{")

    def _text(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self.refuse("the kustomization has something else where a path is due; write a path", node)
        return str(node.value)


def _remedy(name: str, known: frozenset[str]) -> str:
    near = difflib.get_close_matches(name.lower(), [one.lower() for one in known], n=1)
    meant = [one for one in known if one.lower() in near]
    remedy = f"write {meant[0]}, or take it out" if meant else "take it out"
    return f"is not a field that a kustomization may have here; {remedy}"


def _quoted(text: str) -> str:
    return one_line(text, _LONGEST_NAMED) or "an empty text"
