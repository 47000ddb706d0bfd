from collections.abc import Iterator
from pathlib import Path

import pytest
from backstay_world.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world in which all invariants hold to the end, with a model whose version 1 is stable."""
    with World(tmp_path) as made:
        made.add()
        made.start()
        made.until("version 1 is stable", lambda: made.phase() == "Stable")
        yield made
        made.invariants.finish()
        assert not made.troubles
