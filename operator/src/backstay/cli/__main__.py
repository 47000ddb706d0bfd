"""``python -m backstay.cli`` and the console scripts ``backstay`` and ``kubectl-backstay``."""

import sys
from pathlib import Path

import typer

from backstay.adapters.recursion import make_room
from backstay.cli.cluster.act import abort, approve, pause, resume, skip
from backstay.cli.cluster.status import history, status
from backstay.cli.cluster.watch import watch
from backstay.cli.git.bump import bump
from backstay.cli.git.diff import diff
from backstay.cli.git.promote import promote
from backstay.cli.git.retry import retry
from backstay.cli.git.rollback import rollback
from backstay.cli.judging.judge import judge
from backstay.cli.judging.plan import plan
from backstay.cli.start.init import add, init
from backstay.cli.verifying.verify import verify

app = typer.Typer(
    name="backstay",
    help="Deliver machine-learning models through Git: change versions, watch rollouts, judge canaries.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
_PANELS = {
    "Look": (status, watch, history),
    "Act on a rollout": (pause, resume, approve, abort, skip),
    "Change Git": (bump, promote, rollback, retry, diff),
    "Check": (verify,),
    "Start a repository": (init, add),
    "Judge": (judge, plan),
}
for panel, commands in _PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)


_PLUGIN = "kubectl-backstay"


def main() -> None:
    """Run the command under the name that a person typed: ``backstay``, or ``kubectl backstay``."""
    make_room()
    plugin = Path(sys.argv[0]).name == _PLUGIN
    if plugin and {"--install-completion", "--show-completion"} & set(sys.argv[1:2]):
        sys.exit(
            "backstay: kubectl completes its plugins where its own completion is set up: put kubectl_complete-backstay "
            "on the PATH beside kubectl-backstay"
        )
    app(prog_name="kubectl backstay" if plugin else "backstay")


if __name__ == "__main__":
    main()
