"""``python -m backstay.cli`` and the console scripts ``backstay`` and ``kubectl-backstay``.

A command's module is imported when that command is run: what they import takes most of a second together.
"""

import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from backstay.adapters.recursion import make_room


@dataclass(frozen=True, slots=True)
class Command:
    """One command, as the list of commands shows it: ``help`` is the first paragraph of its function's docstring."""

    name: str
    module: str
    help: str

    def load(self) -> Any:
        """Import the command, with its options."""
        alone = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
        alone.command()(getattr(import_module(f"backstay.cli.{self.module}"), self.name))
        return typer.main.get_command(alone)


PANELS = {
    "Look": (
        Command("status", "cluster.status", "Show how models stand: all of them as a table, or one in depth."),
        Command("watch", "cluster.watch", "Follow a rollout until it has ended."),
        Command(
            "history",
            "cluster.status",
            "Show a model's last five rollouts, newest first, and what was rejected.",
        ),
    ),
    "Act on a rollout": (
        Command("pause", "cluster.act", "Hold a rollout at the weight that it has."),
        Command("resume", "cluster.act", "Let a paused rollout go on."),
        Command("approve", "cluster.act", "Approve the step at which a rollout waits."),
        Command(
            "abort",
            "cluster.act",
            "End a rollout as failed: the version is drained, rejected, and taken out of Git.",
        ),
        Command(
            "skip",
            "cluster.act",
            "Let a rollout leave its step before its time, its requests and its verdict are complete.",
        ),
    ),
    "Change Git": (
        Command(
            "bump",
            "git.bump",
            "Let an environment run a version: a commit, or for *production* a pull request.",
        ),
        Command(
            "promote",
            "git.promote",
            "Carry the version that one environment declares to another: a pull request, unless --commit is given.",
        ),
        Command(
            "rollback",
            "git.rollback",
            "Go back to an earlier version: one commit on the branch, or a pull request where the branch is protected.",
        ),
        Command(
            "retry",
            "git.retry",
            "Try a rejected version again: a commit, or for *production* a pull request.",
        ),
        Command(
            "diff",
            "git.diff",
            "Compare what two environments run, or what one runs with a version of the registry.",
        ),
    ),
    "Check": (
        Command(
            "verify",
            "verifying.verify",
            "Check every environment of a repository, as a person or in a pull request.",
        ),
    ),
    "Start a repository": (
        Command("init", "start.init", "Make a GitOps repository for models, ready to be pushed."),
        Command(
            "add",
            "start.init",
            "Add a model to a repository that `backstay init` made, with what its backstay.yaml says.",
        ),
    ),
    "Judge": (
        Command("judge", "judging.judge", "Judge a rollout's evidence again, and print the verdict as JSON."),
        Command(
            "plan",
            "judging.plan",
            "Say how long a rollout needs to find a harmful version, and what each of its steps cannot see.",
        ),
    ),
}
_COMMANDS = {command.name: command for commands in PANELS.values() for command in commands}
_PLUGIN = "kubectl-backstay"


class _Loading(TyperGroup):
    """A group whose commands are imported when they are run, or complete their own options."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name, the command, and the arguments that are left for it."""
        name, command, left = super().resolve_command(ctx, args)
        return name, _COMMANDS[name].load() if name in _COMMANDS else command, left


app = typer.Typer(
    name="backstay",
    cls=_Loading,
    help="Deliver machine-learning models through Git: change versions, watch rollouts, judge canaries.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _listed() -> None:
    """Stand in the list of commands for one that is imported when it is run."""


for panel, commands in PANELS.items():
    for command in commands:
        app.command(command.name, help=command.help, rich_help_panel=panel)(_listed)


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
