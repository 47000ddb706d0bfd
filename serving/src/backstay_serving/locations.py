"""Where a version's artifacts may be fetched from.

The location is set by the program that registers a version. MLflow's client follows it to any host, with the
credentials of its environment, so it must be the tracking server itself, or a place that the deployer has named.
"""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_USUAL_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxied:
    """Artifacts that the tracking server hands out; the path in its artifact store."""

    path: str


@dataclass(frozen=True)
class Allowed:
    """Artifacts at another place that the deployer has named."""


@dataclass(frozen=True)
class Forbidden:
    """Artifacts at any other place."""


def locate(uri: str, *, tracking_uri: str, allowed: tuple[str, ...]) -> Proxied | Allowed | Forbidden:
    """Say what a version's location is.

    Args:
        uri: the location.
        tracking_uri: the MLflow server that told it.
        allowed: URL prefixes, as `parse_locations` returns them.
    """
    normal = _normalised(uri)
    if not normal:
        return Forbidden()
    tracking, parts = urlsplit(tracking_uri), urlsplit(uri)
    if tracking.scheme in _USUAL_PORTS:
        if parts.scheme == "mlflow-artifacts" and _is_server(parts._replace(scheme=tracking.scheme), tracking):
            return Proxied(parts.path.strip("/"))
        base, found, path = parts.path.partition(f"{PROXY}/")
        if found and base == tracking.path.rstrip("/") and parts.netloc and _is_server(parts, tracking):
            return Proxied(path.strip("/"))
    elif parts.scheme in {"", "file"} and not parts.netloc:
        # The tracking data are files of this machine themselves, and no server is asked.
        return Allowed()
    is_allowed = any(f"{normal}/".startswith(f"{prefix}/") for prefix in allowed)
    return Allowed() if is_allowed else Forbidden()


def parse_locations(text: str) -> tuple[str, ...]:
    """Read MODEL_ARTIFACT_LOCATIONS: URL prefixes, parted by spaces or commas, or none.

    Raises:
        ValueError: one of them is no URL prefix; it is the message.
    """
    words = [word for word in re.split(r"[\s,]+", text) if word]
    for word in words:
        scheme, _, place = _normalised(word).partition("://")
        if not place or scheme in {"runs", "models"}:
            raise ValueError(word)
    return tuple(map(_normalised, words))


def _is_server(parts: SplitResult, tracking: SplitResult) -> bool:
    """Tell whether a URL names the tracking server's scheme, host and port, or no host at all."""
    if "@" in parts.netloc or parts.query or parts.fragment:
        return False
    return not parts.netloc or _origin(parts) == _origin(tracking)


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    try:
        port = parts.port or _USUAL_PORTS.get(parts.scheme)
    except ValueError:
        port = -1
    return parts.scheme, (parts.hostname or "").lower(), port


def _normalised(uri: str) -> str:
    """Return the form in which locations are compared; empty for one that two programs may read in two ways."""
    decoded = unquote(unquote(uri))
    if not decoded.isprintable() or "\\" in decoded or {".", ".."} & set(re.split(r"[/?#;]", decoded)):
        return ""
    try:
        parts = urlsplit(f"file://{uri}" if uri.startswith("/") else uri)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path}".rstrip("/") if parts.scheme else ""
