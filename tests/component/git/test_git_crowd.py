"""Many rollbacks at once, while others push to the same branch all the time."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from backstay.adapters.gitops.outcomes import AlreadyDone, Committed, Refused, RollbackOutcome, Unavailable
from backstay.adapters.gitops.version_file import read_version_file
from backstay.controller.services.git_writer import GitWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.component.git.bare import Open, Remote

    from backstay.adapters.messages.rollback_commit import RollbackRequest

pytestmark = pytest.mark.component

MODELS = [f"model-{number:02}" for number in range(50)]
PAUSE_SECONDS = 0.25
MOST_TRIES = 20


def file_of(name: str) -> str:
    return f"applications/{name}/overlays/production/model-version.yaml"


def request_of(
    name: str, bad_commit: str, remote: Remote, request_for: Callable[..., RollbackRequest]
) -> RollbackRequest:
    return request_for(
        rollback_id=f"id-{name}",
        name=name,
        resource=f"production/{name}",
        path=file_of(name).rpartition("/")[0],
        good=remote.identity("6", name=name),
        bad=remote.identity("7", name=name),
        bad_commit=bad_commit,
    )


class Writer(threading.Thread):
    """Somebody who edits a file of their own and pushes, again and again, until told to stop."""

    def __init__(self, remote: Remote, clone: Path, *, pushed: Callable[[], None]) -> None:
        super().__init__(name=clone.name)
        self.remote, self.clone, self.pushed = remote, clone, pushed
        self.stop = threading.Event()
        self.commits: list[str] = []
        remote.git("clone", "--quiet", "--depth=1", remote.url, str(clone))

    @property
    def text(self) -> str:
        """What the file says after the last push that was taken."""
        return "".join(f"{line}\n" for line in range(len(self.commits)))

    def run(self) -> None:
        while not self.stop.wait(PAUSE_SECONDS):
            self.remote.git("fetch", "--quiet", "--depth=1", "origin", "main", cwd=self.clone)
            self.remote.git("reset", "--quiet", "--hard", "FETCH_HEAD", cwd=self.clone)
            (self.clone / f"{self.name}.txt").write_text(f"{self.text}{len(self.commits)}\n")
            self.remote.git("add", "--all", cwd=self.clone)
            self.remote.git("commit", "--quiet", "--message", f"{self.name} {len(self.commits)}", cwd=self.clone)
            commit = self.remote.git("rev-parse", "HEAD", cwd=self.clone)
            push = self.remote.git("push", "--porcelain", "origin", "HEAD:refs/heads/main", cwd=self.clone, check=False)
            if any(line.startswith(" \t") for line in push.splitlines()):  # not "!": refused
                self.commits.append(commit)
                self.pushed()


async def ask(writer: GitWriter, request: RollbackRequest) -> RollbackOutcome:
    """Ask for a rollback, and again where the branch was too busy, as the controller does."""
    for _ in range(MOST_TRIES):
        outcome = await writer.write(request)
        if not isinstance(outcome, Unavailable):
            break
    return outcome


async def test_of_a_crowd_the_first_do_not_wait_for_the_last(
    remote: Remote, open_repository: Open, request_for: Callable[..., RollbackRequest]
) -> None:
    before = remote.commit({file_of(name): remote.text("7", name=name) for name in MODELS}, "all at version 7")
    writer, ended = GitWriter(open_repository(remote)), list[str]()

    async def roll_back(name: str) -> None:
        assert isinstance(await writer.write(request_of(name, before, remote, request_for)), Committed)
        # What is on the branch by now, of those that came later.
        ended.append(remote.git("rev-list", "--count", f"{before}..main"))

    await asyncio.gather(*map(roll_back, MODELS))
    assert (ended[0], ended[-1]) == ("25", "50")


KUSTOMIZE = """#!/bin/sh
# Prints the manifests of a folder, as a Kustomize does that has no more to do than that. It finds no other program.
for file in "$2/model-version.yaml" "$2/rest.yaml"; do while IFS= read -r line; do echo "$line"; done < "$file"; done
"""


async def test_one_overlay_that_cannot_be_checked_holds_up_no_other(
    remote: Remote,
    open_repository: Open,
    request_for: Callable[..., RollbackRequest],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tool = tmp_path / "bin" / "kustomize"
    tool.parent.mkdir()
    tool.write_text(KUSTOMIZE)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    rest = {
        "equals": "args: [=]",
        "tagged": "args: [!thing x]",
        "deep": f"args: {'[' * 2000}{']' * 2000}",
        "strange": "args: !!timestamp x",
        "nowhere": "args: [serve]",
        "fine": "args: [serve]",
    }
    folders = {name: file_of(name).rpartition("/")[0] for name in rest}
    before = remote.commit(
        {file_of(name): remote.text("7", name=name) for name in rest}
        | {
            f"{folder}/kustomization.yaml": "resources: [rest.yaml]\npatches: [{path: model-version.yaml}]\n"
            for folder in folders.values()
        }
        | {f"{folders['nowhere']}/kustomization.yaml": 'resources: ["a\\0b"]\n'}
        | {f"{folders[name]}/rest.yaml": f"  serving: {{{text}}}\n" for name, text in rest.items()},
        "all at version 7",
    )
    outcomes = open_repository(remote).rollback([request_of(name, before, remote, request_for) for name in rest])
    found = dict(zip(rest, outcomes, strict=True))
    for name in ("equals", "fine"):
        assert isinstance(found[name], Committed), found[name]
        assert read_version_file(remote.show(file_of(name)), name=name).identity.version == "6"
    refused = {
        "tagged": "could not determine",
        "deep": "nests more than 100",
        "strange": "is not YAML",
        "nowhere": "is no path; name a file or folder of the repository",
    }
    for name, says in refused.items():
        outcome = found[name]
        assert isinstance(outcome, Refused), outcome
        assert outcome.reason.startswith(f"Version 6 of production/{name} was not restored in Git: ")
        assert says in outcome.reason
        assert read_version_file(remote.show(file_of(name)), name=name).identity.version == "7"


async def test_who_asks_at_once_shares_a_fetch_and_who_asks_later_sees_what_is_new(
    remote: Remote, open_repository: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.commit({file_of(name): remote.text("7", name=name) for name in MODELS}, "all at version 7")
    repository, fetched = open_repository(remote), list[str]()
    fetch = repository.fetch
    monkeypatch.setattr(repository, "fetch", lambda: fetched.append(fetch()))
    writer = GitWriter(repository)
    folders = [file_of(name).rpartition("/")[0] for name in MODELS]
    found = await asyncio.gather(*map(writer.locate, folders, MODELS))
    assert {located.identity.version for located in found} == {"7"}
    # The first began at once; all others had asked before the second.
    assert len(fetched) <= 2
    remote.commit({file_of(MODELS[0]): remote.text("8", name=MODELS[0])}, "version 8")
    assert (await writer.locate(folders[0], MODELS[0])).identity.version == "8"


async def test_fifty_rollbacks_meet_three_other_writers(
    remote: Remote,
    open_repository: Open,
    request_for: Callable[..., RollbackRequest],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = remote.commit({file_of(name): remote.text("7", name=name) for name in MODELS}, "all at version 7")
    pushes = tmp_path / "pushes"
    remote.hook("post-receive", f"while read old new ref; do echo $new >> '{pushes}'; done")
    requests = [request_of(name, before, remote, request_for) for name in MODELS]
    loop = asyncio.get_running_loop()
    # The rollbacks arrive one by one while the others push, so that they do not share a single push.
    arrivals = asyncio.Semaphore(10)

    def arrived() -> None:
        for _ in range(2):
            loop.call_soon_threadsafe(arrivals.release)

    others = [Writer(remote, tmp_path / f"writer-{number}", pushed=arrived) for number in range(3)]
    writer = GitWriter(open_repository(remote))

    async def roll_back(request: RollbackRequest) -> RollbackOutcome:
        await arrivals.acquire()
        return await ask(writer, request)

    began = time.monotonic()
    for other in others:
        other.start()
    try:
        outcomes = await asyncio.gather(*map(roll_back, requests))
        took = time.monotonic() - began
    finally:
        for other in others:
            other.stop.set()
        for other in others:
            await asyncio.to_thread(other.join)

    made = [outcome.commit for outcome in outcomes if isinstance(outcome, Committed | AlreadyDone)]
    foreign = [commit for other in others for commit in other.commits]
    tips = pushes.read_text().split()
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(made)} rollbacks in {len(set(tips) & set(made))} pushes and {took:.1f} s, "
            f"beside {len(foreign)} pushes of others\n"
        )
    assert len(made) == len(MODELS)
    # Exactly the rollbacks and what the others pushed is on the branch.
    assert sorted(remote.git("rev-list", f"{before}..main").split()) == sorted([*made, *foreign])
    assert set(tips) >= set(foreign)
    changed = remote.git("diff-tree", "-r", "--name-only", before, "main").splitlines()
    assert sorted(changed) == sorted([*map(file_of, MODELS), *(f"{other.name}.txt" for other in others)])
    for other in others:
        assert remote.show(f"{other.name}.txt").decode() == other.text
    for name, commit in zip(MODELS, made, strict=True):
        assert remote.git("diff-tree", "-r", "--name-only", f"{commit}^", commit) == file_of(name)
        assert remote.trailer("Backstay-Rollback-Id", commit) == [f"id-{name}"]
        declared = read_version_file(remote.show(file_of(name)), name=name)
        assert declared.identity == remote.identity("6", name=name)
        assert [(entry.version, entry.rollback_id) for entry in declared.rejected] == [("7", f"id-{name}")]
