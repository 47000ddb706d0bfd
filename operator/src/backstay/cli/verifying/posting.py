"""The comment on a pull request, at whichever forge the checkout came from."""

from pathlib import Path

from backstay.adapters.forge import ForgeError
from backstay.adapters.forge.choose import forge_of
from backstay.adapters.git_url import GitUrlError
from backstay.adapters.secrets import CredentialError
from backstay.cli.git.place import place_of
from backstay.cli.git.tokens import credentials_for, forge_kind
from backstay.cli.options import Target
from backstay.cli.terminal import warn
from backstay.cli.verifying.comment import MARKER


def post(root: Path, number: int, text: str, target: Target) -> None:
    """Write the comment, or say why not: the check's answer does not hang on it, since forks have no token."""
    try:
        place = place_of(str(root), "")
        found = credentials_for(place.url, token_file=target.token_file, forge=target.forge, checkout=root)
        with found as credentials:
            kind = forge_kind(place.url, target.forge)
            forge_of(place.url, credentials, kind=kind, api=target.forge_api).comment(number, marker=MARKER, body=text)
    except (ForgeError, GitUrlError, CredentialError) as problem:
        warn(f"backstay: there is no comment on pull request {number}: {problem}")
