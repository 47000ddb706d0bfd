"""Which forge a repository is at."""

from backstay.adapters.forge import Forge, ForgeRefused
from backstay.adapters.forge.credentials import Credential, Credentials
from backstay.adapters.forge.place import Place, host_and_path, usual_api

KINDS = ("gitea", "github", "gitlab")
_KNOWN = {"github.com": "github", "gitlab.com": "gitlab"}
_NAMES = {"gitea": "Gitea", "github": "GitHub", "gitlab": "GitLab"}


def forge_of(url: str, credentials: Credentials | None, *, kind: str = "", api: str = "") -> Forge:
    """Return the forge of a repository, with the credential that fits its URL.

    Args:
        url: the repository's URL, as for Git.
        credentials: where the token is; its ``<name>.forge`` and ``<name>.api`` say what the server is.
        kind: gitea, github or gitlab; by default what the credential says, or what the host is known to be.
        api: the base URL of the API, where it is not the usual one of that kind of server.

    Raises:
        ForgeRefused: there is no token, or it is not known what kind of forge the server is.
        CredentialError, GitUrlError: the credential or the URL cannot be used.
    """
    web, host, path = host_and_path(url)
    credential = credentials.find(url) if credentials else None
    if credential is None:
        raise ForgeRefused(f"There is no credential for {web}/{path}: pull requests need a token")
    kind = (kind or credential.text("forge") or _KNOWN.get(host, "")).lower()
    if kind not in KINDS:
        said = f"{kind!r} is not" if kind else f"It is not known which of {', '.join(KINDS)} {host} is, or"
        remedy = f"write one of {', '.join(KINDS)} into {credential.name}.forge of the Git credentials"
        raise ForgeRefused(f"{said} a forge that Backstay knows: {remedy}")
    base = (api or credential.text("api") or usual_api(kind, web, host)).rstrip("/")
    return _made(kind, Place(_NAMES[kind], base, path, credential.secrets()), credential)


def _made(kind: str, place: Place, credential: Credential) -> Forge:
    """Import the client that is needed, and none of the others: they are slow to import."""
    token = credential.token()
    match kind:
        case "github":
            from backstay.adapters.forge.github import GitHub  # noqa: PLC0415 - as above

            return GitHub(place, token)
        case "gitlab":
            from backstay.adapters.forge.gitlab import GitLab  # noqa: PLC0415 - as above

            return GitLab(place, token)
        case _:
            from backstay.adapters.forge.gitea import Gitea  # noqa: PLC0415 - as above

            return Gitea(place, token)
