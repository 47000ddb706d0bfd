"""Pull requests that carry a version on to the next environment, asked for in the background.

The branch is the same for all promotions of one model to one environment, and a mark in the pull request's text names
the version: so there is one open pull request at the most, and it is known which version a closed one was about.
"""

import asyncio
import hashlib
import posixpath
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar, assert_never

from backstay.adapters.argocd import Source
from backstay.adapters.forge import Forge, Proposal, PullRequest, PullRequestState
from backstay.adapters.git_url import normalise_url
from backstay.adapters.gitops.changes import Change, ProposalOutcome, Proposed, Unchanged
from backstay.adapters.gitops.locate import Located
from backstay.adapters.gitops.outcomes import AlreadyDone, AlreadyGood, Missing, Refused, Superseded, Unavailable
from backstay.adapters.gitops.version_file import VersionFile, VersionFileError, restore
from backstay.adapters.messages.change import (
    ChangeKind,
    Evaluated,
    VersionChange,
    change_body,
    change_labels,
    change_message,
    change_title,
)
from backstay.adapters.messages.markdown import remark
from backstay.adapters.registry.access import RegistryAccess
from backstay.adapters.registry.errors import RegistryUnavailableError
from backstay.adapters.registry.versions import ModelRegistry, ModelVersionError, RegisteredVersion
from backstay.controller.runtime.background import Background
from backstay.controller.services.git_writer import GitWriter
from backstay.controller.services.gitops import PASSING, PERMANENT, GitOps
from backstay.domain import observed
from backstay.domain.resource import Key, ModelDeployment, ModelIdentity
from backstay.domain.status import PromotionRecord
from backstay.domain.units import timestamp

_AGAIN_AFTER = 25.0
_RETRY_AFTER = 4.0
_ACCOUNT = "backstay"

_Answer = TypeVar("_Answer")
_Meant = tuple[str, str, str]
_Work = Callable[[], Coroutine[Any, Any, observed.PromotionAnswer]]


@dataclass(slots=True)
class _Known:
    """The last answer about one model's promotion, and what was asked: to propose it (True), or to take it back."""

    asked: tuple[str, str, str, bool]
    answer: observed.PromotionAnswer
    again_at: float


@dataclass(frozen=True, slots=True)
class _Aim:
    """One promotion, with the place that it changes."""

    desired: ModelDeployment
    record: PromotionRecord
    model: ModelIdentity
    source: Source
    goal: Source
    mark: str

    @property
    def environment(self) -> str:
        return posixpath.basename(self.goal.path)

    @property
    def branch(self) -> str:
        return f"backstay/promote-{self.desired.key.name}-{self.environment}"


