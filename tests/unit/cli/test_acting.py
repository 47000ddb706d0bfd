"""What a person's word means for a ModelDeployment as it stands."""

from typing import Any

import pytest

from backstay.cli.cluster.acting import NotNow, Set, Word, meaning

NAME = "fraud-production/fraud-detector"
WHAT = f"version 8 of {NAME}"


def model(phase: str = "Progressing", *, annotations: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    """Return an object whose rollout 8-12 is at step 2 of 5, unless the status says otherwise."""
    namespace, _, name = NAME.partition("/")
    return {
        "metadata": {"namespace": namespace, "name": name, "generation": 12, "annotations": annotations or {}},
        "spec": {"model": {"name": "fraud-detector", "version": "8"}},
        "status": {
            "observedGeneration": 12,
            "phase": phase,
            "message": "so it is",
            "step": "2/5",
            "weight": 10,
            "stable": {"revision": "r7", "version": "7", "digest": "sha256:77"},
            "rollout": {
                "id": "8-12",
                "revision": "r8",
                "version": "8",
                "digest": "sha256:88",
                "startedAt": "2026-03-01T09:30:00Z",
                "step": 1,
            },
            **status,
        },
    }


@pytest.mark.parametrize(
    ("word", "body", "annotation", "value", "sentence", "then"),
    [
        (Word.PAUSE, model(), "pause", "8-12", f"{WHAT} keeps its 10 % of the traffic", "backstay resume"),
        (Word.PAUSE, model("Starting", weight=0), "pause", "8-12", "keeps its 0 %", "taken back if it fails"),
        (Word.APPROVE, model("AwaitingApproval"), "approve", "8-12/2", "may go on after step 2/5", "backstay watch"),
        (Word.SKIP, model(), "skip", "8-12/2", f"{WHAT} leaves step 2/5 as soon as", "backstay watch"),
        (Word.SKIP, model("Baking", step="2/2"), "skip", "8-12/2", "2/2, the last, and is stable then", "watch"),
        (Word.ABORT, model(), "abort", "8-12: too slow", f"{WHAT} is ended as failed: too slow", "version 7 serves"),
        (Word.ABORT, model(stable=None), "abort", "8-12: too slow", "ended as failed", "there is no earlier version"),
        (
            Word.ABORT,
            model(stable={"revision": "r6", "version": "8", "digest": "sha256:88"}),
            "abort",
            "8-12: too slow",
            "ended as failed",
            "Git is left as it is",
        ),
        (Word.PAUSE, model(annotations={"backstay.dev/pause": "8-11"}), "pause", "8-12", "keeps", "resume"),
        (Word.ABORT, model(annotations={"backstay.dev/abort": "7-9: old"}), "abort", "8-12: too slow", "ended", "Git"),
    ],
)
def test_a_word_is_an_annotation_that_names_rollout_and_step(  # noqa: PLR0913, PLR0917 - a row of the table
    word: Word, body: dict[str, Any], annotation: str, value: str, sentence: str, then: str
) -> None:
    act = meaning(word, body, reason="too\nslow")
    assert isinstance(act, Set)
    assert (act.annotation, act.value) == (f"backstay.dev/{annotation}", value)
    assert sentence in act.sentence
    assert then in act.next


@pytest.mark.parametrize("body", [model("Paused"), model("Stable", rollout=None)], ids=["paused", "left over"])
def test_resuming_takes_the_pause_away_whatever_it_names(body: dict[str, Any]) -> None:
    body["metadata"]["annotations"] = {"backstay.dev/pause": "7-3"}
    act = meaning(Word.RESUME, body)
    assert isinstance(act, Set)
    assert (act.annotation, act.value) == ("backstay.dev/pause", None)


@pytest.mark.parametrize(
    ("word", "body", "sentence"),
    [
        (Word.APPROVE, model(), f"{WHAT} does not wait for approval: Progressing, so it is"),
        (Word.APPROVE, model("Paused"), "does not wait for approval: Paused"),
        (Word.APPROVE, model("Stable", rollout=None), f"{NAME} has no rollout under way: Stable, so it is"),
        (Word.ABORT, model("RollingBack", rollout=None), "has no rollout under way: RollingBack"),
        (Word.PAUSE, {**model(), "status": {}}, "has no rollout under way: Pending"),
        (Word.RESUME, model(), f"{NAME} is not paused: Progressing, so it is"),
        (Word.SKIP, model("AwaitingApproval"), f"waits for approval, which skipping is not: backstay approve {NAME}"),
        (Word.SKIP, model("Paused"), f"is paused, and skips no step: backstay resume {NAME} first"),
        (Word.APPROVE, model("AwaitingApproval", observedGeneration=11), "was changed just now"),
        (Word.SKIP, model(observedGeneration=11), "the controller has not looked at it yet"),
        (
            Word.APPROVE,
            model("AwaitingApproval", annotations={"backstay.dev/approve": "8-12/2"}),
            f"{NAME} was told so already (backstay.dev/approve=8-12/2): AwaitingApproval",
        ),
        (Word.ABORT, model(annotations={"backstay.dev/abort": "8-12 : other"}), "was told so already"),
    ],
)
def test_where_there_is_nothing_to_act_on_the_state_is_told(word: Word, body: dict[str, Any], sentence: str) -> None:
    act = meaning(word, body, reason="too slow")
    assert isinstance(act, NotNow)
    assert sentence in act.sentence


@pytest.mark.parametrize("word", [Word.ABORT, Word.PAUSE])
def test_what_makes_things_safer_does_not_wait_for_the_controller(word: Word) -> None:
    assert isinstance(meaning(word, model(observedGeneration=11), reason="x"), Set)


def test_what_others_wrote_commands_no_terminal() -> None:
    act = meaning(Word.APPROVE, model(message="\x1b[2Jhello\nworld"))
    assert isinstance(act, NotNow)
    assert act.sentence.endswith("Progressing, [2Jhello world")
