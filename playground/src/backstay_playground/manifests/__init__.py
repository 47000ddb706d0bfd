"""Configuration files and Kubernetes objects of the playground; $names in them are filled in by their readers."""

from pathlib import Path


def read(name: str) -> str:
    """Return the text of the file `name` beside this module."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
