"""The life of one container: started, probed, restarted after a back-off, stopped with grace."""

import asyncio
import logging
import os
from pathlib import Path
from typing import Protocol, assert_never

from backstay_playground.node import probes
from backstay_playground.node.actions import Failed, Means, Outcome, Passed, Target, perform, probe
from backstay_playground.node.api import Json
from backstay_playground.node.environment import ConfigError
from backstay_playground.node.process import Exited, Launch, Ledger, Owner, Process, Vanished
from backstay_playground.node.states import (
    FirstRun,
    Running,
    State,
    Terminated,
    Waiting,
    back_off,
    ended_before,
    now,
    should_restart,
    unknown_end,
)

logger = logging.getLogger(__name__)

# A container that ran this long starts its back-off anew.
_SETTLED_SECONDS = 30.0
_RETRY_SECONDS = 0.5
_LAST_WORDS = 1024
# What a kubelet adds when a hook has used up the grace.
_AFTER_HOOK_SECONDS = 2.0


class Home(Protocol):
    """What a container needs from its pod."""

    @property
    def grace(self) -> float:
        """Return the seconds that a container has to end."""

    def launch(self, container: Json) -> Launch:
        """Work out how to start a container; raises ConfigError."""

    def start(self, launch: Launch) -> Process:
        """Start a container's process; raises OSError."""

    def target(self, container: Json, process: Process) -> Target:
        """Return what probes and hooks of a running container address."""

    def log(self, container: Json) -> Path:
        """Return the file with a container's output."""

    def changed(self) -> None:
        """Take note that a container's state changed."""


