"""Every Dockerfile of the repository, also one that comes later: it can be built, and holds what its code needs."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from dockerfile import DOCKERFILES, ROOT, stages
from image import Image, ended

from backstay_playground.environment import image_requirements

pytestmark = pytest.mark.component

NAMES = [dockerfile.relative_to(ROOT).as_posix() for dockerfile in DOCKERFILES]
IMPORTS = Path(__file__).with_name("imports_of.py")
ImageOf = Callable[[str], Image]


@pytest.mark.parametrize("name", NAMES)
def test_all_that_its_code_imports_is_in_its_requirements(name: str, image_of: ImageOf, tmp_path: Path) -> None:
    image = image_of(name)
    code, home = image.stage.environment["PYTHONPATH"], image.stage.folder
    argv = image.command(
        *("python", "/tests/imports_of.py", code),
        settings={"HOME": home},
        secrets={"/tests": IMPORTS.parent},
        volumes={home: tmp_path},
    )
    done = ended(argv)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:-1] == []
    assert re.fullmatch(r"[1-9]\d* files", done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_its_code_is_compiled_since_nothing_can_be_written_later(name: str, image_of: ImageOf) -> None:
    sources = list(image_of(name).tree.rglob("*.py"))
    assert sources
    assert [
        source for source in sources if not list((source.parent / "__pycache__").glob(f"{source.stem}.*.pyc"))
    ] == []


@pytest.mark.parametrize("name", NAMES)
def test_only_its_volumes_can_be_written(name: str, image_of: ImageOf, tmp_path: Path) -> None:
    image = image_of(name)
    for place in (image.stage.environment["PYTHONPATH"], "/tmp", "/etc"):  # noqa: S108 - as above
        done = image.run("touch", f"{place}/new")
        assert (done.returncode, "Read-only file system" in done.stderr) == (1, True), done.stderr
    done = image.run("touch", f"{image.stage.folder}/new", volumes={image.stage.folder: tmp_path})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_its_requirements_are_complete_and_hashed(name: str, image_of: ImageOf) -> None:
    text = (ROOT / name).read_text()
    pins = re.findall(r"requirements/[\w.-]+\.txt", text)
    assert {ROOT / path for path in pins} <= set(image_requirements())
    assert text.count("pip install") == text.count("--require-hashes --requirement") == len(pins)
    done = image_of(name).run("python", "-m", "pip", "check", "--disable-pip-version-check")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_it_does_not_run_as_root(name: str) -> None:
    user, _, group = stages((ROOT / name).read_text())[-1].user.partition(":")
    assert int(user) > 0
    assert int(group) > 0


def test_each_has_a_test_that_starts_it() -> None:
    started = re.findall(
        r'image_of\("([^"]+)"\)', "".join(file.read_text() for file in IMPORTS.parent.glob("test_*.py"))
    )
    assert set(started) == set(NAMES)
