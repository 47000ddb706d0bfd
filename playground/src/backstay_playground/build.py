"""Finds or builds the programs of the playground; what was built once is kept in the user's cache."""

import fcntl
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from backstay_playground.errors import PlaygroundError
from backstay_playground.layout import user_cache
from backstay_playground.tools import TOOLS, Tool

_MINIMUM_GO = (1, 26)
_FROM_ASSETS = frozenset({"etcd", "kube-apiserver", "kubectl"})
_LINES_SHOWN = 15
# A CI log without a line for long looks like a hang, and some runners stop it.
_SIGN_OF_LIFE_SECONDS = 20
_LOCK_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Found:
    """A program that is on hand."""

    path: Path


@dataclass(frozen=True)
class Missing:
    """A program that must be built; `path` is where it goes."""

    tool: Tool
    path: Path


def look_up(name: str) -> Found | Missing:
    """Find a program: KUBEBUILDER_ASSETS, for kubectl the PATH, the cache; else it is missing."""
    tool = TOOLS[name]
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    if assets and name in _FROM_ASSETS and os.access(Path(assets) / name, os.X_OK):
        return Found(Path(assets).resolve() / name)
    if name == "kubectl" and (on_path := shutil.which(name)):
        return Found(Path(on_path))
    cached = user_cache() / "bin" / f"{name}-{tool.key()}"
    return Found(cached) if os.access(cached, os.X_OK) else Missing(tool, cached)


def binaries(names: Sequence[str], console: Console) -> dict[str, Path]:
    """Return the paths of the programs, building what is missing, one at a time.

    Raises:
        PlaygroundError: Go is missing or too old, or a build fails.
    """
    if any(isinstance(look_up(name), Missing) for name in names):
        _require_go()
        with _build_lock(console):
            # Another run may have built some of them while this one waited.
            missing = [found for name in names if isinstance(found := look_up(name), Missing)]
            for index, item in enumerate(missing):
                _build(item, console=console, left=len(missing) - index - 1)
    paths = {name: look_up(name) for name in names}
    return {name: found.path for name, found in paths.items()}


def parse_go_version(text: str) -> tuple[int, int]:
    """Return major and minor from the answer of `go version`.

    Raises:
        PlaygroundError: the text names no version.
    """
    match = re.search(r"\bgo(\d+)\.(\d+)", text)
    if match is None:
        raise PlaygroundError(f"`go version` answered {text.strip()!r}, which names no version; reinstall Go.")
    return int(match[1]), int(match[2])


def _require_go() -> None:
    wanted = ".".join(map(str, _MINIMUM_GO))
    if shutil.which("go") is None:
        raise PlaygroundError(f"The playground builds its components with Go {wanted} or newer; put `go` on the PATH.")
    answer = subprocess.run(["go", "version"], capture_output=True, text=True, check=False)
    version = parse_go_version(answer.stdout + answer.stderr)
    if version < _MINIMUM_GO:
        raise PlaygroundError(
            f"The playground needs Go {wanted} or newer, and `go` on the PATH is {'.'.join(map(str, version))}; "
            "install a newer one."
        )


@contextmanager
def _build_lock(console: Console) -> Iterator[None]:
    """Hold the one lock of all builders of this user, so that two runs do not build the same thing."""
    path = user_cache() / "build.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        shown = -math.inf
        while not _locked(file):
            if time.monotonic() - shown > _SIGN_OF_LIFE_SECONDS:
                console.print("Another run is building the components; waiting for it ...")
                shown = time.monotonic()
            time.sleep(_LOCK_POLL_SECONDS)
        yield


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _build(item: Missing, *, console: Console, left: int) -> None:
    tool = item.tool
    log = user_cache() / "build-logs" / f"{tool.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    item.path.parent.mkdir(parents=True, exist_ok=True)
    temporary = item.path.with_name(f".{item.path.name}.{os.getpid()}")
    # A user's GOFLAGS (-mod=vendor, for one) must not change what is built.
    env = {**os.environ, "GOFLAGS": "", "GOWORK": "off"} | ({"CGO_ENABLED": "1"} if tool.cgo else {})
    command = ["go", "build", *tool.flags(), "-o", str(temporary), tool.package]
    started = time.monotonic()
    try:
        with log.open("wb") as output:
            builder = subprocess.Popen(command, cwd=tool.directory, env=env, stdout=output, stderr=subprocess.STDOUT)
            with builder:
                try:
                    _watch(builder, what=f"building {tool.name} {tool.version} ({left} more to build)", console=console)
                except BaseException:
                    builder.kill()
                    raise
        if builder.returncode != 0:
            raise PlaygroundError(_explain(tool, log))
        temporary.replace(item.path)
    finally:
        temporary.unlink(missing_ok=True)
    console.print(
        f"built {tool.name} {tool.version} in {time.monotonic() - started:.0f} s, {left} more to build", highlight=False
    )


def _watch(builder: subprocess.Popen[bytes], *, what: str, console: Console) -> None:
    """Show life until the build ends: a spinner on a terminal, else a line now and then."""
    started = time.monotonic()
    if console.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            progress.add_task(what, total=None)
            builder.wait()
        return
    console.print(f"{what} ...", highlight=False)
    while True:
        try:
            builder.wait(timeout=_SIGN_OF_LIFE_SECONDS)
        except subprocess.TimeoutExpired:
            console.print(f"{what}: {time.monotonic() - started:.0f} s so far ...", highlight=False)
        else:
            return


def _explain(tool: Tool, log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = "\n".join(f"  {line}" for line in text.splitlines()[-_LINES_SHOWN:])
    if "cgo" in text and tool.cgo:
        remedy = "It needs a C compiler: install gcc."
    elif "no space left" in text:
        remedy = "Free some disk space (all builds together need about 17 GB, most of it in the caches of Go)."
    elif "dial tcp" in text or "proxyconnect" in text or "no such host" in text:
        remedy = "Go could not fetch a module: check the network and GOPROXY."
    else:
        remedy = "Check that playground/tools is as committed (git status), and run it again."
    return f"Building {tool.name} failed. {remedy} The whole output is in {log}; its last lines:\n{lines}"
