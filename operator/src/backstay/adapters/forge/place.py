"""Where a repository lives at a forge, and as whom it is talked to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import requests

from backstay.adapters.forge import ForgeRefused, ForgeUnavailable
from backstay.adapters.git_url import normalise_url

CONNECT_SECONDS, READ_SECONDS = 5.0, 20.0

_TOO_MANY = 429
_SERVER_FAULT = 500
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Place:
    """One repository at one forge.

    Args:
        forge: what to call it in sentences, such as ``GitHub``.
        api: the base URL of its API, without a slash at the end.
        path: ``owner/name``, with the groups in between that GitLab allows.
        secrets: what must not stand in any text.
    """

    forge: str
    api: str
    path: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def clean(self, text: str) -> str:
        """Take secrets out of a text and cut it to a line."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        line = " ".join(text.split())
        return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."

    def problem(self, what: str, status: int, said: str) -> ForgeRefused | ForgeUnavailable:
        """Make an error of a status code: what may pass by itself is told from what a person must act on."""
        told = f"{self.forge} did not {what} in {self.path} (status {status}{f': {self.clean(said)}' if said else ''})"
        if status >= _SERVER_FAULT or status == _TOO_MANY or (status in (403, 429) and "rate limit" in said.lower()):
            return ForgeUnavailable(told)
        remedy = {
            401: "give the credential a token that is valid",
            403: "give the token the right to read and write pull requests there",
            404: "see that the repository exists and the token may see it",
        }.get(status, "see what it says")
        return ForgeRefused(f"{told}: {remedy}")

    @contextmanager
    def reached(self, what: str) -> Iterator[None]:
        """Make an error of a connection that fails."""
        try:
            yield
        except requests.RequestException as error:
            # Their texts hold the whole URL, and a chain of causes that says little more.
            cause = type(error).__name__
            raise ForgeUnavailable(
                f"{self.forge} at {self.api} did not answer when asked to {what} ({cause})"
            ) from None


def host_and_path(url: str) -> tuple[str, str, str]:
    """Return the web address of a repository's server, its host, and the repository's path there."""
    parts = urlsplit(normalise_url(url))
    scheme = "http" if parts.scheme == "http" else "https"
    # An SSH port says nothing of where the web server listens.
    place = parts.netloc.rpartition("@")[2] if parts.scheme in ("http", "https") else parts.hostname or ""
    return f"{scheme}://{place}", parts.hostname or "", unquote(parts.path.strip("/"))


def usual_api(kind: str, web: str, host: str) -> str:
    """Return where a kind of forge has its API."""
    match kind:
        case "github":
            return "https://api.github.com" if host == "github.com" else f"{web}/api/v3"
        case "gitea":
            return f"{web}/api/v1"
        case _:
            return web
