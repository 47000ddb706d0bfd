"""URLs of Git repositories: which ones are allowed, and when two name the same repository."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_SCP_LIKE = re.compile(
    r"(?:(?P<user>\w[^@/:\s]*)@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:]+\]):(?P<path>(?!//).+)"
)
_USUAL_PORTS = {"http": 80, "https": 443, "ssh": 22}
_SCHEMES = ("http", "https", "ssh", "file")


class GitUrlError(ValueError):
    """A URL that Backstay does not use; the message is a sentence that names it without its password."""


@dataclass(frozen=True, slots=True)
class GitUrl:
    """A repository's URL in two forms.

    ``identity`` is equal for two ways of writing one repository; ``connect`` is what git is given, without a password.
    """

    scheme: str
    identity: str
    connect: str


def parse_url(url: str) -> GitUrl:
    """Parse an http, https, ssh or file URL, or ssh's short form ``git@host:path``.

    Raises:
        GitUrlError: it is none of these, or its path leads outside itself.
    """
    if not url.isprintable() or " " in url:
        raise GitUrlError(f"{without_user(url)!r} is not a URL; write it like https://host/owner/repository.git")
    short = _SCP_LIKE.fullmatch(url) if "://" not in url else None
    if short:
        user = f"{short['user']}@" if short["user"] else ""
        path = short["path"].strip("/")
        _refuse_odd_path(path, url)
        host = short["host"].lower()
        return GitUrl("ssh", f"ssh://{host}/{_without_suffix(path)}", f"{user}{host}:{short['path']}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise GitUrlError(
            f"{without_user(url)} is not a URL; write it like https://host/owner/repository.git"
        ) from None
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if scheme not in _SCHEMES or bool(host) == (scheme == "file") or parts.query or parts.fragment:
        raise GitUrlError(
            f"{without_user(url)} is not a repository that Backstay can write to; use an http, https or ssh URL"
        )
    _refuse_odd_path(parts.path, url)
    host = f"[{host}]" if ":" in host else host
    place = host if port in {None, _USUAL_PORTS.get(scheme)} else f"{host}:{port}"
    user = f"{parts.username}@" if scheme == "ssh" and parts.username else ""
    return GitUrl(
        scheme,
        f"{scheme}://{place}/{_without_suffix(parts.path.strip('/'))}".rstrip("/"),
        f"{scheme}://{user}{place}{parts.path}",
    )


def normalise_url(url: str) -> str:
    """Return the form of a URL that is equal for two ways of writing one repository.

    The case of the host, the usual port, user information, ``.git`` and slashes at the end make no difference.

    Raises:
        GitUrlError: Backstay does not use such URLs.
    """
    return parse_url(url).identity


def without_user(text: str) -> str:
    """Return a text whose URLs have lost the user and password before their host."""
    return re.sub(r"(?<=://)[^/\s'\"]*@", "", text)


def _without_suffix(path: str) -> str:
    return path.rstrip("/").removesuffix(".git").rstrip("/")


def _refuse_odd_path(path: str, url: str) -> None:
    """Refuse what a server may resolve to another repository than the one whose prefix was allowed."""
    decoded = unquote(path)
    if {".", ".."} & set(re.split(r"[/\\]", decoded)) or not decoded.isprintable():
        raise GitUrlError(f"{without_user(url)!r} has a path that Backstay does not follow; write it out plainly")
