"""How far a server is: the one value that its routes, its signals and its loading thread share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from backstay_contract.profile import Profile
from backstay_serving.outcome import Outcome


class Endpoint(Protocol):
    """What the routes need of a loaded model; `backstay_serving.endpoint` has the real one, which is slow to import."""

    @property
    def digest(self) -> str:
        """The digest of the artifacts."""

    @property
    def flavor(self) -> str:
        """The MLflow flavour that the model was loaded by."""

    @property
    def profile(self) -> Profile:
        """The buckets that the model's training asks for."""

    def answer(self, body: bytes, content_type: str) -> Outcome:
        """Answer one request; never raises."""

    def answer_together(self, requests: Sequence[tuple[bytes, str]]) -> Sequence[Outcome]:
        """Answer several requests, given by body and content type, each as if it had come alone; never raises."""


@dataclass(frozen=True)
class Loading:
    """The model is on its way.

    Attributes:
        stage: what is being done.
    """

    stage: str


@dataclass(frozen=True)
class Ready:
    """The model answers."""

    endpoint: Endpoint


@dataclass(frozen=True)
class Draining:
    """The server was told to stop: it still answers, but asks for no new traffic."""

    endpoint: Endpoint


@dataclass(frozen=True)
class Failed:
    """The model cannot be served; the server is about to end.

    Attributes:
        reason: one sentence.
    """

    reason: str


State = Loading | Ready | Draining | Failed


@dataclass
class Holder:
    """Holds the present state. It is written on the event loop's thread only."""

    state: State
