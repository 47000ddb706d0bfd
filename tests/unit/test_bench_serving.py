"""The benchmark of model servers believes no answer that was none."""

from typing import Any

import pytest

from backstay_bench_serving.load import Load, load_of
from backstay_playground.errors import PlaygroundError

REPORT: dict[str, Any] = {
    "throughput": 123.4,
    "latencies": {"50th": 2_000_000, "99th": 9_500_000},
    "status_codes": {"200": 600},
    "errors": [],
}


def test_a_report_is_read_in_seconds() -> None:
    assert load_of(REPORT) == Load(rate=123.4, p50=0.002, p99=0.0095)


@pytest.mark.parametrize("codes", [{"200": 599, "0": 1}, {"200": 599, "503": 1}, {}])
def test_a_run_with_an_answer_that_is_no_200_is_not_believed(codes: dict[str, int]) -> None:
    with pytest.raises(PlaygroundError, match="Not every answer was 200"):
        load_of({**REPORT, "status_codes": codes, "errors": ["connection refused"]})
