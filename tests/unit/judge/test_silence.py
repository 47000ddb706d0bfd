"""A signal that has stopped is told from one that counts seldom, or is scraped seldom."""

import pytest

from backstay.judge.silence import Flow


def after(*intervals: tuple[float, float]) -> Flow:
    """Go through intervals of requests and counts."""
    flow = Flow()
    for requests, counted in intervals:
        flow = flow.after(requests, counted)
    return flow


@pytest.mark.parametrize(
    ("intervals", "stopped"),
    [
        pytest.param([(100, 100), *[(100, 0)] * 4], True, id="all requests were counted, and none is any more"),
        pytest.param([(100, 100), *[(100, 0)] * 3], False, id="for too short a time"),
        pytest.param([(100, 100), *[(4, 0)] * 4], False, id="too few requests"),
        pytest.param([(100, 100), *[(4, 0)] * 5], True, id="few requests in each interval, and enough by now"),
        pytest.param([(100, 100), *[(0, 0)] * 9], False, id="no requests"),
        pytest.param([(1000, 10), *[(100, 0)] * 19], False, id="one in a hundred requests was counted"),
        pytest.param([(1000, 10), *[(100, 0)] * 20], True, id="one in a hundred requests was counted, and none now"),
        pytest.param([(10, 80), *[(4, 0)] * 4], False, id="several counts a request are no more than one"),
        pytest.param([(100, 100), *[(100, 0)] * 3, (100, 400), *[(100, 0)] * 5], False, id="scraped seldom"),
        pytest.param(
            [(100, 100), *[(100, 0)] * 3, (100, 400), *[(100, 0)] * 6], True, id="scraped seldom, and stopped"
        ),
        pytest.param([(100, 100), *[(100, 0)] * 9, (100, 1)], False, id="it counts again"),
        pytest.param([(100, 0)] * 9, False, id="it never counted: there is no verdict to stand"),
        pytest.param([(0, 5), *[(100, 0)] * 9], False, id="requests that were not seen"),
    ],
)
def test_a_signal_has_stopped_when_its_counts_are_due_and_do_not_come(
    intervals: list[tuple[float, float]], *, stopped: bool
) -> None:
    assert after(*intervals).stopped is stopped
