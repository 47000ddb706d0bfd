"""Every Dockerfile finds what it copies in the context that its ignore file leaves, and nothing else is sent."""

import re
from pathlib import Path

import pytest
from buildcontext import context_of, is_sent, patterns
from dockerfile import DOCKERFILES, ROOT, Copy, Stage, stages


def name_of(dockerfile: Path) -> str:
    return dockerfile.relative_to(ROOT).as_posix()


def of_source(source: str, context: frozenset[str]) -> set[str]:
    """Return the files of the context that a COPY's source names: itself, or what is in the folder."""
    plain = source.rstrip("/")
    assert not set("*?[") & set(plain), f"{source}: teach the tests to read patterns"
    return {path for path in context if path == plain or path.startswith(f"{plain}/")}


def makes(stage: Stage, path: str) -> bool:
    """Tell whether a stage says that it makes a path, in a RUN or by a COPY."""
    in_a_run = any(re.search(rf"(?<![\w/]){re.escape(path)}(?![\w.-])", run.command) for run in stage.runs)
    return in_a_run or any(path == copy.target or path.startswith(f"{copy.target}/") for copy in stage.copies)


def test_the_images_of_controller_and_model_server_are_found() -> None:
    assert {"operator/Dockerfile", "serving/Dockerfile"} <= {name_of(dockerfile) for dockerfile in DOCKERFILES}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=name_of)
def test_what_is_copied_is_in_the_context(dockerfile: Path) -> None:
    context = context_of(ROOT, dockerfile)
    copied = [copy for stage in stages(dockerfile.read_text()) for copy in stage.copies if not copy.stage]
    assert copied
    for source in [source for copy in copied for source in copy.sources]:
        assert of_source(source, context), f"{source} is not in the context: let the ignore file keep it"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=name_of)
def test_what_is_in_the_context_is_copied(dockerfile: Path) -> None:
    context = context_of(ROOT, dockerfile)
    copies: list[Copy] = [copy for stage in stages(dockerfile.read_text()) for copy in stage.copies if not copy.stage]
    used = {path for copy in copies for source in copy.sources for path in of_source(source, context)}
    assert context - used == set()


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=name_of)
def test_what_is_copied_from_a_stage_is_made_there(dockerfile: Path) -> None:
    known: dict[str, Stage] = {}
    for stage in stages(dockerfile.read_text()):
        for copy in stage.copies:
            if copy.stage:
                assert copy.stage in known, f"{copy.stage} is no earlier stage"
                assert all(makes(known[copy.stage], source) for source in copy.sources), copy
        known[stage.name] = stage


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=name_of)
def test_it_says_how_it_is_built(dockerfile: Path) -> None:
    head = dockerfile.read_text().splitlines()[:3]
    assert any(line.startswith(f"# docker build --file {name_of(dockerfile)} --tag backstay/") for line in head)


@pytest.mark.parametrize(
    ("lines", "path", "sent"),
    [
        ("", "a/b.py", True),
        ("a", "a/b.py", False),
        ("a", "b/a", True),  # unlike Git: from the root only
        ("/a/", "a/b.py", False),
        ("# a\n\n  a  \n", "a", False),
        ("./a/../b", "b/c", False),
        ("*", "a/b.py", False),
        ("*\n!a", "a/b.py", True),
        ("*\n!a/b", "a/b/c.py", True),
        ("*\n!a/b", "a/c.py", False),
        ("!a\n*", "a", False),  # the last one decides
        ("*\n!a\na/b", "a/b/c.py", False),
        ("*\n!a\n**/__pycache__", "a/b/__pycache__/c.pyc", False),
        ("*\n!a\n**/__pycache__", "a/b/c.py", True),
        ("a\n!a/b", "a/b", True),  # unlike Git: out of an excluded folder
        ("*.md\n!README*.md\nREADME-secret.md", "README.md", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", False),
        ("*.md", "a/b.md", True),
        ("**/*.md", "b.md", False),
        ("**/*.md", "a/b.md", False),
        ("a/**", "a/b/c", False),
        ("a/**/c", "a/c", False),
        ("a/**/c", "a/b/b/c", False),
        ("a/?.py", "a/b.py", False),
        ("a/?.py", "a/bb.py", True),
        ("a/[ab].py", "a/b.py", False),
        ("a/[^ab].py", "a/b.py", True),
        ("a\\*", "a*", False),
        ("a\\*", "ab", True),
        ("a.py", "abpy", True),
        ("Policies", "policies/a", True),
    ],
)
def test_an_ignore_file_is_read_as_docker_reads_it(lines: str, path: str, sent: bool) -> None:  # noqa: FBT001 - a case
    assert is_sent(path, patterns(lines)) is sent


def test_the_walk_enters_a_folder_out_of_which_something_comes_back(tmp_path: Path) -> None:
    for path in ("a/b/keep.md", "a/b/drop.py", "a/c/drop.py", "d/keep.md", "Dockerfile"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / ".dockerignore").write_text("*\n!a/*/*.md\n!**/d/*.md\n")
    assert context_of(tmp_path, tmp_path / "Dockerfile") == {"a/b/keep.md", "d/keep.md"}
    (tmp_path / "Dockerfile.dockerignore").write_text("**\n!a/c\n")
    assert context_of(tmp_path, tmp_path / "Dockerfile") == {"a/c/drop.py"}
