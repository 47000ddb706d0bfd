"""Bring one change of a version file to Git: by a commit on the branch or by a pull request, or only show it."""

import difflib
import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, assert_never

from backstay.adapters.forge import Forge, ForgeRefused, ForgeUnavailable, Proposal, PullRequest, PullRequestState
from backstay.adapters.forge.choose import forge_of
from backstay.adapters.forge.credentials import Credentials
from backstay.adapters.git.command import GitAbsent, GitError, GitRefused
from backstay.adapters.git_url import GitUrlError, normalise_url
from backstay.adapters.gitops.changes import Change, Proposed, Unchanged
from backstay.adapters.gitops.locate import VersionFileMissingError
from backstay.adapters.gitops.outcomes import (
    AlreadyDone,
    AlreadyGood,
    Committed,
    Missing,
    Refused,
    Superseded,
    Unavailable,
)
from backstay.adapters.gitops.repository import Repository
from backstay.adapters.gitops.version_file import VersionFile, VersionFileError, read_version_file
from backstay.adapters.messages.change import (
    ChangeKind,
    Evaluated,
    VersionChange,
    change_body,
    change_labels,
    change_message,
    change_title,
)
from backstay.adapters.registry.errors import RegistryUnavailableError, RegistryUrlError
from backstay.adapters.registry.versions import ModelVersionError
from backstay.adapters.secrets import CredentialError
from backstay.cli.git.overlays import Overlay
from backstay.cli.git.place import Place, opened, place_of
from backstay.cli.git.tokens import credentials_for, forge_kind
from backstay.cli.options import Target
from backstay.cli.trouble import ANSWER_IS_NO, BAD_INPUT, NO_ANSWER, end
from backstay.domain.resource import ModelIdentity, Rejection

Edit = Callable[[bytes, VersionFile, str], bytes]
Settled = Committed | AlreadyDone | AlreadyGood | Superseded | Unchanged | Missing | Refused | Unavailable


@dataclass(frozen=True, slots=True)
class Session:
    """An opened repository, fetched, and what is needed to talk to its forge."""

    place: Place
    repository: Repository
    credentials: Credentials | None
    target: Target


@dataclass(frozen=True, slots=True)
class Wish:
    """A change that is ready to be written.

    ``edit`` is called with the file as it is at that moment. ``pull_request`` is None where a commit is tried first and
    a protected branch gets a pull request. ``branch`` is the pull request's.
    """

    overlay: Overlay
    change: VersionChange
    edit: Edit
    branch: str
    pull_request: bool | None


@contextmanager
def session(target: Target) -> Iterator[Session]:
    """Open and fetch the repository; what goes wrong inside ends the command with a sentence and a code."""
    with told():
        place = place_of(target.repository, target.branch)
        found = credentials_for(place.url, token_file=target.token_file, forge=target.forge, checkout=place.checkout)
        with found as credentials, opened(place, credentials) as repository:
            repository.fetch()
            yield Session(place, repository, credentials, target)


@contextmanager
def told() -> Iterator[None]:
    """Turn the errors of adapters into the ends of a command."""
    try:
        yield
    except (GitUrlError, GitAbsent, VersionFileMissingError, RegistryUrlError) as problem:
        end(str(problem), BAD_INPUT)
    except (ModelVersionError, VersionFileError, GitRefused, CredentialError, ForgeRefused) as problem:
        end(str(problem), ANSWER_IS_NO)
    except (RegistryUnavailableError, GitError, ForgeUnavailable) as problem:
        end(str(problem), NO_ANSWER)


def carry_out(at: Session, wish: Wish, known: Callable[[], Evaluated], *, dry_run: bool) -> dict[str, Any]:
    """Write a change and return what came of it, as data for `results.show`.

    ``known`` is asked for only where a pull request is worded.
    """
    about = described(wish.change) | {"path": wish.overlay.located.file}
    if dry_run:
        return about | _shown(wish, known)
    change = Change(
        path=wish.overlay.path,
        name=wish.overlay.name,
        edit=wish.edit,
        message=change_message(wish.change),
        change_id=change_id(at, wish),
    )
    if not wish.pull_request:
        outcome = at.repository.change(change)
        protected = isinstance(outcome, Refused) and outcome.protected
        if not (protected and wish.pull_request is None):
            return about | _settled(outcome)
    return about | _proposed(at, wish, change, known)


def described(change: VersionChange) -> dict[str, Any]:
    """Return a change as data."""
    return {
        "change": str(change.kind),
        "application": change.application,
        "environment": change.environment,
        "from": change.before.version,
        "to": change.after.version,
    }


