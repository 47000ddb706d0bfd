"""The benchmark of scale, small: one controller, pods that run nothing, a Prometheus that fails on demand."""

import asyncio
import json
from pathlib import Path

import pytest

from backstay_bench_scale.contender import INTERVAL, WEIGHT
from backstay_bench_scale.ours import Backstay
from backstay_bench_scale.prometheus import Outage
from backstay_bench_scale.scene import Scene, scene

pytestmark = pytest.mark.component

LIVE, IDLE = 8, 4
# Detection by chance may need a tick more; what hangs would need minutes.
SOON = 6 * INTERVAL


async def test_many_models_are_judged_together_through_outages_and_a_restart(tmp_path: Path) -> None:
    async with scene(Backstay(LIVE + IDLE), tmp_path) as found:
        await found.add(range(LIVE + IDLE))
        await found.bump(range(LIVE))
        await found.wait_asked(range(LIVE))
        await _costs_little_at_rest(found)
        await _holds_without_evidence(found)
        ((after, _),) = await found.breach([0])
        assert after < SOON
        await asyncio.to_thread(found.controller.stop)
        found.break_now([1, 2])
        found.controller.start()
        left = range(3, LIVE - 1)
        assert await found.wait_asked(left) < SOON
        await asyncio.wait_for(found.drained([1, 2]), SOON)
        assert [found.weight(number) for number in left] == [WEIGHT] * len(left)
        assert [found.weight(number) for number in range(LIVE, LIVE + IDLE)] == [0] * IDLE


async def _costs_little_at_rest(found: Scene) -> None:
    """However many there are: one query a template and tick, and nothing but progress is written."""
    found.audit.since_last_time()
    queries = found.evidence.queries
    await asyncio.sleep(2 * INTERVAL)
    assert found.evidence.queries - queries <= 3 * 3
    asked = found.audit.since_last_time()
    written = {what: count for what, count in asked.items() if not what.startswith(("get", "list", "watch"))}
    assert set(written) == {"update modeldeployments/status"}, json.dumps(asked)
    assert written["update modeldeployments/status"] <= 4 * LIVE


async def _holds_without_evidence(found: Scene) -> None:
    """Good canaries keep their weight in every outage; one that turns bad in the last is drained after it."""
    for kind in Outage:
        bad = [LIVE - 1] if kind is Outage.HALF else []
        async with found.evidence.outage(kind):
            found.break_now(bad)
            await asyncio.sleep(1.5 * INTERVAL)
        await asyncio.wait_for(found.drained(bad), SOON)
    assert [found.weight(number) for number in range(LIVE - 1)] == [WEIGHT] * (LIVE - 1)
