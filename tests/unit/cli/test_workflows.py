"""What the shipped and the generated workflows install: one commit or one file, never a name that anyone may take."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from backstay.cli.__main__ import app

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / "pipelines").rglob("*.yaml"))
CHECKS = {
    "github": ".github/workflows/backstay.yaml",
    "gitlab": ".gitlab-ci.yml",
    "gitea": ".gitea/workflows/backstay.yaml",
}
INSTALL = re.compile(r"\bpip3? install\b(.*)")
COMMIT = f"git+https://git.example.com/platform/backstay@{'0123456789' * 4}"
FILE = f"https://files.example.com/backstay-0.1.0-py3-none-any.whl#sha256={64 * 'a'}"
OPTIONS = [
    "--repository=https://git.example.com/models/gitops.git",
    "--registry=http://mlflow.mlops:5000",
    "--gateway=gateways/models",
    "--domain=example.com",
    "--model=fraud-detector",
]


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, " ".join(done.output.split())


def shell_lines(value: Any) -> Iterator[str]:
    """Go through what a runner gives to a shell."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if key in {"run", "script", "before_script", "after_script"}:
                yield from entry if isinstance(entry, list) else [entry]
            else:
                yield from shell_lines(entry)
    if isinstance(value, list):
        for entry in value:
            yield from shell_lines(entry)


def values_of(name: str, value: Any) -> Iterator[Any]:
    """Go through what a file gives to a variable, wherever it stands."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if key == name:
                yield entry["value"] if isinstance(entry, dict) else entry
            else:
                yield from values_of(name, entry)
    if isinstance(value, list):
        for entry in value:
            yield from values_of(name, entry)


def installs(text: str) -> list[str]:
    return [line for line in shell_lines(yaml.safe_load(text)) if INSTALL.search(line)]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("file", WORKFLOWS, ids=name_of)
def test_a_shipped_workflow_installs_nothing_until_it_is_told_what(file: Path) -> None:
    text = file.read_text()
    assert installs(text)
    for line in installs(text):
        (asked,) = re.findall(r'install (?:--quiet )?"\$\{(\w+):\?[^"]+\}"$', line)
        for given in values_of(asked, yaml.safe_load(text)):
            assert given in {"", "${{ inputs.package }}"}
            if given:
                package = yaml.safe_load(text)[True]["workflow_call"]["inputs"]["package"]
                assert package["required"]
                assert "default" not in package


def test_no_page_or_file_tells_to_install_backstay_by_its_name() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for path in filter(None, listed.split("\0")):
        if path.startswith("tests/") or (ROOT / path).suffix not in {".md", ".yaml", ".yml", ".py", ".toml", ""}:
            continue
        named = re.findall(r"pip3? install .*\bbackstay\b(?! @).*", (ROOT / path).read_text())
        assert named == [], path


@pytest.mark.parametrize(
    "place", [COMMIT, FILE, COMMIT.replace("https://", "ssh://git@"), COMMIT.replace("https", "http")]
)
@pytest.mark.parametrize("forge", CHECKS)
def test_a_new_repository_installs_the_place_that_was_named(forge: str, place: str, tmp_path: Path) -> None:
    code, output = run("init", str(tmp_path), *OPTIONS, f"--forge={forge}", f"--install-from={place}")
    assert code == 0, output
    text = (tmp_path / CHECKS[forge]).read_text()
    assert list(values_of("BACKSTAY_PACKAGE", yaml.safe_load(text))) == [f"backstay @ {place}"]
    shipped = (ROOT / "pipelines" / "checks" / f"{forge}.yaml").read_text()
    assert text.replace(f'"backstay @ {place}"', '""') == shipped
    assert ran(installs(text), tmp_path, BACKSTAY_PACKAGE=f"backstay @ {place}") == (
        0,
        f"install\nbackstay @ {place}\n",
        "",
    )


@pytest.mark.parametrize("file", WORKFLOWS, ids=name_of)
def test_a_workflow_that_was_told_nothing_fails_with_a_sentence(file: Path, tmp_path: Path) -> None:
    code, installed, errors = ran(installs(file.read_text())[:1], tmp_path, BACKSTAY_PACKAGE="", PACKAGE="")
    assert (code != 0, installed) == (True, "")
    assert "PACKAGE: is empty; " in errors


def ran(lines: list[str], folder: Path, **variables: str) -> tuple[int, str, str]:
    """Run lines as a runner does; return the exit code, what pip was given and what was complained about."""
    (folder / "bin").mkdir()
    for name in ("pip", "python"):
        (folder / "bin" / name).write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >> {folder}/given\n")
        (folder / "bin" / name).chmod(0o755)
    done = subprocess.run(
        ["sh", "-ec", "\n".join(lines)],
        env={"PATH": f"{folder}/bin:/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    given = folder / "given"
    return done.returncode, given.read_text() if given.exists() else "", done.stderr


@pytest.mark.parametrize(
    "place",
    [
        "backstay",
        "backstay==0.1.0",
        "git+https://git.example.com/platform/backstay",
        "git+https://git.example.com/platform/backstay@main",
        "git+https://git.example.com/platform/backstay@v0.1.0",
        COMMIT[:-1],
        COMMIT.upper(),
        f"{COMMIT}#egg=other",
        f"{COMMIT}\n",
        f'{COMMIT}" --index-url "https://evil.example.com',
        COMMIT.replace("platform", "$(id)"),
        COMMIT.replace("platform", "${{ secrets.GITHUB_TOKEN }}"),
        COMMIT.replace("platform", "plat form"),
        COMMIT.replace("git+https", "git+file"),
        COMMIT.removeprefix("git+"),
        FILE.partition("#")[0],
        FILE.replace("sha256", "md5"),
        FILE[:-1],
        FILE.replace("https", "file"),
        f"{FILE}&egg=other",
    ],
)
def test_what_names_no_exact_content_is_refused(place: str, tmp_path: Path) -> None:
    code, output = run("init", str(tmp_path), *OPTIONS, "--forge=github", f"--install-from={place}")
    assert code == 2
    assert "which is no exact place: name a commit, as in git+https://" in output
    assert list(tmp_path.iterdir()) == []


def test_a_password_is_neither_taken_nor_shown(tmp_path: Path) -> None:
    place = COMMIT.replace("https://", "https://me:secret@")
    code, output = run("init", str(tmp_path), *OPTIONS, "--forge=github", f"--install-from={place}")
    assert (code, "secret" in output) == (2, False)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--forge=github"], "say by --install-from what they install"),
        ([f"--install-from={COMMIT}"], "--install-from is for the checks that --forge adds: give both, or neither"),
        (["--forge=svn", f"--install-from={COMMIT}"], "--forge is 'svn': choose one of github, gitlab, gitea"),
    ],
)
def test_the_two_options_go_together(options: list[str], sentence: str, tmp_path: Path) -> None:
    code, output = run("init", str(tmp_path), *OPTIONS, *options)
    assert code == 2
    assert sentence in output
    assert list(tmp_path.iterdir()) == []
