"""``python -m backstay.cli`` and the console script ``backstay``."""

import typer

from backstay.cli.judge import judge
from backstay.cli.plan import plan

app = typer.Typer(
    name="backstay",
    help="Judge canaries of machine-learning models: replay a verdict, plan a rollout.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command()(judge)
app.command()(plan)


def main() -> None:
    """Run the command."""
    app(prog_name="backstay")


if __name__ == "__main__":
    main()
