"""Git, Argo CD and the registry, asked in the background: a reconcile reads the last answer, a new one wakes it."""

import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from backstay.adapters.argocd import (
    ApplicationRef,
    Source,
    SourceProblem,
    refresh_patch,
    refreshes,
    source_of,
    sync_state,
    tracking_application,
)
from backstay.adapters.forge import ForgeRefused, ForgeUnavailable
from backstay.adapters.git.command import GitError
from backstay.adapters.git_url import GitUrlError
from backstay.adapters.gitops.locate import Located
from backstay.adapters.gitops.version_file import VersionFileError
from backstay.adapters.kubernetes.client import APPLICATION, ApiError, Cluster, MissingKindError, NotFoundError
from backstay.adapters.registry.errors import RegistryUnavailableError
from backstay.adapters.secrets import CredentialError
from backstay.controller.runtime import faults
from backstay.controller.runtime.background import Background
from backstay.controller.runtime.settings import Settings
from backstay.controller.services.git_writer import GitRemotes, GitServers, GitWriters
from backstay.controller.services.stable_versions import StableVersions
from backstay.controller.services.write_back import RollbackWriter
from backstay.domain import observed
from backstay.domain.resource import GROUP, KIND, TRACKING_ID, Key, ModelDeployment, ModelIdentity
from backstay.domain.status import RollbackRecord, Served
from backstay.domain.turn import rollback_id

_LOG = logging.getLogger(__name__)

_RETRY_AFTER = 5.0
_REFUSED_AGAIN_AFTER = 30.0
# Each look at an open pull request costs a fetch and two or three calls of a forge that counts them.
_PROPOSED_AGAIN_AFTER = 10.0
# How often Argo CD is asked to look at Git while it does not know a commit. Once it does, it syncs by itself, and to
# look again would only take its time.
_REFRESH_EVERY, _REFRESH_KNOWN_EVERY = 1.0, 30.0
# A timer may wake a model a little before its time.
_ALMOST = 0.9


@dataclass(slots=True)
class _Answers:
    """What is known of one ModelDeployment outside the cluster."""

    source: Source | None = None
    brought_by: tuple[int, str, str] = (0, "", "")
    recall: observed.Recall = field(default_factory=observed.NotRecalled)
    # Which question about the past an answer belongs to: one that was dropped meanwhile has no answer.
    recalls: int = 0
    write_back: observed.WriteBack = field(default_factory=observed.Unwritten)
    write_back_of: str = ""
    answered_at: float = 0.0
    sync: observed.Sync = field(default_factory=observed.NotSynced)
    sync_of: str = ""
    looked_at: float = 0.0
    refreshed_at: float = 0.0
    # Why the commit of the declared version is not known: it is told once, not every time.
    unlocated: str = ""


class _NoSourceError(Exception):
    """Git cannot be found from the cluster; the text is a sentence with the remedy."""


# What a person has to mend, and what may pass by itself.
PERMANENT = (_NoSourceError, VersionFileError, GitUrlError, CredentialError, ForgeRefused)
PASSING = (ApiError, GitError, ForgeUnavailable)


