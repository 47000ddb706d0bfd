"""`make demo`: a good version goes live, a bad one goes back to Git, told on the terminal."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from backstay_playground.demo.rollouts import Observer, Promotion, Rollback, timestamp
from backstay_playground.demo.stage import BRANCH, MODEL, PRODUCTION, REPOSITORY, Pace, Stage
from backstay_playground.demo.traffic import Traffic
from backstay_playground.demo.watcher import weights
from backstay_playground.errors import PlaygroundError
from backstay_playground.layout import repository_root
from backstay_playground.playground import Playground

RATE = 100.0
_AFTERGLOW = 5.0


class Story:
    """Tells what happens while it happens."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = time.monotonic()

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        self._console.print(f"\n[bold]{self._clock()}  {title}[/]", highlight=False, soft_wrap=True)

    def line(self, text: str) -> None:
        """Say a sentence."""
        self._console.print(f"  {self._clock()}  {text}", highlight=False, soft_wrap=True)

    def _clock(self) -> str:
        return f"{time.monotonic() - self._begun:6.1f} s"

    @contextmanager
    def following(self, observer: Observer, traffic: Traffic | None) -> Iterator[None]:
        """Show a live table while something goes on; without a terminal, a line for each change."""
        stop = threading.Event()

        def show() -> None:
            if not self._console.is_terminal:
                self._tell_changes(observer, stop)
                return
            with Live(console=self._console, refresh_per_second=4, transient=True) as live:
                while not stop.wait(0.25):
                    live.update(_table(observer, traffic))

        thread = threading.Thread(target=show, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(timeout=5)

    def _tell_changes(self, observer: Observer, stop: threading.Event) -> None:
        told = ""
        while not stop.wait(0.2):
            status = observer.status()
            brief = f"{status.get('phase', '-')} {status.get('step', '')} weight {status.get('weight', 0)}"
            if brief != told:
                told = brief
                self.line(f"{brief}: {status.get('message', '')}")


def _table(observer: Observer, traffic: Traffic | None) -> Table:
    status = observer.status()
    table = Table(title=f"ModelDeployment {observer.target.namespace}/{MODEL}")
    table.add_column("")
    table.add_column("")
    table.add_row("phase", f"{status.get('phase', '-')} {status.get('step', '')}")
    table.add_row("stable", status.get("stable", {}).get("version", "-"))
    table.add_row("verdict", status.get("verdict", "-"))
    table.add_row("weights", ", ".join(f"{name} {weight}" for name, weight in weights(observer.route.latest()).items()))
    table.add_row("message", status.get("message", ""))
    if traffic is not None:
        tally = traffic.tally()
        for version, outcome in sorted(tally.answers.items()):
            table.add_row(f"answers of {version}", f"{outcome['ok']} ok, {outcome['error']} errors")
        table.add_row("lost requests", str(tally.lost))
    return table


def demo(playground: Playground, *, console: Console, report: Path, protected: bool = False) -> None:
    """Play the whole story and write the report; on a ``protected`` branch the rollback comes as a pull request.

    Raises:
        PlaygroundError: something did not happen as it should; the text says what.
    """
    story = Story(console)
    story.chapter("Bringing up a real environment on loopback")
    playground.up()
    stage = Stage(playground)
    _prepare(story, stage)
    observer = Observer(stage, PRODUCTION)
    traffic: Traffic | None = None
    try:
        story.chapter("Argo CD delivers the first version")
        stage.deliver(PRODUCTION)
        with story.following(observer, None):
            observer.wait_stable("1", timeout=180)
        story.line("Version 1 is stable. Prediction requests start, and do not stop until the end.")
        traffic = stage.traffic(PRODUCTION, rate=RATE).start()

        story.chapter("A pull request bumps production to version 2, a better model")
        with story.following(observer, traffic):
            promotion = observer.promote("2")
        story.line(f"Version 2 went through {promotion.weights} % and is stable.")

        story.chapter("A pull request bumps production to version 3, trained on wrongly scaled features")
        with story.following(observer, traffic), stage.protected_branch() if protected else nullcontext():
            rollback = observer.roll_back("3", traffic)
        story.line(f"Version 3 failed: {rollback.reason}")
        if protected:
            story.line(f"Nobody may push to {BRANCH}, so {observer.status()['rollback']['pullRequest']} was merged.")
        _check_git(story, stage, rollback)
        time.sleep(_AFTERGLOW)
    finally:
        if traffic is not None:
            traffic.stop()
        observer.stop()
    _timeline(console, rollback)
    document = _document(stage, promotion, rollback, traffic)
    _check_traffic(document, traffic, rollback)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    story.line(f"The report is in {report.name} in the folder {report.parent.name}.")


def _prepare(story: Story, stage: Stage) -> None:
    story.chapter("Training three versions of a fraud detector and registering them in MLflow")
    stage.train()
    story.line(f"Registered: versions {', '.join(stage.versions)}")
    story.chapter("Installing Backstay with `kubectl apply -k .`, and pushing the GitOps repository to Gitea")
    stage.playground.install_controller()
    stage.push_repository()
    story.line("The controller runs with its own service account's rights.")


def _check_git(story: Story, stage: Stage, rollback: Rollback) -> None:
    """Look at the commit as anybody would: in Gitea."""
    gitea = stage.playground.gitea
    commit = gitea.call("GET", f"/repos/models/{REPOSITORY}/git/commits/{rollback.commit}").json()
    files = [file["filename"] for file in commit["files"]]
    message = commit["commit"]["message"]
    if files != [PRODUCTION.version_file] or "Backstay-Rollback-Id:" not in message:
        raise PlaygroundError(f"The rollback commit is not what it should be: it changes {files} and says {message!r}")
    story.line("The rollback commit in Gitea:")
    for line in message.strip().splitlines():
        story.line(f"    {line}")
    application = stage.application(PRODUCTION)["status"]
    story.line(f"Argo CD: {application['sync']['status']}, {application['health']['status']}")


def _timeline(console: Console, rollback: Rollback) -> None:
    table = Table(title="The rollback of version 3", caption="seconds from its first live answer")
    table.add_column("what")
    table.add_column("when")
    table.add_column("after the breach", justify="right")
    for what, at in (
        ("merged", rollback.merged_at),
        ("first live answer of version 3 (breach)", rollback.breach_at),
        ("weight 0 in the API server (drained)", rollback.drained_at),
        ("rollback commit pushed", rollback.pushed_at),
        ("synced by Argo CD", rollback.synced_at),
    ):
        table.add_row(what, timestamp(at), f"{at - rollback.breach_at:+.2f} s")
    console.print(table)


def _document(stage: Stage, promotion: Promotion, rollback: Rollback, traffic: Traffic) -> dict[str, Any]:
    tally = traffic.tally()
    return {
        "promotion": {
            "application": PRODUCTION.application,
            "from": "1",
            "to": promotion.version,
            "commit": promotion.commit,
            "weights": promotion.weights,
            "stableAt": timestamp(promotion.stable_at),
        },
        "rollback": {
            "from": rollback.bad,
            "to": rollback.good,
            "badCommit": rollback.bad_commit,
            "breachAt": timestamp(rollback.breach_at),
            "drainedAt": timestamp(rollback.drained_at),
            "pushedAt": timestamp(rollback.pushed_at),
            "syncedAt": timestamp(rollback.synced_at),
            "commit": rollback.commit,
        },
        "traffic": {"requests": tally.requests, "transportErrors": tally.lost, "answers": tally.answers},
        "git": {"url": f"{stage.playground.gitea.url}/models/{REPOSITORY}.git", "branch": BRANCH},
    }


def _check_traffic(document: dict[str, Any], traffic: Traffic, rollback: Rollback) -> None:
    """Fail the demo when a client saw anything that it should not have seen."""
    faults = []
    if document["traffic"]["transportErrors"]:
        lost = [asdict(answer) for answer in traffic.answers() if not answer.version][:3]
        faults.append(f"{document['traffic']['transportErrors']} requests were lost, for example {lost}")
    for version, outcome in document["traffic"]["answers"].items():
        if outcome["error"] and version != rollback.bad:
            faults.append(f"version {version} answered {outcome['error']} requests with an error")
    late = [a for a in traffic.answers(since=rollback.drained_at + 1) if a.version == rollback.bad]
    if late:
        faults.append(f"{len(late)} requests begun more than 1 s after the drain reached version {rollback.bad}")
    planned = [step["weight"] for step in Pace().steps]
    if document["promotion"]["weights"] != planned:
        faults.append(f"version 2 went through the weights {document['promotion']['weights']}, not {planned}")
    if faults:
        raise PlaygroundError("The demo went wrong: " + "; ".join(faults))


def how_to_look(console: Console) -> None:
    """Tell what to look at in a playground that stays up."""
    root = repository_root()
    command = ".venv/bin/python -m backstay_playground"
    console.print(f"\nThe playground stays up. In {root.name}:", highlight=False)
    for what in (
        f"{command} kubectl get mdep -A -w",
        f"{command} kubectl describe mdep -n {PRODUCTION.namespace}",
        f"{command} status",
        "make down",
    ):
        console.print(f"  {what}", highlight=False)
