"""What a person's word means for a ModelDeployment as it stands: the annotation that the controller reads. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

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
    """Set an annotation (None removes it); ``sentence`` says what that does."""

    annotation: str
    value: str | None
    sentence: str


@dataclass(frozen=True, slots=True)
class NotNow:
    """There is nothing to act on; ``sentence`` says how things stand."""

    sentence: str


def meaning(word: Word, body: Mapping[str, Any], *, reason: str = "") -> Set | NotNow:
    """Work out what a word means for an object as it was read."""
    status = Status.of(body.get("status") or {})
    annotations: Mapping[str, str] = body["metadata"].get("annotations") or {}
    name = f"{body['metadata']['namespace']}/{body['metadata']['name']}"
    if word is Word.RESUME:
        if PAUSE not in annotations:
            return NotNow(f"{name} is not paused: {_stands(status)}")
        return Set(PAUSE, None, f"{name} goes on")
    rollout = status.rollout
    if rollout is None:
        return NotNow(f"{name} has no rollout under way: {_stands(status)}")
    said = annotations.get(_ANNOTATIONS[word], "")
    wanted, sentence = _wanted(word, name, rollout, status, reason)
    if wanted is None:
        return NotNow(sentence)
    if said.partition(":")[0] == wanted.partition(":")[0]:
        return NotNow(f"{name} was told so already ({_ANNOTATIONS[word]}={said}): {_stands(status)}")
    return Set(_ANNOTATIONS[word], wanted, sentence)


_ANNOTATIONS = {Word.PAUSE: PAUSE, Word.RESUME: PAUSE, Word.APPROVE: APPROVE, Word.ABORT: ABORT, Word.SKIP: SKIP}


def _wanted(word: Word, name: str, rollout: RolloutState, status: Status, reason: str) -> tuple[str | None, str]:
    what, step = f"version {rollout.version} of {name}", f"{rollout.id}/{rollout.step + 1}"
    match word:
        case Word.APPROVE:
            if status.phase is not Phase.AWAITING_APPROVAL:
                return None, f"{what} does not wait for approval: {_stands(status)}"
            return step, f"{what} may go on after step {status.step}"
        case Word.SKIP:
            if status.phase is Phase.AWAITING_APPROVAL:
                return None, f"{what} waits for approval, which skipping is not: backstay approve {name}"
            return step, f"{what} leaves step {status.step} as soon as its weight is on the route, unless it fails"
        case Word.ABORT:
            said = " ".join(reason.split())
            return f"{rollout.id}: {said}", f"{what} is drained, rejected, and taken out of Git: {said}"
        case _:
            return rollout.id, f"{what} keeps its {status.weight} % until backstay resume {name}; it may still fail"


def _stands(status: Status) -> str:
    return f"{status.phase}{f', {status.message}' if status.message else ''}"
