"""Every image of the repository, made once a session."""

from collections.abc import Callable
from functools import cache

import pytest
from dockerfile import ROOT
from image import Image, make


@pytest.fixture(scope="session")
def image_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Image]:
    """Make the image of a Dockerfile, named by its path in the repository."""

    @cache
    def made(dockerfile: str) -> Image:
        return make(ROOT / dockerfile, tmp_path_factory.mktemp("image"))

    return made
