"""Work in parallel, in an order that respects what each piece needs."""

import threading

import pytest

from backstay_playground.graph import closure, run_all

DIAMOND = {"base": (), "left": ("base",), "right": ("base",), "top": ("left", "right"), "other": ()}


def test_closure_is_what_is_needed_and_no_more() -> None:
    assert set(closure(DIAMOND, ["left"])) == {"left", "base"}
    assert set(closure(DIAMOND, ["top"])) == {"top", "left", "right", "base"}


def test_nothing_starts_before_what_it_needs() -> None:
    done: list[str] = []
    lock = threading.Lock()

    def work(name: str) -> None:
        with lock:
            assert set(DIAMOND[name]) <= set(done)
            done.append(name)

    run_all(DIAMOND, work, cancel=lambda: None)
    assert sorted(done) == sorted(DIAMOND)


def test_independent_work_runs_at_the_same_time() -> None:
    together = threading.Barrier(2, timeout=10)
    run_all({"left": (), "right": ()}, lambda _: _pass(together), cancel=lambda: None)


def _pass(barrier: threading.Barrier) -> None:
    barrier.wait()


def test_after_a_failure_the_rest_is_cancelled_and_the_failure_raised() -> None:
    cancelled = threading.Event()
    seen: list[str] = []

    def work(name: str) -> None:
        seen.append(name)
        if name == "left":
            raise ValueError("left failed")
        if name == "right":
            assert cancelled.wait(10)

    with pytest.raises(ValueError, match="left failed"):
        run_all(DIAMOND, work, cancel=cancelled.set)
    assert "top" not in seen
