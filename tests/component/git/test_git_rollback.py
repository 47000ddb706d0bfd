from __future__ import annotations

import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from tests.component.git.bare import FILE, OVERLAY, PROTECTED, Remote, once

from backstay.adapters.gitops.outcomes import (
    AlreadyDone,
    AlreadyGood,
    Committed,
    Missing,
    Refused,
    Superseded,
    Unavailable,
)
from backstay.adapters.gitops.version_file import read_version_file
from backstay.adapters.messages.rollback_commit import RollbackRequest
from backstay.domain.resource import ModelIdentity

if TYPE_CHECKING:
    from pathlib import Path

    from tests.component.git.bare import Open

    from backstay.adapters.gitops.repository import Repository

pytestmark = pytest.mark.component

RequestFor = Callable[..., RollbackRequest]


def declared(remote: Remote, path: str = FILE) -> ModelIdentity:
    return read_version_file(remote.show(path), name="fraud-detector").identity


def test_the_commit_restores_the_version_and_rejects_the_bad_one(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    bad_commit = remote.head()
    [outcome] = repository.rollback([request_for(co_author="Jo Doe <jo@localhost>")])
    assert isinstance(outcome, Committed)
    assert outcome.commit == remote.head()
    assert remote.git("rev-parse", f"{outcome.commit}^") == bad_commit
    assert (
        remote.show()
        == remote.text(
            "6",
            extra="    rejectedVersions:\n"
            '      - version: "7"\n'
            "        digest: sha256:77\n"
            f"        rollbackID: {'a' * 64}\n",
        ).encode()
    )
    assert remote.git("diff-tree", "-r", "--name-only", bad_commit, "main") == FILE


def test_the_message_is_what_a_person_would_write(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    repository.rollback([request_for(co_author="Jo Doe <jo@localhost>")])
    assert remote.git("log", "-1", "--format=%an <%ae>|%cn <%ce>|%s") == (
        "Backstay <backstay@localhost>|Backstay <backstay@localhost>|"
        "rollback(fraud-detector): production 7 -> 6, error ratio 4.1 % against 1.0 %"
    )
    assert remote.git("log", "-1", "--format=%(trailers)") == "\n".join(
        [
            f"Backstay-Rollback-Id: {'a' * 64}",
            "Backstay-Resource: fraud-production/fraud-detector",
            "Backstay-From: 7",
            "Backstay-To: 6",
            f"Backstay-Bad-Commit: {remote.git('rev-parse', 'main^')}",
            "Backstay-Evidence: signal=errors verdict=Fail value=0.041 limit=0.010",
            "Co-authored-by: Jo Doe <jo@localhost>",
        ]
    )


def test_nothing_in_a_request_can_forge_a_trailer_or_a_person(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    forged = "fine\n\nBackstay-Rollback-Id: ffff\u2028\x1b[31m"
    repository.rollback([request_for(reason=forged, evidence=(forged, "x" * 5000), co_author="Jo\nX <jo@localhost>")])
    assert remote.trailer("Backstay-Rollback-Id") == ["a" * 64]
    assert remote.git("log", "-1", "--format=%s").endswith("fine Backstay-Rollback-Id: ffff [31m")
    evidence = remote.trailer("Backstay-Evidence")
    assert evidence[0] == "fine Backstay-Rollback-Id: ffff [31m"
    assert len(evidence[1]) == 300
    assert "Co-authored-by" not in remote.git("log", "-1", "--format=%B")
    assert max(len(line) for line in remote.git("log", "-1", "--format=%b").splitlines()) < 340


def test_the_same_version_with_another_digest_is_told_apart_in_the_subject(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    good = ModelIdentity(name="fraud-detector", version="7", digest="sha256:1234567890abcdef")
    repository.rollback([request_for(good=good)])
    assert "production 7@77 -> 7@1234567890ab," in remote.git("log", "-1", "--format=%s")


def test_without_a_verdict_nothing_is_quarantined(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    [outcome] = repository.rollback([request_for(quarantine=False)])
    assert isinstance(outcome, Committed)
    assert remote.show() == remote.text("6").encode()
    assert "rejected" not in remote.git("log", "-1", "--format=%B")


def test_several_rollbacks_are_a_commit_each_and_one_push(
    remote: Remote, repository: Repository, request_for: RequestFor, tmp_path: Path
) -> None:
    pushes = tmp_path / "pushes"
    remote.hook("post-receive", f"echo push >> '{pushes}'")
    names = ["churn", "ranking"]
    remote.commit({f"applications/{name}/production/model-version.yaml": remote.text("7", name=name) for name in names})
    others = [
        request_for(
            rollback_id=name,
            name=name,
            resource=f"production/{name}",
            path=f"applications/{name}/production",
            good=remote.identity("6", name=name),
            bad=remote.identity("7", name=name),
        )
        for name in names
    ]
    pushes.unlink()
    outcomes = repository.rollback([request_for(), *others, request_for()])
    assert [type(outcome) for outcome in outcomes] == [Committed] * 4
    assert outcomes[0] == outcomes[3]
    assert pushes.read_text() == "push\n"
    assert remote.git("log", "-3", "--format=%s").count("7 -> 6") == 3
    assert len({outcome.commit for outcome in outcomes if isinstance(outcome, Committed)}) == 3


def test_another_push_between_fetch_and_push_is_kept(
    remote: Remote, open_repository: Open, request_for: RequestFor
) -> None:
    request = request_for()
    repository = open_repository(
        remote, checkpoint=once(lambda: remote.commit({"README.md": "Other\n"}, "a person"), "before:push")
    )
    [outcome] = repository.rollback([request])
    assert isinstance(outcome, Committed)
    assert remote.git("log", "-3", "--format=%s").splitlines()[1:] == ["a person", "version 7"]
    assert remote.show("README.md") == b"Other\n"
    assert declared(remote).version == "6"


def test_a_newer_version_that_arrives_before_the_push_is_not_overwritten(
    remote: Remote, open_repository: Open, request_for: RequestFor
) -> None:
    request = request_for()
    repository = open_repository(
        remote, checkpoint=once(lambda: remote.commit({FILE: remote.text("8")}, "version 8"), "before:push")
    )
    [outcome] = repository.rollback([request])
    assert outcome == Superseded("8", remote.head())
    assert declared(remote) == remote.identity("8")
    assert remote.count("a" * 64) == 1


def test_a_ref_that_is_locked_by_another_push_is_tried_again(
    remote: Remote, open_repository: Open, request_for: RequestFor
) -> None:
    lock = remote.bare / "refs/heads/main.lock"
    reached: list[str] = []

    def checkpoint(point: str) -> None:
        reached.append(point)
        if point == "before:push":
            if reached.count(point) == 1:
                lock.touch()
            else:
                lock.unlink()

    [outcome] = open_repository(remote, checkpoint=checkpoint).rollback([request_for()])
    assert isinstance(outcome, Committed)
    assert reached == ["before:fetch", "after:fetch", "before:push"] * 2 + ["after:push"]


def test_the_answer_to_a_push_may_be_lost(remote: Remote, open_repository: Open, request_for: RequestFor) -> None:
    def lost() -> None:
        raise ConnectionResetError

    request = request_for()
    with pytest.raises(ConnectionResetError):
        open_repository(remote, "first", checkpoint=once(lost, "after:push")).rollback([request])
    commit = remote.head()
    second = open_repository(remote, "second")
    assert second.rollback([request]) == [AlreadyDone(commit)]
    remote.commit({FILE: remote.text("8")}, "version 8")
    assert second.rollback([request]) == [AlreadyDone(commit)]
    assert remote.count("a" * 64) == 1


def test_an_unclear_push_error_is_resolved_by_looking_for_the_commit(
    remote: Remote, open_repository: Open, request_for: RequestFor
) -> None:
    # The server applies the push and breaks before it answers.
    remote.hook("post-receive", "kill -KILL $(ps -o ppid= -p $$)")
    reached: list[str] = []
    [outcome] = open_repository(remote, checkpoint=reached.append).rollback([request_for()])
    assert isinstance(outcome, Committed)
    assert outcome.commit == remote.head()
    assert remote.count("a" * 64) == 1


def test_a_killed_attempt_leaves_nothing_in_the_way(
    remote: Remote, open_repository: Open, request_for: RequestFor
) -> None:
    def killed() -> None:
        raise KeyboardInterrupt

    request = request_for()
    for point in ("before:fetch", "after:fetch", "before:push"):
        repository = open_repository(remote, "same", checkpoint=once(killed, point))
        with pytest.raises(KeyboardInterrupt):
            repository.rollback([request])
        repository.close()
    [outcome] = open_repository(remote, "same").rollback([request])
    assert isinstance(outcome, Committed)
    assert remote.count("a" * 64) == 1


KILLED_AT = """
import os, pathlib, pickle, signal, sys
from backstay.adapters.gitops.repository import Repository

def checkpoint(point):
    if point == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)

request = pickle.load(sys.stdin.buffer)
Repository(sys.argv[2], "main", workdir=pathlib.Path(sys.argv[3]), checkpoint=checkpoint).rollback([request])
"""


@pytest.mark.parametrize("point", ["before:fetch", "after:fetch", "before:push", "after:push"])
def test_a_controller_killed_at_any_point_makes_one_commit_in_the_end(
    remote: Remote, open_repository: Open, request_for: RequestFor, tmp_path: Path, point: str
) -> None:
    request = request_for()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT, point, remote.url, str(tmp_path / "work")],
        input=pickle.dumps(request),
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    [outcome] = open_repository(remote).rollback([request])
    assert isinstance(outcome, AlreadyDone if point == "after:push" else Committed)
    assert outcome.commit == remote.head()
    assert remote.count("a" * 64) == 1


def test_two_controllers_at_once_make_one_commit(
    remote: Remote, open_repository: Open, request_for: RequestFor
) -> None:
    request = request_for()
    both = threading.Barrier(2, timeout=30)
    met = threading.local()

    def meet(point: str) -> None:
        if point == "before:push" and not hasattr(met, "done"):
            met.done = True
            both.wait()

    outcomes: list[object] = []
    threads = [
        threading.Thread(
            target=lambda repository: outcomes.extend(repository.rollback([request])),
            args=[open_repository(remote, folder, checkpoint=meet)],
        )
        for folder in ("one", "two")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert remote.count("a" * 64) == 1
    assert len(outcomes) == 2
    assert {outcome.commit for outcome in outcomes if isinstance(outcome, Committed | AlreadyDone)} == {remote.head()}


QUOTED = f"a person's note\n\nThe log says:\n\nBackstay-Rollback-Id: {'a' * 64}\n\nWhat is that?\n"
MIXED = f"a person's note\n\nThe log says\nBackstay-Rollback-Id: {'a' * 64}\n"
TRAILER = f"Notes of a squash\n\nBackstay-Rollback-Id: {'a' * 64}\n"
STAGING = "applications/fraud-detector/overlays/staging/model-version.yaml"
STILL_7 = Remote.text("7").replace("# Which", "# Still which")


@pytest.mark.parametrize("later", ["7", "8"])
def test_a_squash_that_keeps_the_trailer_counts_as_done_whatever_came_later(
    remote: Remote, repository: Repository, request_for: RequestFor, later: str
) -> None:
    request = request_for()
    commit = remote.commit({FILE: remote.text("6")}, TRAILER)
    assert repository.rollback([request]) == [AlreadyDone(commit)]
    remote.commit({FILE: remote.text(later)}, "a person")
    assert repository.rollback([request]) == [AlreadyDone(commit)]


def test_a_squash_that_keeps_the_trailer_elsewhere_leaves_the_good_version(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    head = remote.commit(
        {FILE: remote.text("6")}, f"Merge of two\n\n* rollback\n\nBackstay-Rollback-Id: {'a' * 64}\n\n* other\n"
    )
    assert repository.rollback([request]) == [AlreadyGood(head)]


@pytest.mark.parametrize(
    ("message", "files"),
    [
        (QUOTED, {"README.md": "Other\n"}),
        (QUOTED, {FILE: STILL_7}),
        (MIXED, {FILE: STILL_7}),
        (TRAILER, {"README.md": "Other\n"}),
        (TRAILER, {STAGING: Remote.text("6")}),
        (TRAILER, {f"{OVERLAY}/notes.txt": "Other\n"}),
        (TRAILER, {FILE: STILL_7}),
        (TRAILER, {}),
    ],
)
def test_a_commit_that_only_names_the_rollback_has_not_done_it(
    remote: Remote, repository: Repository, request_for: RequestFor, message: str, files: dict[str, str]
) -> None:
    request = request_for()
    remote.commit(files, message)
    [outcome] = repository.rollback([request])
    assert outcome.__class__ is Committed
    assert declared(remote) == remote.identity("6")
    assert repository.rollback([request]) == [AlreadyDone(remote.head())]


def test_another_version_with_the_trailer_does_not_pass_for_the_good_one(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    remote.commit({FILE: remote.text("8")}, TRAILER)
    assert repository.rollback([request]) == [Superseded("8", remote.head())]
    assert [entry.version for entry in read_version_file(remote.show(), name="fraud-detector").rejected] == ["7"]


def test_a_person_who_takes_the_rollback_back_and_quotes_it_is_not_overruled(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    [outcome] = repository.rollback([request])
    assert isinstance(outcome, Committed)
    remote.commit({FILE: remote.text("7")}, f"Revert\n\n{remote.git('log', '-1', '--format=%B')}")
    assert remote.trailer("Backstay-Rollback-Id") == ["a" * 64]
    assert repository.rollback([request]) == [AlreadyDone(outcome.commit)]


def test_a_file_that_says_the_good_version_is_left_alone(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    head = remote.commit({FILE: remote.text("6")}, "a person was faster")
    assert repository.rollback([request]) == [AlreadyGood(head)]
    assert remote.head() == head


def test_a_newer_version_stays_and_the_bad_one_is_rejected_once(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    remote.commit({FILE: remote.text("8", extra="    retryOf: abc\n")}, "version 8")
    [outcome] = repository.rollback([request])
    assert outcome == Superseded("8", remote.head())
    file = read_version_file(remote.show(), name="fraud-detector")
    assert (file.identity, file.retry_of) == (remote.identity("8"), "abc")
    assert [entry.version for entry in file.rejected] == ["7"]
    assert remote.git("log", "-1", "--format=%s").startswith("quarantine(fraud-detector): production rejects 7, ")
    assert remote.trailer("Backstay-Superseded-By") == ["8"]
    assert repository.rollback([request]) == [outcome]
    assert repository.rollback([request_for(rollback_id="other")]) == [Superseded("8", None)]
    assert remote.count("a" * 64) == 1


def test_a_rebuilt_digest_of_the_bad_version_is_newer(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for(bad=ModelIdentity(name="fraud-detector", version="7"))
    head = remote.head()
    assert repository.rollback([request]) == [Superseded("7", None)], "rejecting every 7 would bar this one too"
    [outcome] = repository.rollback([request_for(bad=ModelIdentity("fraud-detector", "7", "sha256:old"))])
    assert isinstance(outcome, Superseded)
    assert outcome.commit != head


def test_name_and_digest_may_come_from_the_base(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    text = "kind: ModelDeployment\nmetadata: {name: fraud-detector}\nspec: {model: {version: '7'}}\n"
    remote.commit({FILE: text})
    [outcome] = repository.rollback([request_for()])
    assert isinstance(outcome, Committed)
    assert declared(remote) == remote.identity("6")


def test_line_ends_and_mode_of_the_file_survive_whatever_git_attributes_say(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    windows = remote.text("7").replace("\n", "\r\n")
    remote.commit({FILE: windows})
    (remote.person / FILE).chmod(0o755)
    remote.push("executable")
    remote.commit({".gitattributes": "README.md text=auto\n*.yaml eol=lf -text\n"})
    repository.rollback([request_for(quarantine=False)])
    assert remote.show() == remote.text("6").replace("\n", "\r\n").encode()
    assert remote.git("ls-tree", "main", FILE).startswith("100755 ")


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ({FILE: None}, "production is not a folder at commit"),
        ({FILE: None, f"{OVERLAY}/notes.txt": "x"}, "has no model-version.yaml at commit"),
        ({FILE: None, OVERLAY.rsplit("/", 1)[0] + "/production": "a file"}, "is not a folder"),
    ],
)
def test_a_file_that_is_gone_is_missing(
    remote: Remote, repository: Repository, request_for: RequestFor, gone: dict[str, str | None], says: str
) -> None:
    for name, content in gone.items():
        if content is None:
            remote.commit({name: content})
            folder = (remote.person / name).parent
            if folder.exists() and not any(folder.iterdir()):
                folder.rmdir()
        else:
            remote.commit({name: content})
    head = remote.head()
    [outcome] = repository.rollback([request_for()])
    assert isinstance(outcome, Missing)
    assert says in outcome.reason
    assert remote.head() == head


def test_a_link_is_refused_even_inside_the_folder(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    target = remote.person / OVERLAY / "real.yaml"
    remote.commit({f"{OVERLAY}/real.yaml": remote.text("7")})
    (remote.person / FILE).unlink()
    (remote.person / FILE).symlink_to(target.name)
    head = remote.push("link")
    [outcome] = repository.rollback([request_for()])
    assert isinstance(outcome, Refused)
    assert re.search(r"model-version\.yaml is a symbolic link; replace it by a regular file", outcome.reason)
    assert remote.head() == head


def test_a_folder_reached_over_a_link_is_missing(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    (remote.person / "shortcut").symlink_to(OVERLAY)
    remote.push("link")
    [outcome] = repository.rollback([request_for(path="shortcut")])
    assert isinstance(outcome, Missing)
    [outcome] = repository.rollback([request_for(path="shortcut/../../etc")])
    assert isinstance(outcome, Refused)
    assert "leads out of the repository" in outcome.reason


def test_a_protected_branch_refuses_for_good_and_says_so(
    remote: Remote, open_repository: Open, request_for: RequestFor
) -> None:
    remote.hook("pre-receive", PROTECTED)
    reached: list[str] = []
    head = remote.head()
    [outcome] = open_repository(remote, checkpoint=reached.append).rollback([request_for()])
    assert isinstance(outcome, Refused)
    assert "Not allowed to push to protected branch main" in outcome.reason
    assert reached.count("before:push") == 1
    assert remote.head() == head


def test_a_hook_that_broke_is_tried_again(remote: Remote, open_repository: Open, request_for: RequestFor) -> None:
    remote.hook("pre-receive", "echo 'error: Internal Server Error (no specific error)' >&2; exit 1")
    hook = remote.bare / "hooks/pre-receive"
    reached: list[str] = []

    def checkpoint(point: str) -> None:
        reached.append(point)
        if reached.count("before:push") == 2 and hook.exists():
            hook.unlink()

    [outcome] = open_repository(remote, checkpoint=checkpoint).rollback([request_for()])
    assert isinstance(outcome, Committed)


def test_one_protected_file_does_not_hold_up_the_others(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    other = "applications/churn/model-version.yaml"
    remote.commit({other: remote.text("7", name="churn")})
    remote.hook(
        "pre-receive",
        f"while read old new ref; do git diff --name-only $old $new | grep -q '^{FILE}' && "
        "{ echo 'error: branch main is protected from changing file x' >&2; exit 1; }; done; exit 0",
    )
    churn = request_for(
        rollback_id="churn",
        name="churn",
        path="applications/churn",
        good=remote.identity("6", name="churn"),
        bad=remote.identity("7", name="churn"),
    )
    refused, committed = repository.rollback([request_for(), churn])
    assert isinstance(refused, Refused)
    assert isinstance(committed, Committed)
    assert remote.count("churn") == 1


def test_a_refused_quarantine_still_reports_the_newer_version(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    remote.commit({FILE: remote.text("8")})
    remote.hook("pre-receive", PROTECTED)
    assert repository.rollback([request]) == [Superseded("8", None)]


def test_an_edit_that_cannot_be_made_is_refused_with_the_remedy(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    head = remote.commit({FILE: remote.text("7").replace('"7"', '&v "7"').replace("sha256:77", "*v") + "x: *v\n"})
    [outcome] = repository.rollback([request_for(bad=ModelIdentity("fraud-detector", "7", "7"))])
    assert isinstance(outcome, Refused)
    assert f"{FILE} shares values through an anchor" in outcome.reason
    assert remote.head() == head


def test_a_server_that_is_away_is_worth_another_try(
    remote: Remote, repository: Repository, request_for: RequestFor
) -> None:
    request = request_for()
    repository.fetch()
    away = remote.bare.rename(remote.bare.with_name("away"))
    [outcome] = repository.rollback([request])
    assert isinstance(outcome, Missing | Unavailable)
    away.rename(remote.bare)
    [outcome] = repository.rollback([request])
    assert isinstance(outcome, Committed)


def test_a_clone_that_breaks_in_the_middle_is_made_again(
    remote: Remote, open_repository: Open, request_for: RequestFor, tmp_path: Path
) -> None:
    broken = once(lambda: shutil.rmtree(tmp_path / "work/clone/.git/objects"), "after:fetch")
    [outcome] = open_repository(remote, checkpoint=broken).rollback([request_for()])
    assert isinstance(outcome, Committed)
    assert outcome.commit == remote.head()


def test_an_endless_race_ends_as_unavailable(
    remote: Remote, open_repository: Open, request_for: RequestFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    request = request_for()
    count = 0

    def push(point: str) -> None:
        nonlocal count
        if point == "before:push":
            count += 1
            remote.commit({"README.md": f"{count}\n"})

    [outcome] = open_repository(remote, checkpoint=push).rollback([request])
    assert isinstance(outcome, Unavailable)
    assert "Somebody else pushed" in outcome.reason
    assert count == 20
    assert declared(remote).version == "7"


def test_requests_that_make_no_sense_are_refused_at_once(remote: Remote, request_for: RequestFor) -> None:
    with pytest.raises(ValueError, match="use letters and digits"):
        request_for(rollback_id="a\nb")
    with pytest.raises(ValueError, match="would restore version 7, which failed"):
        request_for(good=remote.identity("7"))


def test_no_request_is_no_work(repository: Repository) -> None:
    assert repository.rollback([]) == []


def test_a_lost_race_is_decided_again_only_where_it_matters(
    remote: Remote, open_repository: Open, request_for: RequestFor
) -> None:
    """What others push beside the version file leaves the decision; what they push below its folder does not."""
    pushed = iter(
        [
            {"README.md": "Other\n"},
            {f"{OVERLAY}-staging/model-version.yaml": remote.text("9")},
            {FILE: remote.text("7").replace("# Which", "# Still which")},
        ]
    )

    def checkpoint(point: str) -> None:
        if point == "before:push" and (files := next(pushed, None)):
            remote.commit(files, "a person")

    [outcome] = open_repository(remote, checkpoint=checkpoint).rollback([request_for()])
    assert isinstance(outcome, Committed)
    assert remote.show().startswith(b"# Still which")
    assert declared(remote) == remote.identity("6")
    assert remote.git("log", "-5", "--format=%s").splitlines()[1:] == ["a person"] * 3 + ["version 7"]


def test_a_rollback_that_came_and_went_meanwhile_is_not_made_again(
    remote: Remote, open_repository: Open, request_for: RequestFor
) -> None:
    request = request_for()
    trailer = f"Backstay-Rollback-Id: {'a' * 64}"

    def came_and_went() -> None:
        remote.commit({FILE: remote.text("6")}, f"rollback\n\n{trailer}")
        remote.commit({FILE: remote.text("7")}, "a person takes it back")

    repository = open_repository(remote, checkpoint=once(came_and_went, "before:push"))
    assert repository.rollback([request]) == [AlreadyDone(remote.git("rev-parse", "main^"))]
    assert declared(remote) == remote.identity("7")


def test_a_base_branch_that_was_set_back_meanwhile_is_decided_anew(
    remote: Remote, open_repository: Open, request_for: RequestFor
) -> None:
    remote.commit({"README.md": "More\n"}, "set back")
    before = remote.git("rev-parse", "main^")
    other = remote.git("commit-tree", f"{before}^{{tree}}", "-p", before, "-m", "another way")
    back = once(lambda: remote.git("update-ref", "refs/heads/main", other), "before:push")
    [outcome] = open_repository(remote, checkpoint=back).rollback([request_for(bad_commit=before)])
    assert isinstance(outcome, Committed)
    assert declared(remote) == remote.identity("6")
    assert remote.show("README.md") == b"Models\n"
    assert remote.git("rev-parse", "main^") == other