def change_id(at: Session, wish: Wish) -> str:
    """Name a change: asked for again from the same state it is the same one."""
    before, after, located = wish.change.before, wish.change.after, wish.overlay.located
    parts = (
        normalise_url(at.place.url),
        wish.overlay.path,
        str(wish.change.kind),
        *(before.name, before.version, before.digest, after.name, after.version, after.digest),
        located.set_by,
        located.retry_of,
        wish.change.rollback_id,
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def bars(rejected: tuple[Rejection, ...], identity: ModelIdentity, lifted: str) -> Rejection | None:
    """Return the rejection that bars a version, leaving out the one that is lifted."""
    return next(
        (entry for entry in rejected if entry.covers(identity, "") and not (lifted and entry.rollback_id == lifted)),
        None,
    )


def refuse_rejected(overlay_file: str, environment: str, identity: ModelIdentity, entry: Rejection) -> str:
    """Word why a rejected version is not declared."""
    named = f" by rollback {entry.rollback_id}" if entry.rollback_id else ""
    return (
        f"{overlay_file} lists version {identity.version} among its rejectedVersions: it was rejected in {environment}"
        f"{named}; take another version, or lift the rejection with backstay retry"
    )


def guarded(change: VersionChange, write: Callable[[bytes, str], bytes], *, lifted: str | None = None) -> Edit:
    """Return an edit that is made only while the file says what was looked at, and does not reject the new version.

    ``lifted`` is the rejection that the edit itself lifts; None where the version is not checked against rejections.
    """

    def edit(content: bytes, declared: VersionFile, file: str) -> bytes:
        if lifted is not None:
            entry = bars(declared.rejected, change.after, lifted)
            if entry is not None:
                raise VersionFileError(refuse_rejected(file, change.environment, change.after, entry))
        if declared.identity.is_meant_by(change.before):
            return write(content, file)
        if declared.identity.is_meant_by(change.after):
            return content
        raise VersionFileError(
            f"{file} declares version {declared.identity.version} by now, no longer {change.before.version}: "
            "somebody was faster; look at it, and give the command again if it is still right"
        )

    return edit


def proposal_branch(kind: ChangeKind, name: str, environment: str) -> str:
    """Name a pull request's branch: one for each kind and environment, so that a newer change replaces an older one."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{name}-{environment}").strip("-")
    return f"backstay/{kind}-{plain}"


def now() -> str:
    """Return the time for ``promotedAt``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown(wish: Wish, known: Callable[[], Evaluated]) -> dict[str, Any]:
    """Make the edit on what was fetched, and return the difference and the words."""
    before, file = wish.overlay.content, wish.overlay.located.file
    after = wish.edit(before, read_version_file(before, name=wish.overlay.name, file=file), file)
    old, new = (text.decode(errors="replace").splitlines(keepends=True) for text in (before, after))
    shown: dict[str, Any] = {
        "outcome": "dryRun",
        "diff": "".join(difflib.unified_diff(old, new, fromfile=f"a/{file}", tofile=f"b/{file}")),
        "message": change_message(wish.change),
    }
    if wish.pull_request:
        proposal = {"branch": wish.branch, "title": change_title(wish.change)}
        shown["pullRequest"] = proposal | {
            "labels": list(change_labels(wish.change)),
            "body": change_body(wish.change, known()),
        }
    return shown


def _settled(outcome: Settled) -> dict[str, Any]:  # noqa: RET503 - what ends the command does not return
    match outcome:
        case Committed(commit) | AlreadyDone(commit):
            return {"outcome": "committed", "commit": commit}
        case Unchanged(head) | AlreadyGood(head):
            return {"outcome": "unchanged", "commit": head}
        case Missing(reason):
            end(reason, BAD_INPUT)
        case Refused(reason):
            end(reason, ANSWER_IS_NO)
        case Superseded(newer):
            end(f"The version file declares version {newer} by now: look at it first", ANSWER_IS_NO)
        case Unavailable(reason):
            end(reason, NO_ANSWER)
        case _:
            assert_never(outcome)


def _proposed(at: Session, wish: Wish, change: Change, known: Callable[[], Evaluated]) -> dict[str, Any]:
    forge = _forge(at)
    earlier = forge.find(wish.branch)
    mark = f"<!-- backstay-change: {change.change_id} -->"
    if earlier is not None and earlier.state is PullRequestState.OPEN and mark in earlier.body:
        # It proposes this very change. Another commit would only take back approvals, and the ticks in its checklist.
        return _told(earlier, opened_now=False)
    body = change_body(wish.change, known())
    outcome = at.repository.propose(change, branch=wish.branch)
    if not isinstance(outcome, Proposed):
        return _settled(outcome)
    opened_one = forge.open(
        Proposal(
            branch=wish.branch,
            base=at.repository.branch,
            title=change_title(wish.change),
            body=f"{body}\n{mark}\n",
            labels=change_labels(wish.change),
        )
    )
    return _told(opened_one, opened_now=earlier is None or earlier.state is not PullRequestState.OPEN)


def _forge(at: Session) -> Forge:
    """Return the forge of the repository; a pull request needs to know which one it is, and a token."""
    kind = forge_kind(at.place.url, at.target.forge)
    if not kind:
        end(f"it is not known what kind of forge {at.place.shown} is: name it with --forge, or use --commit", BAD_INPUT)
    if at.credentials is None:
        end(f"a pull request at {at.place.shown} needs a token: set BACKSTAY_TOKEN, or use --token-file", BAD_INPUT)
    return forge_of(at.place.url, at.credentials, kind=kind, api=at.target.forge_api)


def _told(request: PullRequest, *, opened_now: bool) -> dict[str, Any]:
    return {
        "outcome": "pullRequest",
        "commit": request.head,
        "pullRequest": {
            "number": request.number,
            "url": request.url,
            "branch": request.branch,
            "title": request.title,
            "opened": opened_now,
        },
    }
