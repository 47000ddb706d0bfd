"""How rollouts in a world end, as tests compare it."""

from dataclasses import dataclass

from backstay_world.world import MODEL, World

from backstay.adapters.kubernetes.client import DEPLOYMENT
from backstay.domain.resource import Key
from backstay.domain.status import RollbackState


@dataclass(frozen=True)
class Outcome:
    """What is left of a rollout once it is over, wherever the controller was killed on the way."""

    phase: str
    stable: str
    declared: str
    rejected: tuple[str, ...]
    commits: tuple[str, ...]
    remembered: frozenset[str]
    weights: tuple[int, ...]


def is_stable(world: World, version: str, key: Key = MODEL) -> bool:
    stable = world.status(key).stable
    return stable is not None and stable.version == version


def promoted(world: World, version: str = "2", key: Key = MODEL) -> bool:
    return world.phase(key) == "Stable" and is_stable(world, version, key)


def rolled_back(world: World) -> bool:
    """Tell whether a rollback is done, and nothing of the version that failed is left."""
    record = world.status().rollback
    done = record is not None and record.state is RollbackState.DONE and record.told
    return world.phase() == "RolledBack" and done and len(world.objects.all(DEPLOYMENT)) == 1


def outcome(world: World) -> Outcome:
    model, status = world.body()["spec"]["model"], world.status()
    return Outcome(
        phase=world.phase(),
        stable=status.stable.version if status.stable is not None else "",
        declared=model["version"],
        rejected=tuple(entry["version"] for entry in model.get("rejectedVersions", ())),
        commits=tuple(commit.message.split(":")[0] for commit in world.rollbacks()),
        remembered=frozenset(world.registry.stable(MODEL.name)),
        weights=tuple(sorted(weight for weight in world.weights().values() if weight)),
    )


ROLLED_BACK = Outcome(
    phase="RolledBack",
    stable="1",
    declared="1",
    rejected=("2",),
    commits=("rollback(fraud-detector)",),
    remembered=frozenset({"1"}),
    weights=(100,),
)
PROMOTED = Outcome(
    phase="Stable",
    stable="2",
    declared="2",
    rejected=(),
    commits=(),
    remembered=frozenset({"2"}),
    weights=(100,),
)
