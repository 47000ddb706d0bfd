"""Python environments beside the project's own, for programs whose requirements do not go with it."""

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from backstay_playground.errors import PlaygroundError
from backstay_playground.layout import repository_root, user_cache


def environment(pins: Path) -> Path:
    """Return an environment with what a hashed requirements file names, made in the user's cache if it is not there.

    Raises:
        PlaygroundError: something cannot be installed.
    """
    folder = user_cache() / f"{pins.stem}-{hashlib.sha256(pins.read_bytes()).hexdigest()[:12]}"
    done = folder / ".installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        answer = subprocess.run(
            [*install, "--require-hashes", "-r", str(pins)], capture_output=True, text=True, check=False
        )
        if answer.returncode:
            raise PlaygroundError(f"{pins.name} cannot be installed: {answer.stderr.strip()[-1500:]}")
        done.touch()
    return folder


def image_requirements() -> list[Path]:
    """Return the requirements files that the Dockerfiles of this checkout install."""
    root = repository_root()
    texts = [dockerfile.read_text(encoding="utf-8") for dockerfile in root.glob("*/Dockerfile")]
    named = {path for text in texts for path in re.findall(r"^COPY (requirements/\S+\.txt) ", text, re.MULTILINE)}
    return [root / path for path in sorted(named)]


def controller_environment() -> Path:
    """Return the environment of the controller's image, without what the project's own has besides.

    Raises:
        PlaygroundError: something cannot be installed.
    """
    return environment(repository_root() / "requirements" / "controller.txt")
