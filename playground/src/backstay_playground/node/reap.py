"""The command `python -m backstay_playground.node.reap`: end every process that a node recorded, even a dead one."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from backstay_playground.node.agent import ledger_folder
from backstay_playground.node.process import Ledger, kill_session, session

_GRACE_SECONDS = 3.0


def reap(state: Path, *, grace: float = _GRACE_SECONDS) -> int:
    """End all recorded processes with their sessions: SIGTERM, and SIGKILL after `grace` seconds.

    Returns:
        How many containers still had processes.
    """
    ledger = Ledger(ledger_folder(state))
    recorded = ledger.load()
    alive = {owner: identity for owner, identity in recorded.items() if list(session(identity))}
    for identity in alive.values():
        for pid in list(session(identity)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and any(list(session(identity)) for identity in alive.values()):
        time.sleep(0.05)
    for owner, identity in recorded.items():
        kill_session(identity)
        ledger.forget(owner)
    return len(alive)


def main(
    *,
    state: Annotated[Path, typer.Option(help="The node's state folder.")],
    grace: Annotated[float, typer.Option(min=0, help="Seconds between SIGTERM and SIGKILL.")] = _GRACE_SECONDS,
) -> None:
    """End every process that the node with this state folder started."""
    typer.echo(f"{reap(state, grace=grace)} containers ended")


if __name__ == "__main__":
    typer.run(main)
