"""The reference profile of the model that is served."""

from pathlib import Path

from backstay_contract.profile import PLACES, Profile, ProfileError, parse_profile
from backstay_serving.settings import StartError


def read_profile(folder: Path) -> Profile:
    """Read the profile in a model's artifact folder; one that asks for nothing where there is none.

    Raises:
        StartError: there is a file that is no profile.
    """
    for place in PLACES:
        if (folder / place).is_file():
            try:
                return parse_profile((folder / place).read_bytes())
            except ProfileError as error:
                raise StartError(str(error)) from error
    return Profile(features={})
