"""Starts components, waits until they serve, and stops them with everything they started."""

import threading
import time
from collections.abc import Collection, Mapping
from enum import Enum

from backstay_playground.component import Component
from backstay_playground.errors import PlaygroundError
from backstay_playground.layout import Layout
from backstay_playground.ports import address_of, is_free, variable
from backstay_playground.processes import (
    Identity,
    Record,
    Records,
    descendants,
    is_alive,
    kill,
    members,
    spawn,
    terminate,
)

_LINES_SHOWN = 15
_POLL_SECONDS = 0.1
# How long a running component may be silent before `up` starts it again: it may just be busy.
_SILENCE_SECONDS = 10.0
_RELEASE_SECONDS = 2.0


class Outcome(Enum):
    """What `ensure` found necessary."""

    KEPT = "already running"
    STARTED = "started"
    RESTARTED = "started again"


class Interrupted(Exception):  # noqa: N818 - not an error: somebody else failed, or pressed Ctrl-C
    """The start was given up because of something elsewhere."""


class Supervisor:
    """Owns the processes of one state folder."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.records = Records(layout.run)
        self.cancelled = threading.Event()

    def ensure(self, component: Component, *, ports: Mapping[str, int]) -> Outcome:
        """Bring the component to where it serves; one that runs as described and answers is kept.

        Raises:
            PlaygroundError: it does not become ready; the text holds the last lines of its log.
            Interrupted: `cancelled` was set.
        """
        outcome = Outcome.STARTED
        record = self.records.alive().get(component.name)
        if record is not None:
            if record.environment == component.fingerprint() and self._answers(component, record):
                return Outcome.KEPT
            outcome = Outcome.RESTARTED
        self.stop([component])
        component.prepare()
        self._require_free_ports(component, ports)
        self._start(component)
        return outcome

    def _answers(self, component: Component, record: Record) -> bool:
        deadline = time.monotonic() + _SILENCE_SECONDS
        while is_alive(record.identity) and time.monotonic() < deadline:
            if component.ready():
                return True
            self._pause()
        return False

    def _start(self, component: Component) -> None:
        log = self.layout.log(component.name)
        offset = log.stat().st_size if log.exists() else 0
        try:
            identity = spawn(component.argv, env=component.environment(self.layout), log=log, cwd=self.layout.root)
        except FileNotFoundError as error:
            raise PlaygroundError(f"{component.name} cannot start: {error.filename} does not exist.") from error
        except ProcessLookupError:
            raise PlaygroundError(self._explain(component, offset, "ended at once")) from None
        self.records.save(component.name, Record(identity, component.argv, component.fingerprint(), time.time()))
        deadline = time.monotonic() + component.deadline
        while not component.ready():
            if not is_alive(identity):
                raise PlaygroundError(self._explain(component, offset, "ended before it was ready"))
            if time.monotonic() > deadline:
                raise PlaygroundError(
                    self._explain(component, offset, f"was not ready within {component.deadline:.0f} s")
                )
            self._pause()

    def _pause(self) -> None:
        if self.cancelled.wait(_POLL_SECONDS):
            raise Interrupted

    def _require_free_ports(self, component: Component, ports: Mapping[str, int]) -> None:
        for name in component.ports:
            if not _becomes_free(address_of(name), ports[name]):
                raise PlaygroundError(
                    f"Port {ports[name]} of {component.name} is taken by another program. Stop that program, "
                    f"or choose another port: up --port {name}=PORT (or {variable(name)}=PORT)."
                )
        for address, port in component.fixed:
            if not _becomes_free(address, port):
                raise PlaygroundError(
                    f"{address}:{port}, the only place where {component.name} can listen, is taken by another program, "
                    "perhaps another user's playground; stop it."
                )

    def _explain(self, component: Component, offset: int, what: str) -> str:
        log = self.layout.log(component.name)
        with log.open("rb") as file:
            file.seek(offset)
            lines = file.read().decode(errors="replace").splitlines()[-_LINES_SHOWN:]
        shown = "\n".join(f"  {line[:500]}" for line in lines) or "  (it wrote nothing)"
        return (
            f"{component.name} {what}. The last lines of {log}:\n{shown}\n"
            "Remove the cause and run `up` again: what runs already is kept. `down` starts over from nothing."
        )

    def stop(self, components: Collection[Component]) -> None:
        """Stop components together with what they started, living or orphaned, except what is meant to live on."""
        records = self.records.load()
        targets: set[Identity] = set()
        for component in components:
            own = {records[component.name].identity} if component.name in records else set()
            orphans = members(self.layout.root, component.name)
            targets |= own | orphans if component.leaves_children else descendants(own | orphans)
        terminate(targets, grace=max((component.grace for component in components), default=0))
        for component in components:
            self.records.forget(component.name)

    def kill(self, name: str) -> None:
        """Kill a component's own process as a crash would; what it started is left alone.

        Raises:
            PlaygroundError: it does not run.
        """
        record = self.records.alive().get(name)
        if record is None:
            raise PlaygroundError(f"{name} does not run, so it cannot be killed.")
        kill(record.identity)

    def stop_rest(self) -> None:
        """Stop whatever else carries this folder's mark, such as what an earlier version of the playground started."""
        terminate(descendants(members(self.layout.root)), grace=5)


def _becomes_free(address: str, port: int) -> bool:
    """Tell whether a port is free, or is so soon: a killed process may hold it until its last thread has ended."""
    deadline = time.monotonic() + _RELEASE_SECONDS
    while not is_free(address, port):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