class Promotions:
    """Answers about promotions, by ModelDeployment."""

    def __init__(
        self, gitops: GitOps, background: Background, clock: Callable[[], float], access: RegistryAccess
    ) -> None:
        self._gitops = gitops
        self._access = access
        self._clock = clock
        self._known: dict[Key, _Known] = {}
        self._background = background
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="promotions")

    def answer(self, key: Key, record: PromotionRecord | None) -> observed.PromotionAnswer:
        """Return what is known of the promotion on record."""
        known = self._known.get(key)
        if record is None or known is None or known.asked[:3] != _meant(record):
            return observed.PromotionPending()
        return known.answer

    def propose(
        self, desired: ModelDeployment, record: PromotionRecord, model: ModelIdentity, gathered: tuple[str, ...]
    ) -> None:
        """Start opening the pull request, or looking at it, unless that was done a moment ago."""
        self._ask(desired.key, record, lambda: self._proposed(desired, record, model, gathered), proposing=True)

    def withdraw(self, desired: ModelDeployment, record: PromotionRecord, why: str) -> None:
        """Start closing the pull request, unless that was tried a moment ago."""
        self._ask(desired.key, record, lambda: self._withdrawn(desired, record, why), proposing=False)

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a deleted ModelDeployment."""
        self._known.pop(key, None)

    def _ask(self, key: Key, record: PromotionRecord, work: _Work, *, proposing: bool) -> None:
        """Do one thing at a time for a model."""
        known, asked = self._known.get(key), (*_meant(record), proposing)
        if known is not None and known.asked == asked and self._clock() < known.again_at:
            return

        async def ask() -> None:
            answer: observed.PromotionAnswer
            try:
                answer = await work()
            except PERMANENT as problem:
                answer = observed.PromotionRefused(str(problem))
            except PASSING as problem:
                answer = observed.PromotionPending(str(problem))
            pause = _RETRY_AFTER if isinstance(answer, observed.PromotionPending) else _AGAIN_AFTER
            self._known[key] = _Known(asked, answer, self._clock() + pause)

        self._background.start(key, "promotion", ask)

    async def _proposed(
        self, desired: ModelDeployment, record: PromotionRecord, model: ModelIdentity, gathered: tuple[str, ...]
    ) -> observed.PromotionAnswer:
        aim = await self._aim(desired, record, model)
        if isinstance(aim, str):
            return observed.PromotionRefused(aim)
        writer = self._gitops.writers.of(aim.goal)
        located = await writer.locate(aim.goal.path, desired.key.name)
        if located.identity.is_meant_by(model):
            return observed.PromotionDone()
        forge = await self._at_forge(lambda: self._gitops.writers.forge(aim.goal))
        known = await self._at_forge(lambda: forge.find(aim.branch))
        if any(entry.covers(model, "") for entry in located.rejected):
            await self._close(aim, forge, known, f"Version {model.version} was rejected in {aim.environment}.")
            return observed.PromotionRefused(
                f"version {model.version} was rejected in {aim.environment}: declare another one here, or lift that by "
                f"backstay retry {desired.key.name} --environment {aim.environment}"
            )
        if known is not None and aim.mark in known.body:
            match known.state:
                case PullRequestState.CLOSED:
                    return observed.PromotionClosed(known.url)
                case PullRequestState.OPEN:
                    # Another commit would only take back approvals, and the ticks in its checklist.
                    return observed.PromotionAsked(known.url)
        return await self._open(aim, located, writer, forge, gathered)

    async def _aim(self, desired: ModelDeployment, record: PromotionRecord, model: ModelIdentity) -> _Aim | str:
        """Find the place to change, or say why it must not be changed."""
        source = await self._gitops.source(desired)
        path = posixpath.normpath(posixpath.join(source.path, record.to))
        if path.startswith(("..", "/")) or path == ".":
            return f"{record.to} leads out of the repository, seen from {source.path}: name a folder inside"
        goal = replace(source, path=path)
        refusal = self._gitops.refusal(desired.key, goal)
        parts = (self._gitops.cluster_name, str(desired.key), normalise_url(goal.url), path, *_meant(record))
        name = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
        mark = f"<!-- backstay-promotion: {name} -->"
        return refusal or _Aim(desired, record, model, source, goal, mark)

    async def _open(
        self, aim: _Aim, located: Located, writer: GitWriter, forge: Forge, gathered: tuple[str, ...]
    ) -> observed.PromotionAnswer:
        brought = replace(aim.model, promoted_by=_ACCOUNT, promoted_at=timestamp(aim.record.due_at))
        change = VersionChange(
            ChangeKind.PROMOTE,
            aim.desired.key.name,
            aim.environment,
            before=located.identity,
            after=brought,
            source=posixpath.basename(aim.source.path),
        )
        outcome = await writer.propose(_edit(aim, change, brought), branch=aim.branch)
        if not isinstance(outcome, Proposed):
            return _settled(outcome)
        body = change_body(change, await self._evaluated(aim, located, gathered))
        opened = await self._at_forge(
            lambda: forge.open(
                Proposal(
                    branch=aim.branch,
                    base=writer.branch,
                    title=change_title(change),
                    body=f"{body}\n{aim.mark}\n",
                    labels=change_labels(change),
                )
            )
        )
        return observed.PromotionAsked(opened.url)

    async def _evaluated(self, aim: _Aim, located: Located, gathered: tuple[str, ...]) -> Evaluated:
        """Add what the registry says of both versions to what was seen here; a silent registry only says less."""
        new = await self._at_forge(lambda: _registered(aim.desired.registry_uri, self._access, aim.model))
        running = await self._at_forge(lambda: _registered(aim.desired.registry_uri, self._access, located.identity))
        return Evaluated(new, running, gathered=gathered, proven=True)

    async def _withdrawn(
        self, desired: ModelDeployment, record: PromotionRecord, why: str
    ) -> observed.PromotionWithdrawn:
        try:
            aim = await self._aim(
                desired, record, ModelIdentity(desired.plan.model.name, record.version, record.digest)
            )
            if isinstance(aim, str):
                return observed.PromotionWithdrawn(aim)
            forge = await self._at_forge(lambda: self._gitops.writers.forge(aim.goal))
            await self._close(aim, forge, await self._at_forge(lambda: forge.find(aim.branch)), f"Taken back: {why}.")
        except PERMANENT as problem:
            return observed.PromotionWithdrawn(str(problem))
        return observed.PromotionWithdrawn()

    async def _close(self, aim: _Aim, forge: Forge, known: PullRequest | None, why: str) -> None:
        """Close this promotion's pull request; without its mark, it is not taken for one that a person closed."""
        if known is None or aim.mark not in known.body or known.state is PullRequestState.MERGED:
            return
        await self._at_forge(lambda: forge.close(known.number, comment=remark(why)))
        body = known.body.replace(aim.mark, "")
        unmarked = Proposal(known.branch, known.base, known.title, body, known.labels)
        await self._at_forge(lambda: forge.update(known.number, unmarked))
        await self._gitops.writers.of(aim.goal).withdraw(known.branch)

    async def _at_forge(self, work: Callable[[], _Answer]) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _meant(record: PromotionRecord) -> _Meant:
    return (record.version, record.digest, record.to)


def _edit(aim: _Aim, change: VersionChange, brought: ModelIdentity) -> Change:
    def edit(content: bytes, declared: VersionFile, file: str) -> bytes:
        if any(entry.covers(brought, "") for entry in declared.rejected):
            raise VersionFileError(f"{file} rejects version {brought.version}")
        identity = replace(brought, name=declared.identity.name and brought.name)
        return restore(content, name=aim.desired.key.name, identity=identity, reject=None, drop_retry=True, file=file)

    return Change(
        path=aim.goal.path,
        name=aim.desired.key.name,
        edit=edit,
        message=change_message(change),
        change_id=aim.mark.split()[2],
    )


def _settled(outcome: ProposalOutcome) -> observed.PromotionAnswer:
    match outcome:
        case AlreadyDone() | AlreadyGood() | Unchanged():
            return observed.PromotionDone()
        case Superseded(newer):
            return observed.PromotionPending(f"the other environment declares version {newer} by now")
        case Missing(reason) | Refused(reason):
            return observed.PromotionRefused(reason)
        case Unavailable(reason):
            return observed.PromotionPending(reason)
        case Proposed():
            raise ValueError(f"{outcome.branch} waits for its pull request, so it is not settled")
        case _:
            assert_never(outcome)


def _registered(uri: str, access: RegistryAccess, model: ModelIdentity) -> RegisteredVersion | None:
    try:
        return ModelRegistry(uri, access).read(model.name, model.version)
    except (ModelVersionError, RegistryUnavailableError):
        return None
