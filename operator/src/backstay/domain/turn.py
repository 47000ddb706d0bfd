"""One turn of a decision: what is known, and what has been decided so far."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from backstay.domain.actions import Action, Announce, Severity
from backstay.domain.observed import Backend, Mark, Observed
from backstay.domain.resource import ModelDeployment, ModelIdentity, Plan
from backstay.domain.status import HISTORY_LENGTH, Ended, Phase, Served, Status


@dataclass(slots=True)
class Turn:
    """The working sheet of one call of ``decide``: inputs that stay, and a decision in the making.

    ``live`` are the weights wanted on the route, None to leave it as it is; ``copies`` are the backends that get copies
    of requests, and of how many in percent; ``keep`` are the backends that stay though they get no traffic;
    ``lacks_pods`` tells that the decision needs a newer reading of the pods.
    """

    desired: ModelDeployment
    observed: Observed
    now: float
    status: Status
    actions: list[Action] = field(default_factory=list)
    live: Mapping[Backend, int] | None = None
    copies: Mapping[Backend, int] = field(default_factory=dict)
    keep: set[Backend] = field(default_factory=set)
    marks: list[Mark] = field(default_factory=list)
    wake: float | None = None
    lacks_pods: bool = False

    def act(self, *actions: Action) -> None:
        """Ask for acts, in this order."""
        self.actions.extend(actions)

    def note(self, **changes: Any) -> None:
        """Remember."""
        self.status = replace(self.status, **changes)

    def say(self, phase: Phase, message: str, *, stalled: str = "") -> None:
        """Set what people see; ``stalled`` is a reason in one word where a person is needed."""
        self.note(phase=phase, message=message, stalled=stalled)

    def announce(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Send an Event."""
        self.act(Announce(reason, message, Severity.WARNING if warning else Severity.NORMAL))

    def wake_in(self, delay: float) -> None:
        """Look again after so many seconds at the latest."""
        delay = max(delay, 0.05)
        self.wake = delay if self.wake is None else min(self.wake, delay)

    def need_pods(self, *, since: float | None = None) -> None:
        """Ask for a reading of the pods, unless there is one from that time (Unix seconds; now if not given) or later.

        The rest of this decision is not carried out then: it is made anew with that reading.
        """
        if self.observed.pods_read_at < (self.now if since is None else since):
            self.lacks_pods = True

    def record(self, ended: Ended) -> None:
        """Add a line to the history."""
        self.note(history=(*self.status.history, ended)[-HISTORY_LENGTH:])

    def plan_for(self, served: Served) -> Plan | None:
        """Find the plan of a revision: as kept, as declared, or made again from what is declared."""
        if served.revision in self.observed.plans:
            return self.observed.plans[served.revision]
        if served.revision == self.desired.plan.revision:
            return self.desired.plan
        again = self.desired.plan.serving_version(
            ModelIdentity(self.desired.plan.model.name, served.version, served.digest)
        )
        return again if again.revision == served.revision else None

    def rollback_id(self, version: str, digest: str, commit: str) -> str:
        """Name the one rollback that there may be for this version set by this commit."""
        return rollback_id(self.observed.cluster, self.desired, version=version, digest=digest, commit=commit)


def rollback_id(cluster: str, desired: ModelDeployment, *, version: str, digest: str, commit: str) -> str:
    """Hash what makes a rollback unique, so that a repetition finds the first one."""
    parts = (cluster, desired.key.namespace, desired.key.name, version, digest, commit)
    identity = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    if identity == desired.retry_of:
        # The same commit asks for the retry: its failure is another rollback, or it would lift itself.
        return hashlib.sha256(identity.encode()).hexdigest()[:16]
    return identity
