"""``backstay pause``, ``resume``, ``approve``, ``abort`` and ``skip``: a person's word to a rollout."""

from typing import Annotated

import typer

from backstay.adapters.messages.plain import line
from backstay.cli import screen, terminal
from backstay.cli.cluster import looking
from backstay.cli.cluster.acting import NotNow, Set, Word, meaning
from backstay.cli.cluster.client import Models, Object, Place, StaleError
from backstay.cli.screen import Form
from backstay.cli.trouble import ANSWER_IS_NO, end, refuse

_ATTEMPTS = 3
_LONGEST_REASON = 500


def pause(
    name: looking.Name,
    *,
    namespace: looking.Namespace = "",
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
    output: looking.FormOption = Form.TEXT,
) -> None:
    """Hold a rollout at the weight that it has.

    ```
    backstay pause fraud-detector --namespace fraud-production
    ```

    A version that turns bad is taken back all the same. `backstay resume` lets the rollout go on. Asks for the verb
    `pause` on modeldeployments, which the ClusterRole backstay-approve holds.
    """
    _say(Word.PAUSE, name, looking.place(namespace, context, kubeconfig), output)


def resume(
    name: looking.Name,
    *,
    namespace: looking.Namespace = "",
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
    output: looking.FormOption = Form.TEXT,
) -> None:
    """Let a paused rollout go on.

    ```
    backstay resume fraud-detector --namespace fraud-production
    ```

    Asks for the verb `pause`, as pausing does.
    """
    _say(Word.RESUME, name, looking.place(namespace, context, kubeconfig), output)


def approve(
    name: looking.Name,
    *,
    namespace: looking.Namespace = "",
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
    output: looking.FormOption = Form.TEXT,
) -> None:
    """Approve the step at which a rollout waits.

    ```
    backstay approve fraud-detector --namespace fraud-production
    ```

    The approval names rollout and step, and works once. Ends with 1 where nothing waits for approval. Asks for the verb
    `approve` on modeldeployments, which the ClusterRole backstay-approve holds.
    """
    _say(Word.APPROVE, name, looking.place(namespace, context, kubeconfig), output)


def abort(  # noqa: PLR0913 - each is an option of the command
    name: looking.Name,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes into the rollback's commit.")],
    namespace: looking.Namespace = "",
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
    output: looking.FormOption = Form.TEXT,
) -> None:
    """End a rollout as failed: the version is drained, rejected, and taken out of Git.

    ```
    backstay abort fraud-detector --namespace fraud-production --reason "complaints from support"
    ```

    To hold it for a while instead, use `backstay pause`. Asks for the verb `abort` on modeldeployments, which the
    ClusterRole backstay-approve holds.
    """
    said = line(reason)
    if not said:
        refuse("--reason is empty: say why, for those who read the commit")
    if len(said) > _LONGEST_REASON:
        refuse(f"--reason has {len(said)} characters: say it in {_LONGEST_REASON}")
    _say(Word.ABORT, name, looking.place(namespace, context, kubeconfig), output, reason=said)


def skip(
    name: looking.Name,
    *,
    namespace: looking.Namespace = "",
    context: looking.Context = "",
    kubeconfig: looking.Kubeconfig = "",
    output: looking.FormOption = Form.TEXT,
) -> None:
    """Let a rollout leave its step before its time, its requests and its verdict are complete.

    ```
    backstay skip fraud-detector --namespace fraud-production
    ```

    It works once, for the step under way. A version that fails is taken back all the same, and no approval is skipped.
    Asks for the verb `skip` on modeldeployments, which the ClusterRole backstay-approve holds.
    """
    _say(Word.SKIP, name, looking.place(namespace, context, kubeconfig), output)


def _say(word: Word, name: str, place: Place, output: Form, *, reason: str = "") -> None:
    with looking.answered():
        models = Models(place)
        body, act = _done(models, models.place(name), word, reason)
    if output is not Form.TEXT:
        screen.dump(_document(word, body, act), output)
        return
    terminal.say(act.sentence)
    terminal.say(act.next)


def _done(models: Models, where: tuple[str, str], word: Word, reason: str) -> tuple[Object, Set]:
    """Act on what is there; where somebody else was faster, think again what the word means now."""
    attempt = 1
    while True:
        body = models.get(*where)
        act = meaning(word, body, reason=reason)
        if isinstance(act, NotNow):
            end(act.sentence, ANSWER_IS_NO)
        try:
            models.annotate(body, act.annotation, act.value)
        except StaleError:
            if attempt == _ATTEMPTS:
                raise
            attempt += 1
        else:
            return body, act


def _document(word: Word, body: Object, act: Set) -> dict[str, str | None]:
    return {
        "action": str(word),
        "namespace": body["metadata"]["namespace"],
        "name": body["metadata"]["name"],
        "annotation": act.annotation,
        "value": act.value,
        "message": act.sentence,
        "next": act.next,
    }
