"""GitHub Apps: a private key becomes a token for one repository, which lives for an hour."""

import hashlib
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import jwt
import requests
from github import Auth, GithubException, GithubIntegration

from backstay.adapters.forge import ForgeRefused
from backstay.adapters.forge.place import READ_SECONDS, Place

# A token is not used for its last minutes: a clone or a push may take that long.
_SPARE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class App:
    """An App as its credential has it; ``installation`` is looked up where it is not given."""

    identity: str
    key: str = field(repr=False)
    installation: str = ""


@dataclass(frozen=True, slots=True)
class _Minted:
    token: str
    expires: datetime


_minted: dict[tuple[str, str, str, str], _Minted] = {}
_turn = threading.Lock()


def installation_token(app: App, *, api: str, path: str) -> str:
    """Return a token for a repository, a new one where the last has little time left or the key has changed.

    Args:
        app: the App.
        api: the base URL of the API.
        path: ``owner/name``.

    Raises:
        ForgeRefused: the key is none, or GitHub does not know the App or its installation.
        ForgeUnavailable: GitHub does not answer.
    """
    slot = (app.identity, hashlib.sha256(app.key.encode()).hexdigest(), api, path)
    with _turn:
        known = _minted.get(slot)
        if known is None or known.expires - _SPARE <= datetime.now(UTC):
            known = _minted[slot] = _mint(app, Place("GitHub", api, path, (app.key,)))
    return known.token


def _mint(app: App, place: Place) -> _Minted:
    owner, _, name = place.path.partition("/")
    what = f"give App {app.identity} a token"
    with place.reached(what):
        try:
            github = GithubIntegration(
                auth=Auth.AppAuth(app.identity, app.key), base_url=place.api, timeout=int(READ_SECONDS), retry=None
            )
            number = int(app.installation) if app.installation else github.get_repo_installation(owner, name).id
            made = github.get_access_token(number)
        except GithubException as error:
            raise place.problem(what, error.status, str(error.message or "")) from None
        except requests.RequestException:
            raise
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            # The library's words may quote the key.
            raise ForgeRefused(
                f"The private key of App {app.identity} cannot be used ({type(error).__name__}): put the PEM file that "
                "GitHub gave into the credential's privateKey, and a number into installationID if it is there"
            ) from None
    return _Minted(made.token, made.expires_at.astimezone(UTC))
