"""Print what Python files below a folder import and this interpreter cannot: one line each, nothing if all is well.

A script without other imports than the standard library's. Imports within functions count, and those for types alone do
too: they are named in annotations.
"""

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each module, with the name that is taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


def _problem(module: str, name: str) -> str:
    try:
        found = importlib.import_module(module)
        if name and not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")
    except ImportError as problem:
        return str(problem)
    return ""


def _main(folder: Path) -> None:
    sources = sorted(folder.rglob("*.py"))
    wanted = {(one, source) for source in sources for one in _imported(ast.parse(source.read_text(encoding="utf-8")))}
    for (module, name), source in sorted(wanted, key=str):
        if problem := _problem(module, name):
            sys.stdout.write(f"{source}: {problem}\n")
    sys.stdout.write(f"{len(sources)} files\n")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
