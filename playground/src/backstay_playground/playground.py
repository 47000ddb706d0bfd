"""The playground as an object: what the command, the demo and the end-to-end tests drive."""

import json
import os
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from backstay_playground import bootstrap, control_plane, delivery, gitea, supporting
from backstay_playground.build import binaries, look_up
from backstay_playground.component import Component, Setting, Step
from backstay_playground.errors import PlaygroundError
from backstay_playground.graph import closure, run_all
from backstay_playground.install import install_controller
from backstay_playground.kubectl import Kubectl
from backstay_playground.layout import Layout, repository_root, state_folder, write_private
from backstay_playground.machine import claim, release, state_lock
from backstay_playground.pki import kubeconfig
from backstay_playground.ports import PREFERRED, assign, remembered
from backstay_playground.processes import Record
from backstay_playground.supervisor import Outcome, Supervisor
from backstay_playground.tools import TOOLS, run_tool

# Stopped last, as the others talk to them until they end.
_FOUNDATION = ("kube-apiserver", "etcd")

State = Literal["ready", "not answering", "stopped"]


@dataclass(frozen=True)
class Line:
    """One component as `status` shows it; `pid` and `started` (seconds since the epoch) are 0 when it is stopped."""

    component: Component
    state: State
    log: Path
    pid: int = 0
    started: float = 0


