"""Runs named pieces of work in parallel, each once everything it needs is done."""

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter


def closure(needs: Mapping[str, Collection[str]], wanted: Collection[str]) -> dict[str, Collection[str]]:
    """Return the part of the graph that `wanted` needs, directly or through others."""
    found: dict[str, Collection[str]] = {}
    stack = list(wanted)
    while stack:
        name = stack.pop()
        if name not in found:
            found[name] = needs[name]
            stack.extend(needs[name])
    return found


def run_all(needs: Mapping[str, Collection[str]], work: Callable[[str], None], *, cancel: Callable[[], None]) -> None:
    """Call `work` with each name, in parallel where the graph allows.

    After the first exception nothing more is started, `cancel` is called so that running work can stop, and when all
    of it has, that first exception is raised.
    """
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    running: dict[Future[None], str] = {}
    with ThreadPoolExecutor(max_workers=max(1, len(needs))) as pool:
        try:
            while sorter.is_active():
                for name in sorter.get_ready():
                    running[pool.submit(work, name)] = name
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    name = running.pop(future)
                    future.result()
                    sorter.done(name)
        except BaseException:
            cancel()
            raise
