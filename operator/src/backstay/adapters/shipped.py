"""Files of this project that the command gives to people: monitoring, policies, checks of pull requests.

They have one place, their folder at the top of the checkout; a wheel carries copies of them.
"""

from functools import cache
from importlib.resources import files
from pathlib import Path

PROMOTION_POLICY = "policies/promotion"
"""The folder of the promotion policy, whose expressions the controller and the command evaluate."""

_IN_A_WHEEL = Path(str(files("backstay"))) / "shipped"
_IN_A_CHECKOUT = Path(__file__).parents[4]


class NotShippedError(Exception):
    """This installation lacks files that belong to it; the message is a sentence that names them."""


def shipped_files(place: str) -> dict[str, str]:
    """Return a shipped file, or all files of a shipped folder, by their path from the top.

    Raises:
        NotShippedError: there is no such file, or the folder is empty.
    """
    root = _root()
    found = root / place
    every = [found] if found.is_file() else sorted(path for path in found.rglob("*") if path.is_file())
    if not every:
        raise NotShippedError(f"{place} is not among the files of this installation; install Backstay again")
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in every}


@cache
def _root() -> Path:
    return _IN_A_WHEEL if _IN_A_WHEEL.is_dir() else _IN_A_CHECKOUT