class Playground:
    """One playground in one state folder.

    Args:
        state: the state folder; by default $BACKSTAY_PLAYGROUND or .playground in the current directory.
        ports: ports chosen by the caller, by the names in `ports.PREFERRED`.
        console: where progress is shown.
        arguments: more command-line arguments, by component.
        without: components in whose place the caller has something; what needs them starts nevertheless.
    """

    def __init__(
        self,
        state: Path | str = "",
        *,
        ports: Mapping[str, int] | None = None,
        console: Console | None = None,
        arguments: Mapping[str, Sequence[str]] | None = None,
        without: Collection[str] = (),
    ) -> None:
        self.layout = Layout(state_folder(state))
        self._chosen = dict(ports or {})
        self._arguments = dict(arguments or {})
        self._without = frozenset(without)
        self._console = console or Console()
        self._supervisor = Supervisor(self.layout)

    # -- bringing up and taking down

    def up(self, only: Collection[str] = ()) -> None:
        """Bring up everything, or `only` these components with what they need; what runs already is kept.

        Raises:
            PlaygroundError: something cannot be built, started or made; the text says what to do.
        """
        begun = time.monotonic()
        with state_lock(self.layout.root):
            needs = self._needs(only)
            if "node" in needs:
                claim(self.layout)
            self.layout.create()
            setting = self._prepare(assign(self.layout.ports, self._chosen))
            self._build(needs, setting)
            self._bring_up(needs, setting)
        self._console.print(f"The playground is up after {time.monotonic() - begun:.1f} s.")

    def _needs(self, only: Collection[str]) -> dict[str, Collection[str]]:
        # What needs what does not depend on the ports, which are not chosen yet.
        setting = self._setting(PREFERRED)
        parts: dict[str, Component | Step] = {**self._components(setting), **self._steps(setting)}
        everything = {
            name: [need for need in part.after if need not in self._without]
            for name, part in parts.items()
            if name not in self._without
        }
        return closure(everything, only or everything)

    def _prepare(self, ports: Mapping[str, int]) -> Setting:
        setting = self._setting(ports)
        setting.pki.create()
        text = kubeconfig(
            server=setting.api_url, authority=setting.pki.authority, user="admin", token=setting.pki.admin_token()
        )
        write_private(self.layout.kubeconfig, text)
        write_private(self.layout.endpoints, json.dumps(_endpoints(setting), indent=2))
        return setting

    def _build(self, needs: Collection[str], setting: Setting) -> None:
        components = [part for name, part in self._components(setting).items() if name in needs]
        names = sorted({tool for component in components for tool in component.tools} | {"kubectl"})
        for name, path in binaries(names, self._console).items():
            link = self.layout.bin / name
            link.unlink(missing_ok=True)
            link.symlink_to(path)

    def _bring_up(self, needs: Mapping[str, Collection[str]], setting: Setting) -> None:
        components, steps = self._components(setting), self._steps(setting)

        def work(name: str) -> None:
            begun = time.monotonic()
            if name in components:
                outcome = self._supervisor.ensure(components[name], ports=setting.ports)
                if outcome is not Outcome.KEPT:
                    self._report(f"{name} ready", time.monotonic() - begun, components[name].where)
            else:
                steps[name].run()

        self._supervisor.cancelled.clear()
        with self._console.status("starting the components ..."):
            run_all(needs, work, cancel=self._supervisor.cancelled.set)

    def _report(self, what: str, seconds: float, where: str) -> None:
        self._console.print(f"  {what:<36} {seconds:5.1f} s  {where}", highlight=False, soft_wrap=True)

    def down(self, *, keep_logs: bool = False) -> bool:
        """Stop everything and remove the state folder; return whether there was anything.

        Raises:
            PlaygroundError: the folder is not a playground's.
        """
        with state_lock(self.layout.root):
            if not self.layout.mark.exists():
                return False
            # Which ports they have does not matter for stopping them, and the memory may be damaged.
            components = self._components(self._setting(PREFERRED))
            self._supervisor.stop([part for name, part in components.items() if name not in _FOUNDATION])
            # The node leaves its pods' processes behind on purpose; this ends them, also after it crashed.
            command = [sys.executable, "-m", "backstay_playground.node.reap", f"--state={self.layout.node}"]
            run_tool(command, env=os.environ, what="an end of the pods")
            for name in _FOUNDATION:
                self._supervisor.stop([components[name]])
            self._supervisor.stop_rest()
            self.layout.remove(keep_logs=keep_logs)
            release(self.layout)
        return True

    # -- single components

    def start(self, name: str) -> None:
        """Start one component, or make sure that it serves.

        Raises:
            PlaygroundError: there is no such component, or it does not become ready.
        """
        component = self._component(name)
        with state_lock(self.layout.root):
            self._supervisor.cancelled.clear()
            self._supervisor.ensure(component, ports=remembered(self.layout.ports))

    def stop(self, name: str) -> None:
        """Stop one component; its data stays.

        Raises:
            PlaygroundError: there is no such component.
        """
        component = self._component(name)
        with state_lock(self.layout.root):
            self._supervisor.stop([component])

    def kill(self, name: str) -> None:
        """Kill one component as a crash would, without a chance to tidy up.

        Raises:
            PlaygroundError: there is no such component, or it does not run.
        """
        self._supervisor.kill(self._component(name).name)

    # -- what there is

    def status(self) -> list[Line]:
        """Return one line a component, in the order in which they are described."""
        running = self._supervisor.records.alive()
        components = self._components(self._remembered())
        return [_line(component, running, self.layout) for component in components.values()]

    def log(self, name: str) -> Path:
        """Return the log file of a component.

        Raises:
            PlaygroundError: there is no such component, or it never ran.
        """
        log = self.layout.log(self._component(name).name)
        if not log.exists():
            raise PlaygroundError(f"{name} has not run yet, so it has no log.")
        return log

    @property
    def kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig."""
        return self.layout.kubeconfig

    @property
    def kubectl(self) -> Kubectl:
        """Return kubectl for this cluster: `playground.kubectl("get", "pods")` returns what it prints."""
        return Kubectl(look_up("kubectl").path, self.layout.kubeconfig)

    def endpoints(self) -> dict[str, str]:
        """Return where everything listens, by name.

        Raises:
            PlaygroundError: the playground was never brought up.
        """
        return _endpoints(self._remembered())

    @property
    def gateway_url(self) -> str:
        """Return where the Gateway `models` takes requests; the Host header chooses the model."""
        return self.endpoints()["gateway"]

    @property
    def mlflow_url(self) -> str:
        """Return MLflow's address on this machine."""
        return self.endpoints()["mlflow"]

    @property
    def prometheus_url(self) -> str:
        """Return Prometheus' address on this machine."""
        return self.endpoints()["prometheus"]

    @property
    def gitea(self) -> gitea.Gitea:
        """Return Gitea's address on this machine, with the account that may do everything."""
        return gitea.connect(self._remembered())

    def install_controller(self) -> None:
        """Install the Backstay controller from this checkout, and wait until it is available.

        Raises:
            PlaygroundError: an object is refused, or the controller does not start.
        """
        install_controller(self.kubectl, root=repository_root(), account=self.gitea)

    # -- inside

    def _remembered(self) -> Setting:
        ports = remembered(self.layout.ports)
        if set(ports) != set(PREFERRED):
            raise PlaygroundError(f"There is no playground in {self.layout.root}; bring it up with `up`.")
        return self._setting(ports)

    def _setting(self, ports: Mapping[str, int]) -> Setting:
        return Setting(self.layout, ports, {name: look_up(name).path for name in TOOLS})

    def _components(self, setting: Setting) -> dict[str, Component]:
        groups = (control_plane, supporting, delivery)
        return {
            component.name: replace(component, argv=(*component.argv, *self._arguments.get(component.name, ())))
            for group in groups
            for component in group.components(setting)
        }

    def _component(self, name: str) -> Component:
        components = self._components(self._remembered())
        if name not in components:
            raise PlaygroundError(f"There is no component {name!r}; there are {', '.join(components)}.")
        return components[name]

    def _steps(self, setting: Setting) -> dict[str, Step]:
        return {step.name: step for step in bootstrap.steps(setting, self.kubectl)}


def _line(component: Component, running: Mapping[str, Record], layout: Layout) -> Line:
    record = running.get(component.name)
    if record is None:
        return Line(component, "stopped", layout.log(component.name))
    state: State = "ready" if component.ready() else "not answering"
    return Line(component, state, layout.log(component.name), pid=record.identity.pid, started=record.started)


def _endpoints(setting: Setting) -> dict[str, str]:
    names = ("gateway", "gitea", "mlflow", "prometheus")
    return {
        "kube-apiserver": setting.api_url,
        "kubeconfig": str(setting.layout.kubeconfig),
        **{name: setting.url(name) for name in names},
    }
