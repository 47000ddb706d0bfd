import logging

from backstay_serving.log import OncePerInterval


def record(kind: str, *, at: float) -> logging.LogRecord:
    made = logging.LogRecord("server", logging.ERROR, __file__, 1, "The model raised %s", ("ValueError",), None)
    made.created = at
    if kind:
        made.kind = kind
    return made


def test_equal_events_are_told_once_an_interval_and_counted() -> None:
    once = OncePerInterval(seconds=60)
    assert once.filter(record("prediction ValueError", at=0))
    assert not any(once.filter(record("prediction ValueError", at=at)) for at in (1, 30, 59.9))
    again = record("prediction ValueError", at=75)
    assert once.filter(again)
    assert again.getMessage() == "The model raised ValueError [and 3 more like this in the last 75 s]"
    assert not once.filter(record("prediction ValueError", at=76))


def test_kinds_do_not_hide_each_other() -> None:
    once = OncePerInterval(seconds=60)
    assert once.filter(record("prediction ValueError", at=0))
    assert once.filter(record("prediction KeyError", at=1))


def test_other_records_pass() -> None:
    once = OncePerInterval(seconds=60)
    assert all(once.filter(record("", at=at)) for at in (0, 0, 1))


def test_a_quiet_interval_adds_nothing_to_the_message() -> None:
    once = OncePerInterval(seconds=60)
    assert once.filter(record("internal", at=0))
    later = record("internal", at=100)
    assert once.filter(later)
    assert later.getMessage() == "The model raised ValueError"
