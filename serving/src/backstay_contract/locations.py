"""Where a version's artifacts may be fetched from.

The location is set by the program that registers a version. MLflow's client follows it to any host, with the
credentials of its environment, so it must be the tracking server itself, or a place that the deployer has named.
"""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
"""The path at which an MLflow server hands out artifacts."""
SERVED = frozenset({"mlflow-artifacts", "http", "https"})
"""The schemes of locations for which a server is asked that may want credentials."""
_USUAL_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxied:
    """Artifacts that an MLflow server hands out.

    Attributes:
        server: its address; the tracking server's where the location names no host.
        path: the path in its artifact store.
    """

    server: str
    path: str


@dataclass(frozen=True)
class Allowed:
    """Artifacts at another place that the deployer has named."""


@dataclass(frozen=True)
class Forbidden:
    """Artifacts at any other place."""


def locate(location: str, *, tracking_uri: str, allowed: tuple[str, ...]) -> Proxied | Allowed | Forbidden:
    """Say what a version's location is.

    Args:
        location: the URL that the tracking server tells.
        tracking_uri: that server, or a folder or database of this machine that is used in place of one.
        allowed: URL prefixes, as `parse_prefixes` returns them.

    Returns:
        `Proxied` for the tracking server alone.
    """
    normal = _normalised(location)
    if not normal:
        return Forbidden()
    parts = urlsplit(location)
    if urlsplit(tracking_uri).scheme in _USUAL_PORTS:
        found = proxied(location, tracking_uri=tracking_uri)
        if found is not None and _place(found.server) == _place(tracking_uri):
            return found
    elif parts.scheme in {"", "file"} and not parts.netloc:
        # The tracking data are files of this machine themselves, and no server is asked.
        return Allowed()
    is_allowed = any(f"{normal}/".startswith(f"{prefix}/") for prefix in allowed)
    return Allowed() if is_allowed else Forbidden()


def proxied(location: str, *, tracking_uri: str) -> Proxied | None:
    """Tell which MLflow server hands artifacts out, the tracking server or another; None for any other location.

    Args:
        location: the URL that the tracking server tells.
        tracking_uri: the http or https URL of that server.
    """
    parts, tracking = urlsplit(location), urlsplit(tracking_uri)
    if not _normalised(location) or "@" in parts.netloc or parts.query or parts.fragment:
        return None
    if parts.scheme == "mlflow-artifacts":
        server = f"{tracking.scheme}://{parts.netloc}{tracking.path}" if parts.netloc else tracking_uri
        return Proxied(server, parts.path.strip("/"))
    base, found, path = parts.path.partition(f"{PROXY}/")
    if parts.scheme not in _USUAL_PORTS or not parts.netloc or not found:
        return None
    return Proxied(f"{parts.scheme}://{parts.netloc}{base}", path.strip("/"))


def parse_prefixes(text: str) -> tuple[str, ...]:
    """Read the URL prefixes of allowed places, parted by spaces or commas, such as `s3://models/ file:///srv/models`.

    Raises:
        ValueError: one of them is no URL prefix; it is the message.
    """
    words = [word for word in re.split(r"[\s,]+", text) if word]
    for word in words:
        scheme, _, place = _normalised(word).partition("://")
        if not place or scheme in {"runs", "models"}:
            raise ValueError(word)
    return tuple(map(_normalised, words))


def _place(server: str) -> tuple[str, str, int | None, tuple[str, ...]]:
    """Return what is equal for two ways of writing one server's address."""
    parts = urlsplit(server)
    return parts.scheme, (parts.hostname or "").lower(), _port(parts), tuple(filter(None, parts.path.split("/")))


def _port(parts: SplitResult) -> int | None:
    try:
        return _USUAL_PORTS.get(parts.scheme) if parts.port is None else parts.port
    except ValueError:
        return -1


def _normalised(location: str) -> str:
    """Return the form in which locations are compared; empty for one that two programs may read in two ways."""
    decoded = unquote(unquote(location))
    if not decoded.isprintable() or "\\" in decoded or {".", ".."} & set(re.split(r"[/?#;]", decoded)):
        return ""
    try:
        urlsplit(location)
        parts = urlsplit(f"file://{location}" if location.startswith("/") else location)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path}".rstrip("/") if parts.scheme else ""
