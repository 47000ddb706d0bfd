"""How a rollback reaches Git: a commit on the branch, or a pull request where that is asked for or all that is allowed.

Every call starts from what branch and forge say at that moment and may be repeated: the rollback's ID names commit,
branch and pull request, so a second request finds what the first one made.
"""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from backstay.adapters.argocd import Source
from backstay.adapters.forge import (
    AwaitingMerge,
    Forge,
    ForgeRefused,
    ForgeUnavailable,
    Merged,
    PullRequest,
    PullRequestState,
)
from backstay.adapters.gitops.changes import Proposed, Unchanged
from backstay.adapters.gitops.outcomes import (
    AlreadyDone,
    AlreadyGood,
    Committed,
    Missing,
    Refused,
    RollbackOutcome,
    Superseded,
    Unavailable,
)
from backstay.adapters.messages.markdown import remark
from backstay.adapters.messages.rollback_commit import RollbackRequest, rollback_message
from backstay.adapters.messages.rollback_proposal import branch_of, proposal_of
from backstay.controller.runtime import faults
from backstay.controller.services.git_writer import GitWriters
from backstay.domain import observed
from backstay.domain.resource import ModelDeployment, ModelIdentity
from backstay.domain.rules import Merge, RollbackPolicy, WriteBack
from backstay.domain.status import RollbackRecord

_Answer = TypeVar("_Answer")


class RollbackWriter:
    """Writes rollbacks the way their ModelDeployments ask for."""

    def __init__(self, writers: GitWriters, clock: Callable[[], float]) -> None:
        self._writers = writers
        self._clock = clock
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="forge")

    async def write(
        self, desired: ModelDeployment, source: Source, record: RollbackRecord, good: ModelIdentity
    ) -> observed.WriteBack:
        """Bring a rollback as far as it gets now, and say how far that is.

        Raises:
            GitError, GitUrlError, CredentialError, VersionFileError: why Git could not be read.
        """
        policy, request, refused = desired.rollback, _request(desired, source, record, good), ""
        if policy.write_back is WriteBack.COMMIT and not record.pull_request:
            outcome = await self._writers.of(source).write(request)
            if not (isinstance(outcome, Refused) and outcome.protected):
                return self._told(outcome)
            refused = f"{outcome.reason}; "
        try:
            return await self._by_pull_request(source, request, policy, record)
        except ForgeUnavailable as problem:
            return observed.Unwritten(f"{refused}{problem}")
        except ForgeRefused as problem:
            return observed.WriteRefused(f"{refused}{problem}")

    async def withdraw(self, source: Source, record: RollbackRecord) -> None:
        """Close the pull request of a rollback that a later one has overtaken.

        Raises:
            ForgeUnavailable, ForgeRefused, GitError: why it stays.
        """
        branch = branch_of(record.id)
        forge = await self._forge(source)
        await self._close(
            source, forge, branch, "A later version failed as well, and its rollback takes this one's place."
        )

    async def _by_pull_request(
        self, source: Source, request: RollbackRequest, policy: RollbackPolicy, record: RollbackRecord
    ) -> observed.WriteBack:
        branch, forge = branch_of(request.rollback_id), await self._forge(source)
        known = await self._at_forge(lambda: forge.find(branch))
        if known is not None and known.state is PullRequestState.CLOSED:
            return await self._closed(source, request, known)
        outcome = await self._writers.of(source).propose(request, branch=branch)
        if not isinstance(outcome, Proposed):
            told = self._told(outcome)
            if isinstance(told, observed.Written):
                await self._close(
                    source, forge, branch, f"There is nothing left to merge: {told.note or 'it is done'}."
                )
            return told
        faults.point("before:pull-request")
        proposal = proposal_of(request, base=self._writers.of(source).branch)
        opened = await self._at_forge(lambda: forge.open(proposal))
        faults.point("after:pull-request")
        since = record.proposed_at or self._clock()
        if policy.merge is Merge.MANUAL:
            return observed.Proposed(opened.url, since, "a person has to merge it")
        message = rollback_message(request)
        faults.point("before:merge")
        merged = await self._at_forge(lambda: forge.merge(opened.number, head=outcome.commit, message=message))
        faults.point("after:merge")
        match merged:
            case Merged(commit):
                return observed.Written(commit, self._clock())
            case AwaitingMerge(reason):
                return observed.Proposed(opened.url, since, reason)

    async def _closed(self, source: Source, request: RollbackRequest, known: PullRequest) -> observed.WriteBack:
        """Respect that a person closed the pull request: it is not opened again, and Git is what counts."""
        located = await self._writers.of(source).locate(request.path, request.name)
        says = (located.identity.version, located.identity.digest or request.bad.digest)
        if says != (request.bad.version, request.bad.digest):
            note = f"Git declares version {located.identity.version}"
            good = located.identity.version == request.good.version
            return observed.Written(located.head if good else "", self._clock(), note)
        return observed.WriteRefused(
            f"{known.url} was closed without a merge: reopen it, or commit another version than {request.bad.version}"
        )

    async def _close(self, source: Source, forge: Forge, branch: str, why: str) -> None:
        known = await self._at_forge(lambda: forge.find(branch))
        if known is not None and known.state is PullRequestState.OPEN:
            await self._at_forge(lambda: forge.close(known.number, comment=remark(why)))
            await self._writers.of(source).withdraw(branch)

    def _told(self, outcome: RollbackOutcome | Unchanged) -> observed.WriteBack:
        now = self._clock()
        match outcome:
            case Committed(commit, pushed_at):
                return observed.Written(commit, pushed_at.timestamp())
            case AlreadyDone(commit):
                return observed.Written(commit, now)
            case AlreadyGood(head) | Unchanged(head):
                return observed.Written(head, now, "Git said so already")
            case Superseded(newer, commit):
                return observed.Written(commit or "", now, f"Git has moved on to version {newer}")
            case Missing(reason) | Refused(reason):
                return observed.WriteRefused(reason)
            case Unavailable(reason):
                return observed.Unwritten(reason)

    async def _forge(self, source: Source) -> Forge:
        return await self._at_forge(lambda: self._writers.forge(source))

    async def _at_forge(self, work: Callable[[], _Answer]) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _headline(reason: str) -> str:
    """Cut a verdict's sentence to what fits a commit's subject; the evidence goes into trailers."""
    return re.split(r" \(|; ", reason, maxsplit=1)[0]


def _request(desired: ModelDeployment, source: Source, record: RollbackRecord, good: ModelIdentity) -> RollbackRequest:
    return RollbackRequest(
        rollback_id=record.id,
        resource=str(desired.key),
        path=source.path,
        name=desired.key.name,
        environment=source.path.rstrip("/").rsplit("/", 1)[-1],
        good=good,
        bad=ModelIdentity(good.name, record.from_version, record.from_digest),
        bad_commit=record.bad_commit,
        reason=_headline(record.reason),
        evidence=record.evidence,
        quarantine=not record.inconclusive,
    )
