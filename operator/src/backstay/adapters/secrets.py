"""Credentials as flat files in a mounted Secret, and which of them a URL gets: the one with the longest prefix."""

from collections.abc import Callable
from pathlib import Path


class CredentialError(Exception):
    """A credential cannot be used; the message is a sentence that names it and the remedy."""


def covers(prefix: str, url: str) -> bool:
    """Tell whether a URL is below a prefix, by whole path segments; both are normalised."""
    return f"{url}/".startswith(f"{prefix}/")


def best_fit(folder: Path, wanted: str, normalise: Callable[[str], str], what: str) -> tuple[Path, str] | None:
    """Return the ``<name>.url`` whose prefix covers a URL and is the longest that does, and that prefix.

    Args:
        folder: where the credentials are; one that is absent holds none.
        wanted: the URL, normalised.
        normalise: returns the normalised form of a prefix; raises ValueError with a sentence for one that is no URL.
        what: what the credentials are for, such as Git.

    Raises:
        CredentialError: none covers the URL, and one has a prefix that is no URL.
    """
    fitting, problems = [], []
    for file in sorted(folder.glob("*.url")):
        try:
            prefix = normalise(_text(file))
        except ValueError as error:
            problems.append(f"The {what} credential {file.stem} is unusable: {error}")
            continue
        if covers(prefix, wanted):
            fitting.append((file, prefix))
    if not fitting:
        if problems:
            raise CredentialError(problems[0])
        return None
    return max(fitting, key=lambda known: len(known[1]))


def secret_text(file: Path) -> str:
    """Return what a file of a credential says; empty where it is absent."""
    return _text(file) if file.is_file() else ""


def _text(file: Path) -> str:
    return file.read_bytes().decode(errors="replace").strip()
