"""The description of one component, and what all descriptions are made from."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backstay_playground.checks import Check
from backstay_playground.layout import Layout
from backstay_playground.pki import Pki
from backstay_playground.processes import MEMBER_VARIABLE

# Everything else in the environment (KUBECONFIG, proxies, GIT_*, MLFLOW_*) would change how components behave.
_PASSED_ON = ("HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")


def _nothing() -> None:
    """Prepare nothing."""


@dataclass(frozen=True)
class Component:
    """One long-running process.

    Attributes:
        name: what people call it.
        purpose: a few words for the status table.
        argv: the command.
        where: the address people use.
        ready: answers whether it serves.
        env: what it needs in its environment beside the basics.
        after: the components and steps that must be ready before it starts.
        tools: the names of the programs it needs, as `tools.TOOLS` has them.
        ports: the names of the ports it listens on.
        fixed: addresses and ports it listens on that nobody can move.
        prepare: writes its files, before each start.
        deadline: seconds from start to ready before it counts as failed.
        grace: seconds it gets to end by itself.
        leaves_children: what it started lives on when it stops, and is taken over when it is back.
    """

    name: str
    purpose: str
    argv: tuple[str, ...]
    where: str
    ready: Check
    env: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    fixed: tuple[tuple[str, int], ...] = ()
    prepare: Callable[[], None] = _nothing
    deadline: float = 120
    grace: float = 10
    leaves_children: bool = False

    def environment(self, layout: Layout) -> dict[str, str]:
        """Return the whole environment of the process, with the mark by which its children are found."""
        basics = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        path = f"{layout.bin}:{os.environ.get('PATH', os.defpath)}"
        return {**basics, "PATH": path, MEMBER_VARIABLE: f"{layout.root}:{self.name}", **self.env}

    def fingerprint(self) -> str:
        """Return a digest of what this component would be started with, to notice that a running one is outdated."""
        text = json.dumps([self.argv, dict(self.env)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Step:
    """Something done once the components it needs are ready, such as creating objects; safe to repeat."""

    name: str
    after: tuple[str, ...]
    run: Callable[[], None]


@dataclass(frozen=True)
class Setting:
    """What the descriptions of components are computed from."""

    layout: Layout
    ports: Mapping[str, int]
    binaries: Mapping[str, Path]

    @property
    def pki(self) -> Pki:
        """Return the keys and certificates."""
        return Pki(self.layout.pki)

    @property
    def api_url(self) -> str:
        """Return where the API server listens."""
        return f"https://127.0.0.1:{self.ports['kube-apiserver']}"

    def url(self, name: str) -> str:
        """Return the plain HTTP address of a listener."""
        return f"http://127.0.0.1:{self.ports[name]}"
