"""How long a rollout that is rolled back takes in the simulated world: ``python -m backstay_world.benchmark``."""

import gc
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from backstay_world.nodes import Behaviour
from backstay_world.world import World

_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Measure:
    """One rollout, from the commit that declares a bad version to the sync of the one that takes it back.

    ``wall`` and ``cpu`` are real seconds, ``simulated`` those of the world. ``requests`` are those to the API server,
    ``turns`` those of the event loop.
    """

    wall: float
    cpu: float
    simulated: float
    requests: int
    turns: int


def measure(folder: Path) -> Measure:
    """Roll one version back, in a world of its own."""
    with World(folder) as world:
        world.add()
        world.start()
        world.until("version 1 is stable", lambda: world.phase() == "Stable")
        world.behaviours["2"] = Behaviour(errors=0.2)
        requests, turns, simulated = world.server.requests, world.loop.turns, world.loop.time()
        # As the controller's process does by itself every five minutes.
        gc.freeze()
        wall, cpu = time.perf_counter(), time.process_time()
        world.declare("2")
        world.until("it is rolled back", lambda: world.phase() == "RolledBack")
        found = Measure(
            wall=time.perf_counter() - wall,
            cpu=time.process_time() - cpu,
            simulated=world.loop.time() - simulated,
            requests=world.server.requests - requests,
            turns=world.loop.turns - turns,
        )
        world.invariants.finish()
        return found


def main() -> None:
    """Measure some rounds after a first one that imports and fills caches, and print the median and the extremes."""
    with tempfile.TemporaryDirectory() as folder:
        rounds = [measure(Path(folder) / str(number)) for number in range(_ROUNDS + 1)][1:]
    for name in ("wall", "cpu"):
        times = [1000 * getattr(one, name) for one in rounds]
        told = f"{name} {statistics.median(times):.0f} ms (from {min(times):.0f} to {max(times):.0f})"
        sys.stdout.write(f"a rollout with its rollback: {told}\n")
    one = rounds[0]
    sys.stdout.write(
        f"{one.simulated:.1f} simulated seconds, {one.requests} requests to the API server, {one.turns} turns of the "
        f"loop, {statistics.median(each.turns / each.wall for each in rounds):,.0f} turns a second\n"
    )


if __name__ == "__main__":
    main()
