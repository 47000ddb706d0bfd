from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstay_serving.feedback import (
    Accepted,
    Conflict,
    Feedback,
    FeedbackSettings,
    Label,
    Matured,
    Memory,
    Misfit,
    Repeated,
    Unknown,
    parse_feedback,
)
from backstay_serving.outcome import Answered
from backstay_serving.payload import BadRequestError

JSON = "application/json"
WINDOW = 10.0


def answered(*answers: object, scores: tuple[float, ...] = (), classes: tuple[object, ...] = (0, 1)) -> Answered:
    return Answered(
        body=b"",
        scores=scores,
        confidences=(),
        values=len(answers),
        nulls=0,
        answers=answers,
        inputs=list,
        classes=classes,
    )


def memory(*, max_predictions: int = 100) -> Memory:
    return Memory(FeedbackSettings(window_seconds=WINDOW, max_predictions=max_predictions))


def label(request_id: str, *labels: Label) -> Feedback:
    return Feedback(request_id, labels)


def test_a_prediction_is_counted_once_its_window_is_over_and_not_before() -> None:
    known = memory()
    known.remember("a", answered(1, 0, scores=(0.9, 0.2)), now=0)
    known.remember("b", answered(1, scores=(0.7,)), now=4)
    assert known.receive(label("a", 1, 1), now=9) == Accepted()
    assert known.mature(now=9.9) == []
    assert known.mature(now=10) == [
        Matured(predictions=2, labelled=2, correct=1, positives=(0.9, 0.2), negatives=()),
    ]
    assert known.mature(now=14) == [Matured(predictions=1)]
    assert known.mature(now=1000) == []


def test_labels_count_once() -> None:
    known = memory()
    known.remember("a", answered(1), now=0)
    assert known.receive(label("a", 1), now=1) == Accepted()
    assert known.receive(label("a", 1), now=2) == Repeated()
    assert known.receive(label("a", 0), now=3) == Conflict()
    assert known.mature(now=10) == [Matured(predictions=1, labelled=1, correct=1)]


@pytest.mark.parametrize("now", [10.0, 11.0])
def test_a_label_after_the_window_is_of_no_known_answer(now: float) -> None:
    known = memory()
    known.remember("a", answered(1), now=0)
    assert known.receive(label("a", 1), now=now) == Unknown()


def test_a_request_sent_again_is_the_same_request() -> None:
    known = memory()
    known.remember("a", answered(1), now=0)
    known.receive(label("a", 0), now=1)
    known.remember("a", answered(1), now=2)
    assert known.mature(now=20) == [Matured(predictions=1, labelled=1, correct=0)]


def test_the_oldest_are_forgotten_where_there_is_no_room() -> None:
    known = memory(max_predictions=3)
    assert known.remember("a", answered(1, 1), now=0) == 0
    assert known.remember("b", answered(1, 1), now=1) == 2
    assert known.receive(label("a", 1, 1), now=2) == Unknown()
    assert known.remember("c", answered(1, 1, 1, 1), now=3) == 6
    assert known.mature(now=100) == []


@pytest.mark.parametrize(
    ("prediction", "labels", "said"),
    [
        (answered(1, 0), (1,), "The request had 2 rows and the feedback has 1 labels"),
        (answered(1), (2,), "The label 2 is none of the model's classes, which are 0, 1"),
        (answered("yes", classes=("no", "yes")), (True,), "The label True is none of the model's classes"),
        (answered(3.5, classes=()), (3.5,), "The model answers numbers and not classes"),
        (answered([0.1, 0.9], classes=()), (1,), "The model answers several values a row"),
    ],
)
def test_labels_that_do_not_fit_are_refused_and_a_fit_one_may_follow(
    prediction: Answered, labels: tuple[Label, ...], said: str
) -> None:
    known = memory()
    known.remember("a", prediction, now=0)
    received = known.receive(label("a", *labels), now=1)
    assert isinstance(received, Misfit)
    assert received.reason.startswith(said)
    assert all(matured.labelled == 0 for matured in known.mature(now=10))