class Container:
    """One container of a pod.

    Args:
        spec: The container's spec.
        home: Its pod.
        owner: Its name in the ledger.
        policy: Always, OnFailure or Never.
        ledger: Where its process is recorded.
        means: What probes and hooks are performed with.
    """

    def __init__(  # noqa: PLR0913 - all are needed, each once
        self, spec: Json, home: Home, *, owner: Owner, policy: str, ledger: Ledger, means: Means
    ) -> None:
        self.spec = spec
        self.name: str = spec["name"]
        self.state: State = Waiting("ContainerCreating")
        self.last: Terminated | FirstRun = FirstRun()
        self.restarts = 0
        self.ready = False
        self.started = False
        self._home = home
        self._owner = owner
        self._policy = policy
        self._ledger = ledger
        self._means = means
        self._log_start = 0

    @property
    def done(self) -> bool:
        """Tell whether it ended for good."""
        return isinstance(self.state, Terminated) and not should_restart(self._policy, self.state)

    def adopt(self, status: Json, process: Process) -> None:
        """Take over a process that an earlier node started, with the status which that node reported."""
        since = status.get("state", {}).get("running", {}).get("startedAt") or now()
        self.state = Running(since, process)
        # Readiness that was reported holds until a probe says otherwise: a restart of the node interrupts nothing.
        self.ready = status.get("ready", False)
        self.started = status.get("started", False)
        self.remember(status)

    def remember(self, status: Json) -> None:
        """Take over the past which an earlier node reported."""
        self.restarts = status.get("restartCount", 0)
        if ended := status.get("lastState", {}).get("terminated"):
            self.last = ended_before(ended)
        if not isinstance(self.state, Running):
            if ended := status.get("state", {}).get("terminated"):
                self.state = ended_before(ended)
            elif running := status.get("state", {}).get("running"):
                self.state = unknown_end(running.get("startedAt", now()))

    async def run(self) -> None:
        """Keep the container running as its policy says, until it is done; cancelling leaves the process alone."""
        failures = 0
        while not self.done:
            if isinstance(self.state, Terminated):
                failures += 1
                await self._wait_for_next_start(self.state, failures)
            if not isinstance(self.state, Running):
                self._set(await self._start())
            began = asyncio.get_running_loop().time()
            await self._until_end()
            if asyncio.get_running_loop().time() - began > _SETTLED_SECONDS:
                failures = 0

    async def _wait_for_next_start(self, end: Terminated, failures: int) -> None:
        self.last = end
        delay = back_off(failures)
        message = f"back-off {delay:g}s restarting failed container={self.name} pod={self._owner.pod}"
        self._set(Waiting("CrashLoopBackOff", message))
        await asyncio.sleep(delay)
        self.restarts += 1

    async def _start(self) -> Running:
        while True:
            try:
                launch = self._home.launch(self.spec)
                self._log_start = launch.log.stat().st_size if launch.log.exists() else 0
                process = self._home.start(launch)
            except ConfigError as error:
                problem = Waiting(error.reason, str(error))
            except OSError as error:
                problem = Waiting("CreateContainerError", str(error))
            else:
                self._ledger.save(self._owner, process.identity)
                return Running(now(), process)
            if problem != self.state:
                logger.warning("%s: %s", self._owner, problem.message)
                self._set(problem)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _until_end(self) -> None:
        running = self.state
        if not isinstance(running, Running):
            return
        watching = asyncio.create_task(self._probe(running.process))
        try:
            await running.process.ended()
        finally:
            watching.cancel()
        await self._note_end(running)

    async def _note_end(self, running: Running) -> None:
        end = await running.process.ended()
        self._ledger.forget(self._owner)
        match end:
            case Exited(code):
                words = "" if code == 0 else self._last_words()
                reason = "Completed" if code == 0 else "Error"
                self._set(Terminated(code, reason, words, running.since, now()))
            case Vanished():
                self._set(unknown_end(running.since))
            case _:
                assert_never(end)

    def _last_words(self) -> str:
        try:
            with self._home.log(self.spec).open("rb") as log:
                log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - _LAST_WORDS))
                return log.read().decode(errors="replace")
        except OSError as error:
            return f"no log: {error}"

    def _set(self, state: State) -> None:
        self.state = state
        if not isinstance(state, Running):
            self.ready = self.started = False
        self._home.changed()

    def hold_up(self, problem: str) -> None:
        """Take note of what keeps the pod from starting this container."""
        waiting = Waiting(ConfigError.reason, problem)
        if isinstance(self.state, Waiting) and self.state != waiting:
            logger.warning("%s: %s", self._owner, problem)
            self._set(waiting)

    # -- probes

    async def _probe(self, process: Process) -> None:
        """Follow the probes of the running process; it is ended when it does not start or stops being alive."""
        if "startupProbe" in self.spec and not self.started:
            timing, check = self._check("startupProbe", process)
            outcome = await probes.started(timing, check)
            if isinstance(outcome, Failed):
                await self._end_unhealthy("startupProbe", outcome)
                return
        self.started = True
        if "readinessProbe" not in self.spec:
            self.ready = True
        self._home.changed()
        async with asyncio.TaskGroup() as group:
            if "readinessProbe" in self.spec:
                group.create_task(self._follow_readiness(process))
            if "livenessProbe" in self.spec:
                group.create_task(self._follow_liveness(process))

    def _check(self, name: str, process: Process) -> tuple[probes.Timing, probes.Check]:
        action = self.spec[name]
        timing = probes.Timing.of(action)
        target = self._home.target(self.spec, process)

        async def check() -> Outcome:
            return await probe(action, target, means=self._means, seconds=timing.timeout)

        return timing, check

    async def _follow_readiness(self, process: Process) -> None:
        timing, check = self._check("readinessProbe", process)
        async for outcome in probes.readiness(timing, check, ready=self.ready):
            self.ready = isinstance(outcome, Passed)
            if isinstance(outcome, Failed):
                logger.info("%s is not ready: %s", self._owner, outcome.reason)
            self._home.changed()

    async def _follow_liveness(self, process: Process) -> None:
        timing, check = self._check("livenessProbe", process)
        await self._end_unhealthy("livenessProbe", await probes.liveness(timing, check))

    async def _end_unhealthy(self, name: str, outcome: Failed) -> None:
        logger.warning("%s is restarted, its %s failed: %s", self._owner, name, outcome.reason)
        await self._end_process(self.spec[name].get("terminationGracePeriodSeconds", self._home.grace))

    # -- stopping

    async def stop(self, grace: float) -> None:
        """End the process for good: preStop hook, SIGTERM, and SIGKILL when `grace` seconds are over."""
        if isinstance(self.state, Running):
            running = self.state
            await self._end_process(grace)
            await self._note_end(running)

    async def _end_process(self, grace: float) -> None:
        if not isinstance(self.state, Running):
            return
        process = self.state.process
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        hook = self.spec.get("lifecycle", {}).get("preStop")
        if hook and grace > 0:
            await self._run_hook(hook, process, grace)
            deadline = max(deadline, loop.time() + _AFTER_HOOK_SECONDS)
        process.terminate()
        try:
            async with asyncio.timeout_at(deadline):
                await process.ended()
        except TimeoutError:
            process.kill()
            await process.ended()

    async def _run_hook(self, hook: Json, process: Process, grace: float) -> None:
        """Run a preStop hook; it is over early when the process ends meanwhile."""
        acting = asyncio.create_task(
            perform(hook, self._home.target(self.spec, process), means=self._means, seconds=grace)
        )
        ending = asyncio.create_task(process.ended())
        try:
            await asyncio.wait([acting, ending], return_when=asyncio.FIRST_COMPLETED)
            if acting.done() and isinstance(outcome := acting.result(), Failed):
                logger.warning("%s: preStop: %s", self._owner, outcome.reason)
        finally:
            acting.cancel()
            ending.cancel()

    def kill(self) -> None:
        """End the process at once; `stop` or `run` takes note of it."""
        if isinstance(self.state, Running):
            self.state.process.kill()
