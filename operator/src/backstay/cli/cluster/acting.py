"""What a person's word means for a ModelDeployment as it stands: the annotation that the controller reads. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from backstay.adapters.messages.plain import line
from backstay.cli.cluster.rendering import unseen
from backstay.domain.resource import ABORT, APPROVE, PAUSE, SKIP
from backstay.domain.status import Phase, RolloutState, Status


class Word(StrEnum):
    """What a person may say to a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    APPROVE = "approve"
    ABORT = "abort"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Set:
    """Set an annotation (None removes it); ``sentence`` says what that does, ``next`` what comes then."""

    annotation: str
    value: str | None
    sentence: str
    next: str


@dataclass(frozen=True, slots=True)
class NotNow:
    """There is nothing to act on; ``sentence`` says how things stand."""

    sentence: str


@dataclass(frozen=True, slots=True)
class _Rollout:
    """A rollout under way and the object it belongs to: who says ``name`` means this one."""

    name: str
    status: Status
    state: RolloutState

    @property
    def what(self) -> str:
        return f"version {self.state.version} of {self.name}"

    @property
    def step(self) -> str:
        """The name of the step under way, as the controller reads it."""
        return f"{self.state.id}/{self.state.step + 1}"

    @property
    def following(self) -> str:
        return f"Follow it: backstay watch {self.name}"


def meaning(word: Word, body: Mapping[str, Any], *, reason: str = "") -> Set | NotNow:
    """Work out what a word means for an object as it was read.

    Raises:
        ValueError: the object's status has words that this version does not know.
    """
    status = Status.of(body.get("status") or {})
    annotations: Mapping[str, str] = body["metadata"].get("annotations") or {}
    name = f"{body['metadata']['namespace']}/{body['metadata']['name']}"
    if word is Word.RESUME:
        if PAUSE not in annotations:
            return NotNow(f"{name} is not paused: {_stands(status)}")
        return Set(PAUSE, None, f"{name} goes on where it was paused", f"Follow it: backstay watch {name}")
    if status.rollout is None:
        return NotNow(f"{name} has no rollout under way: {_stands(status)}")
    if word in {Word.APPROVE, Word.SKIP} and unseen(body):
        return NotNow(
            f"{name} was changed just now, and the controller has not looked at it yet: "
            f"try again when backstay status {name} shows what became of it"
        )
    act = _act(word, _Rollout(name, status, status.rollout), reason)
    if isinstance(act, Set) and _named(annotations.get(act.annotation)) == _named(act.value):
        said = line(annotations[act.annotation])
        return NotNow(f"{name} was told so already ({act.annotation}={said}): {_stands(status)}")
    return act


def _named(value: str | None) -> str:
    """Return what an annotation's value names, without the reason that may follow."""
    return (value or "").partition(":")[0].strip()


def _act(word: Word, rollout: _Rollout, reason: str) -> Set | NotNow:
    match word:
        case Word.APPROVE:
            return _approve(rollout)
        case Word.SKIP:
            return _skip(rollout)
        case Word.ABORT:
            return _abort(rollout, reason)
        case Word.PAUSE | Word.RESUME:
            kept = f"{rollout.what} keeps its {rollout.status.weight} % of the traffic"
            go_on = f"It is still judged, and taken back if it fails. Go on: backstay resume {rollout.name}"
            return Set(PAUSE, rollout.state.id, kept, go_on)
        case _:
            assert_never(word)


def _approve(rollout: _Rollout) -> Set | NotNow:
    if rollout.status.phase is not Phase.AWAITING_APPROVAL:
        return NotNow(f"{rollout.what} does not wait for approval: {_stands(rollout.status)}")
    return Set(APPROVE, rollout.step, f"{rollout.what} may go on after step {rollout.status.step}", rollout.following)


def _skip(rollout: _Rollout) -> Set | NotNow:
    if rollout.status.phase is Phase.AWAITING_APPROVAL:
        return NotNow(f"{rollout.what} waits for approval, which skipping is not: backstay approve {rollout.name}")
    if rollout.status.phase is Phase.PAUSED:
        return NotNow(f"{rollout.what} is paused, and skips no step: backstay resume {rollout.name} first")
    number, _, count = rollout.status.step.partition("/")
    last = ", the last, and is stable then" if number == count and count else ""
    left = f"leaves step {rollout.status.step}{last} as soon as its weight is on the route, unless it fails"
    return Set(SKIP, rollout.step, f"{rollout.what} {left}", rollout.following)


def _abort(rollout: _Rollout, reason: str) -> Set:
    """Say what a failure leads to, which is not the same for every rollout."""
    stable, state = rollout.status.stable, rollout.state
    if stable is None:
        then = "It is rejected, but keeps its traffic, since there is no earlier version: commit another one"
    elif (stable.version, stable.digest) == (state.version, state.digest):
        then = "The former configuration serves, and Git is left as it is: revert the commit that brought the new one"
    else:
        then = f"It is rejected, version {stable.version} serves, and Git follows: backstay status {rollout.name}"
    said = line(reason)
    return Set(ABORT, f"{state.id}: {said}", f"{rollout.what} is ended as failed: {said}", then)


def _stands(status: Status) -> str:
    return line(f"{status.phase}{f', {status.message}' if status.message else ''}")
