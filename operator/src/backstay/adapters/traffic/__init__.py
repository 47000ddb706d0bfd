"""How traffic is shared between revisions: one provider for each kind of gateway."""

from typing import Protocol

from backstay.adapters.kubernetes.client import Kind, Object
from backstay.domain.observed import Mark, Route, Weights
from backstay.domain.resource import ModelDeployment


class TrafficProvider(Protocol):
    """Writes weights, copies and marks of rejected revisions into one object, and reads them back from it."""

    kind: Kind

    def build(self, desired: ModelDeployment, weights: Weights, copies: Weights, marks: tuple[Mark, ...]) -> Object:
        """Make the object; the caller adds the resourceVersion that it was decided on."""
        ...

    def read(self, live: Object) -> Route:
        """Read an object of this kind."""
        ...

    def problem(self, live: Object) -> str:
        """Say in a sentence why the gateway does not take the object, or return the empty string."""
        ...