class GitOps:
    """Answers from outside the cluster, by ModelDeployment."""

    def __init__(  # noqa: PLR0913 - what it joins, each named once
        self,
        settings: Settings,
        cluster: Cluster,
        background: Background,
        clock: Callable[[], float],
        settled: Callable[[], Coroutine[Any, Any, None]],
        *,
        git: GitServers | None = None,
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._clock = clock
        self.cluster_name = settings.cluster_name
        self._answers: dict[Key, _Answers] = {}
        self._background = background
        # Where many fail, nothing is committed until all of them are drained.
        self._settled = settled
        self.writers = GitWriters(git or GitRemotes(settings))
        self._rollbacks = RollbackWriter(self.writers, clock)
        self.stable_versions = StableVersions(background.wake, clock, lambda: self.cluster_name, settings.registries)

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a deleted ModelDeployment."""
        self._answers.pop(key, None)
        self.stable_versions.forget(key)

    def recalled(self, key: Key) -> observed.Recall:
        """Return what registry and Git remember, as far as they have been asked."""
        return self._of(key).recall

    def set_by(self, desired: ModelDeployment, stable: Served | None) -> str:
        """Return the commit that brought what is declared, or nothing while that is not known.

        It set the version; where that is the stable one already, it is the last one that changed the manifests.
        """
        generation, version_by, manifests_by = self._of(desired.key).brought_by
        model = desired.plan.model
        same = stable is not None and (stable.version, stable.digest) == (model.version, model.digest)
        return (manifests_by if same else version_by) if generation == desired.generation else ""

    def write_back(self, key: Key, record: RollbackRecord | None) -> observed.WriteBack:
        """Return the answer to the rollback on record."""
        answers = self._of(key)
        if record is None or answers.write_back_of != record.rollout:
            return observed.Unwritten()
        return answers.write_back

    def sync(self, key: Key, record: RollbackRecord | None) -> observed.Sync:
        """Return whether Argo CD has synced the rollback's commit."""
        answers = self._of(key)
        return answers.sync if record is not None and answers.sync_of == record.commit else observed.NotSynced()

    def recall(self, desired: ModelDeployment) -> None:
        """Start asking registry and Git which version was stable."""
        self._background.start(desired.key, "recall", lambda: self._recall(desired))

    def forget_recall(self, key: Key) -> None:
        """Drop what registry and Git remembered: it was used, or a version was promoted since they were asked."""
        answers = self._of(key)
        answers.recall, answers.recalls = observed.NotRecalled(), answers.recalls + 1

    def locate(self, desired: ModelDeployment) -> None:
        """Start looking for the commit that set the declared version."""
        if self._clock() - self._of(desired.key).answered_at > _RETRY_AFTER:
            self._background.start(desired.key, "locate", lambda: self._locate(desired))

    def locate_rollback(self, desired: ModelDeployment, record: RollbackRecord) -> None:
        """Start looking for the commit that set the failed version."""
        if self._may_ask(desired.key, record):
            self._background.start(desired.key, "write", lambda: self._locate_rollback(desired, record))

    def commit(self, desired: ModelDeployment, record: RollbackRecord, good: ModelIdentity) -> None:
        """Start writing the good version back."""
        if self._may_ask(desired.key, record):
            self._background.start(desired.key, "write", lambda: self._commit(desired, record, good))

    def withdraw(self, desired: ModelDeployment, record: RollbackRecord) -> None:
        """Start closing the pull request of a rollback that another one has overtaken."""
        self._background.start(desired.key, "withdraw", lambda: self._withdraw(desired, record))

    def refresh(self, desired: ModelDeployment, commit: str, every: float) -> None:
        """Start asking Argo CD how far it is, every so many seconds, and to look at Git while it lacks a commit."""
        answers, now = self._of(desired.key), self._clock()
        # The end of each look wakes the model, which asks again at once.
        if answers.sync_of != commit or now - answers.looked_at >= _ALMOST * every:
            answers.looked_at = now
            self._background.start(desired.key, "refresh", lambda: self._refresh(desired, commit))

    def _of(self, key: Key) -> _Answers:
        return self._answers.setdefault(key, _Answers())

    def _may_ask(self, key: Key, record: RollbackRecord) -> bool:
        answers = self._of(key)
        if answers.write_back_of != record.rollout:
            return True
        match answers.write_back:
            case observed.WriteRefused():
                pause = _REFUSED_AGAIN_AFTER
            case observed.Proposed():
                pause = _PROPOSED_AGAIN_AFTER
            case _:
                pause = _RETRY_AFTER
        fresh = isinstance(answers.write_back, observed.Located)
        return fresh or self._clock() - answers.answered_at >= pause

    def _answer(self, key: Key, record: RollbackRecord, answer: observed.WriteBack) -> None:
        answers = self._of(key)
        answers.write_back, answers.write_back_of, answers.answered_at = answer, record.rollout, self._clock()

    def _application(self, desired: ModelDeployment) -> ApplicationRef | None:
        return tracking_application(
            desired.annotations,
            group=GROUP,
            kind=KIND,
            namespace=desired.key.namespace,
            name=desired.key.name,
            default_namespace=self._settings.argocd_namespace,
        )

    async def source(self, desired: ModelDeployment) -> Source:
        """Find repository, branch and path from the Argo CD Application that delivers the object.

        Raises:
            One of `PERMANENT` or `PASSING`: why it is not found, or must not be written to.
        """
        reference = self._application(desired)
        if reference is None:
            raise _NoSourceError(
                f"ModelDeployment {desired.key} has no annotation {TRACKING_ID}: deliver it by an Argo CD Application"
            )
        try:
            live = await self._cluster.get(APPLICATION, reference.namespace, reference.name)
        except (NotFoundError, MissingKindError) as missing:
            raise _NoSourceError(
                f"Argo CD Application {reference.namespace}/{reference.name}, which {desired.key} names, does not exist"
            ) from missing
        found = source_of(live, group=GROUP, kind=KIND, namespace=desired.key.namespace, name=desired.key.name)
        if isinstance(found, SourceProblem):
            raise _NoSourceError(found.sentence)
        refusal = self.refusal(desired.key, found)
        if refusal:
            raise _NoSourceError(refusal)
        self._of(desired.key).source = found
        return found

    def refusal(self, key: Key, source: Source) -> str:
        """Say why a ModelDeployment may not have a place changed; empty where it may."""
        return self._settings.write_rules.refusal(key, source)

    async def _find(self, desired: ModelDeployment) -> Located:
        source = await self.source(desired)
        return await self.writers.of(source).locate(source.path, desired.key.name)

    async def _locate(self, desired: ModelDeployment) -> bool:
        answers = self._of(desired.key)
        answers.answered_at = self._clock()
        try:
            located = await self._find(desired)
        except (*PERMANENT, *PASSING) as problem:
            if answers.unlocated != str(problem):
                version = desired.plan.model.version
                _LOG.info("%s: the commit of version %s is not known yet: %s", desired.key, version, problem)
            answers.unlocated = str(problem)
            return False
        commit = _set_by(located, desired.plan.model.version)
        if commit:
            answers.brought_by = (desired.generation, commit, located.changed_by)
        return bool(commit)

    async def _locate_rollback(self, desired: ModelDeployment, record: RollbackRecord) -> None:
        try:
            located = await self._find(desired)
        except PERMANENT as problem:
            self._answer(desired.key, record, observed.WriteRefused(str(problem)))
            return
        except PASSING as problem:
            self._answer(desired.key, record, observed.Unwritten(str(problem)))
            return
        commit = _set_by(located, record.from_version) or located.set_by
        identity = rollback_id(
            self.cluster_name, desired, version=record.from_version, digest=record.from_digest, commit=commit
        )
        self._answer(desired.key, record, observed.Located(identity, commit))

    async def _commit(self, desired: ModelDeployment, record: RollbackRecord, good: ModelIdentity) -> None:
        await self._settled()
        try:
            answer = await self._rollbacks.write(desired, await self.source(desired), record, good)
        except PERMANENT as problem:
            answer = observed.WriteRefused(str(problem))
        except PASSING as problem:
            answer = observed.Unwritten(str(problem))
        self._answer(desired.key, record, answer)

    async def _withdraw(self, desired: ModelDeployment, record: RollbackRecord) -> None:
        try:
            await self._rollbacks.withdraw(await self.source(desired), record)
        except (*PERMANENT, *PASSING) as problem:
            _LOG.warning("%s: %s stays open: %s", desired.key, record.pull_request, problem)

    async def _refresh(self, desired: ModelDeployment, commit: str) -> None:
        answers = self._of(desired.key)
        try:
            sync = await self._look(desired, answers, commit)
        except (ApiError, GitError) as problem:
            sync = observed.NotSynced(str(problem))
        answers.sync, answers.sync_of = sync, commit

    async def _look(self, desired: ModelDeployment, answers: _Answers, commit: str) -> observed.Sync:
        reference = self._application(desired)
        if reference is None:
            return observed.NotSynced("no Argo CD Application delivers it")
        if answers.sync_of != commit:
            live = await self._ask_to_refresh(answers, reference)
        else:
            live = await self._cluster.get(APPLICATION, reference.namespace, reference.name)
        state = sync_state(live)
        knows = state.revision == commit
        if not knows and state.revision and answers.source is not None:
            knows = await self.writers.of(answers.source).contains(commit, state.revision)
        if knows and state.sync_status == "Synced":
            return observed.Synced(self._clock())
        pause = _REFRESH_KNOWN_EVERY if knows else _REFRESH_EVERY
        if not refreshes(live) and self._clock() - answers.refreshed_at >= pause:
            await self._ask_to_refresh(answers, reference)
        cause = "" if state.automated else "the Application does not sync by itself: sync it"
        return observed.NotSynced(cause or (state.message if state.phase in ("Error", "Failed") else ""))

    async def _ask_to_refresh(self, answers: _Answers, reference: ApplicationRef) -> dict[str, Any]:
        answers.refreshed_at = self._clock()
        faults.point("before:refresh")
        live = await self._cluster.merge(APPLICATION, reference.namespace, reference.name, refresh_patch())
        faults.point("after:refresh")
        return live

    async def _recall(self, desired: ModelDeployment) -> bool:
        answers = self._of(desired.key)
        question, former = answers.recalls, answers.recall
        answer = await self._ask_memory(desired)
        if answers.recalls != question:
            return True
        answers.recall = answer
        return answer != former

    async def _ask_memory(self, desired: ModelDeployment) -> observed.Recall:
        """Ask the registry's alias first, then the version file's history; no answer at all is never "first"."""
        registry_problem, version = "", ""
        try:
            version = await self.stable_versions.recall(desired)
        except RegistryUnavailableError as problem:
            registry_problem = str(problem)
        history, git_problem = await self._history(desired)
        if version:
            known = next((identity for identity in history if identity.version == version), None)
            return observed.ServedBefore(known or ModelIdentity(desired.plan.model.name, version))
        earlier = next((identity for identity in history if _eligible(identity, desired)), None)
        if earlier is not None:
            return observed.ServedBefore(earlier)
        if registry_problem or git_problem:
            return observed.RecallUnavailable("; ".join(part for part in (registry_problem, git_problem) if part))
        return observed.NeverServed()

    async def _history(self, desired: ModelDeployment) -> tuple[tuple[ModelIdentity, ...], str]:
        """List the versions of the file's history, newest first; what is not delivered from Git has none."""
        if self._application(desired) is None:
            return (), ""
        try:
            located = await self._find(desired)
        except (*PERMANENT, *PASSING) as problem:
            return (), str(problem)
        return (located.identity, *(version.identity for version in located.history)), ""


def _set_by(located: Located, version: str) -> str:
    """Find the commit that set a version, also when the file has moved on since."""
    return next((entry.commit for entry in located.history if entry.identity.version == version), "")


def _eligible(identity: ModelIdentity, desired: ModelDeployment) -> bool:
    """Tell whether a version of the file's history may be taken for the stable one: another one, and not rejected."""
    if identity.version == desired.plan.model.version:
        return False
    return not any(rejection.covers(identity, "") for rejection in desired.rejected)