def test_a_model_whose_answers_are_not_right_or_wrong_is_not_counted() -> None:
    known = memory()
    known.remember("a", answered(3.5, classes=()), now=0)
    assert known.mature(now=10) == []


def test_without_a_window_nothing_is_remembered() -> None:
    known = Memory(FeedbackSettings(window_seconds=0, max_predictions=10))
    known.remember("a", answered(1), now=0)
    assert known.receive(label("a", 1), now=0) == Unknown()


@pytest.mark.parametrize(
    ("body", "labels"),
    [(b'{"id": "a", "label": 1}', (1,)), (b'{"id": "a", "labels": ["x", true, 0.5]}', ("x", True, 0.5))],
)
def test_feedback_is_one_label_or_one_for_each_row(body: bytes, labels: tuple[Label, ...]) -> None:
    assert parse_feedback(body, "application/json; charset=utf-8") == Feedback("a", labels)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "The body is not JSON"),
        (b"\xff", "The body is not UTF-8"),
        (b"[1]", "Send an object like"),
        (b'{"id": "a"}', "Send an object like"),
        (b'{"id": "a", "label": 1, "labels": [1]}', "Send an object like"),
        (b'{"id": 1, "label": 1}', "id has to be"),
        (b'{"id": "", "label": 1}', "id has to be"),
        (b'{"id": "a", "labels": []}', "labels has to be a list"),
        (b'{"id": "a", "label": null}', "The label of row 0 is none"),
        (b'{"id": "a", "label": NaN}', "The label of row 0 is none"),
        (b'{"id": "a", "labels": [1, [1]]}', "The label of row 1 is none"),
        (b'{"id": "a", "label": ' + b"1" * 5000 + b"}", "The body holds a number with too many digits"),
    ],
)
def test_what_is_no_feedback_is_refused_in_a_sentence(body: bytes, said: str) -> None:
    with pytest.raises(BadRequestError, match=said) as refused:
        parse_feedback(body, JSON)
    assert refused.value.status == 400


def test_feedback_that_is_not_said_to_be_json_is_refused() -> None:
    with pytest.raises(BadRequestError) as refused:
        parse_feedback(b'{"id": "a", "label": 1}', "text/plain")
    assert refused.value.status == 415


@given(
    events=st.lists(
        st.tuples(st.sampled_from(["predict", "label"]), st.integers(0, 8), st.integers(0, 1), st.floats(0, 5)),
        max_size=60,
    ),
    room=st.integers(1, 12),
)
def test_every_prediction_is_counted_or_forgotten_exactly_once_whatever_happens(
    events: list[tuple[str, int, int, float]], room: int
) -> None:
    known = memory(max_predictions=room)
    now, total = 0.0, Counter[str]()

    def sweep(at: float) -> None:
        for matured in known.mature(at):
            total.update(matured=matured.predictions, labelled=matured.labelled, correct=matured.correct)

    alive: dict[str, float] = {}
    for kind, name, value, pause in events:
        now += pause
        sweep(now)
        alive = {request_id: at for request_id, at in alive.items() if at + WINDOW > now}
        if kind == "predict":
            total["predicted"] += f"{name}" not in alive
            alive.setdefault(f"{name}", now)
            forgotten = known.remember(f"{name}", answered(value), now)
            total["forgotten"] += forgotten
            for oldest in list(alive)[:forgotten]:
                del alive[oldest]
        else:
            total["accepted"] += known.receive(label(f"{name}", value), now) == Accepted()
    sweep(now + WINDOW)
    assert total["predicted"] == total["matured"] + total["forgotten"]
    assert total["correct"] <= total["labelled"] <= min(total["accepted"], total["matured"])
    assert total["accepted"] - total["labelled"] <= total["forgotten"]


def test_scores_are_told_apart_by_the_label() -> None:
    known = memory()
    known.remember("a", replace(answered("no", "yes", classes=("no", "yes")), scores=(0.4, 0.6)), now=0)
    known.receive(label("a", "yes", "no"), now=1)
    assert known.mature(now=10) == [
        Matured(predictions=2, labelled=2, correct=0, positives=(0.4,), negatives=(0.6,)),
    ]
