"""``backstay pause``, ``resume``, ``approve``, ``abort`` and ``skip``: a person's word to a rollout."""

from typing import Annotated

import typer

from backstay.cli import looking
from backstay.cli.acting import NotNow, Word, meaning
from backstay.cli.cluster import ClusterError, Models, StaleError
from backstay.cli.trouble import ANSWER_IS_NO, end, refuse

_ATTEMPTS = 3


def pause(
    name: looking.Name,
    namespace: looking.Namespace = "",
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
) -> None:
    """Hold a rollout at the weight that it has.

    Evidence is still judged: a version that turns bad is rolled back all the same. Go on with `backstay resume`.

    ```
    backstay pause fraud-detector --namespace fraud-production
    ```
    """
    _say(Word.PAUSE, name, looking.place(namespace, context, kubeconfig))


def resume(
    name: looking.Name,
    namespace: looking.Namespace = "",
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
) -> None:
    """Let a paused rollout go on."""
    _say(Word.RESUME, name, looking.place(namespace, context, kubeconfig))


def approve(
    name: looking.Name,
    namespace: looking.Namespace = "",
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
) -> None:
    """Approve the step at which a rollout waits.

    The approval names rollout and step, and works once. It needs the verb `approve` on modeldeployments, which the
    ClusterRole backstay-approve holds.
    """
    _say(Word.APPROVE, name, looking.place(namespace, context, kubeconfig))


def abort(
    name: looking.Name,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes into the rollback's commit.")],
    namespace: looking.Namespace = "",
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
) -> None:
    """Fail a rollout: the version is drained, rejected, and taken out of Git.

    ```
    backstay abort fraud-detector --reason 'complaints from support'
    ```

    To stop for a while instead, use `backstay pause`.
    """
    if not reason.strip():
        refuse("--reason is empty: say why, for those who read the commit")
    _say(Word.ABORT, name, looking.place(namespace, context, kubeconfig), reason=reason)


def skip(
    name: looking.Name,
    namespace: looking.Namespace = "",
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
) -> None:
    """Let a rollout leave its step before time and requests are up.

    It works once, for the step under way. A version that fails is rolled back all the same, and an approval is not
    skipped.
    """
    _say(Word.SKIP, name, looking.place(namespace, context, kubeconfig))


def _say(word: Word, name: str, place: looking.Place, *, reason: str = "") -> None:
    """Act on what is there; where somebody else was faster, look again what the word means now."""
    try:
        models = Models(place)
        where = models.place(name)
        for attempt in range(_ATTEMPTS):
            body = models.get(*where)
            act = meaning(word, body, reason=reason)
            if isinstance(act, NotNow):
                end(act.sentence, ANSWER_IS_NO)
            try:
                models.annotate(body, act.annotation, act.value)
            except StaleError:
                if attempt + 1 == _ATTEMPTS:
                    raise
                continue
            typer.echo(act.sentence)
            return
    except ClusterError as problem:
        end(str(problem), problem.code)
