"""The checks of pull requests that `backstay init` adds: which file each forge wants, and what its runners install."""

import re

from backstay.adapters.git_url import without_user
from backstay.adapters.shipped import shipped_files
from backstay.cli.start.scaffold import ScaffoldError

# The shipped file, and where the forge looks for it.
_PLACES = {
    "github": ("pipelines/checks/github.yaml", ".github/workflows/backstay.yaml"),
    "gitlab": ("pipelines/checks/gitlab.yaml", ".gitlab-ci.yml"),
    "gitea": ("pipelines/checks/gitea.yaml", ".gitea/workflows/backstay.yaml"),
}
_EMPTY = 'BACKSTAY_PACKAGE: ""'

# No character that YAML, a shell or a forge's expressions give a meaning to between double quotes.
_HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?"
_PATH = r"(/[A-Za-z0-9._~+%-]+)+"
_COMMIT = rf"git\+(https?://|ssh://([A-Za-z0-9._-]+@)?){_HOST}{_PATH}@[0-9a-f]{{40}}"
_FILE = rf"https?://{_HOST}{_PATH}\.(whl|tar\.gz|zip)#sha256=[0-9a-f]{{64}}"
_PINNED = re.compile(f"{_COMMIT}|{_FILE}")
_HOW = (
    "git+https://git.example.com/platform/backstay@COMMIT with the 40 digits of the commit, or a file with its digest, "
    "as in https://files.example.com/backstay-0.1.0-py3-none-any.whl#sha256=DIGEST"
)


def workflow_files(forge: str, install_from: str) -> dict[str, str]:
    """Return the forge's workflow by the path that it goes to; none where no forge is named.

    Args:
        forge: github, gitlab or gitea; empty for none.
        install_from: where the runners install Backstay from, as pip writes it: a commit of a Git repository, or a file
            with its SHA-256. Both say exactly what is installed.

    Raises:
        ScaffoldError: the forge is not known, or the place is missing, names no exact content, or is not wanted.
    """
    if not forge:
        if install_from:
            raise ScaffoldError("--install-from is for the checks that --forge adds: give both, or neither")
        return {}
    if forge not in _PLACES:
        raise ScaffoldError(f"--forge is {forge!r}: choose one of {', '.join(_PLACES)}")
    if not install_from:
        raise ScaffoldError(
            "--forge adds checks that install Backstay on a runner, beside tokens: say by --install-from what they "
            f"install, a commit as in {_HOW}"
        )
    if not _PINNED.fullmatch(install_from):
        raise ScaffoldError(
            f"--install-from is {without_user(install_from)!r}, which is no exact place: name a commit, as in {_HOW}"
        )
    shipped, target = _PLACES[forge]
    # The name makes pip refuse what is another project there.
    filled = f'BACKSTAY_PACKAGE: "backstay @ {install_from}"'
    return {target: shipped_files(shipped)[shipped].replace(_EMPTY, filled)}
