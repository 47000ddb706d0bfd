"""The cluster as the command sees it: ModelDeployments by the user's own kubeconfig, as kubectl would read it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from backstay.cli.trouble import ANSWER_IS_NO, BAD_INPUT, NO_ANSWER
from backstay.domain.resource import GROUP, PLURAL, VERSION

Object = dict[str, Any]

_SECONDS = 15.0
_FIELD_MANAGER = "backstay-cli"


class ClusterError(Exception):
    """The cluster did not do what was asked; the message is a sentence, ``code`` how the command ends."""

    def __init__(self, sentence: str, code: int = ANSWER_IS_NO) -> None:
        super().__init__(sentence)
        self.code = code


class StaleError(ClusterError):
    """The object has changed since it was read."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which cluster and namespace a person means; empty fields are as in their kubeconfig."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""


class Models:
    """The ModelDeployments of a cluster.

    Raises:
        ClusterError: there is no usable kubeconfig.
    """

    def __init__(self, place: Place) -> None:
        from kubernetes import client, config  # noqa: PLC0415 - slow to import, and most commands need it not

        try:
            configuration = client.Configuration()
            self.namespace = place.namespace or _namespace(place)
            config.load_kube_config(
                config_file=place.kubeconfig or None, context=place.context or None, client_configuration=configuration
            )
        except (config.ConfigException, OSError) as problem:
            raise ClusterError(f"{problem}: name a kubeconfig by --kubeconfig or KUBECONFIG", BAD_INPUT) from None
        # The command tells by itself that a server is silent, and does not make people wait for it.
        configuration.retries = False
        self._objects = client.CustomObjectsApi(client.ApiClient(configuration))
        self._core = client.CoreV1Api(client.ApiClient(configuration))

    def place(self, name: str) -> tuple[str, str]:
        """Split ``namespace/name``; a plain name is in the namespace that is meant."""
        namespace, separator, short = name.rpartition("/")
        return (namespace, short) if separator else (self.namespace, name)

    def get(self, namespace: str, name: str) -> Object:
        """Read one."""
        with _explained(f"ModelDeployment {namespace}/{name}"):
            found: Any = self._objects.get_namespaced_custom_object(
                GROUP, VERSION, namespace, PLURAL, name, _request_timeout=_SECONDS
            )
            return dict(found)

    def every(self, namespace: str | None) -> list[Object]:
        """Read all of a namespace, or of all namespaces."""
        with _explained("the ModelDeployments"):
            found: Any
            if namespace is None:
                found = self._objects.list_cluster_custom_object(GROUP, VERSION, PLURAL, _request_timeout=_SECONDS)
            else:
                found = self._objects.list_namespaced_custom_object(
                    GROUP, VERSION, namespace, PLURAL, _request_timeout=_SECONDS
                )
            items: list[Object] = found["items"]
            return items

    def annotate(self, body: Object, name: str, value: str | None) -> None:
        """Set or remove an annotation, if the object is still what was read.

        Raises:
            StaleError: it is not.
            ClusterError: it is not permitted, or the server does not answer.
        """
        metadata = body["metadata"]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "annotations": {name: value}}}
        with _explained(f"ModelDeployment {metadata['namespace']}/{metadata['name']}"):
            self._objects.patch_namespaced_custom_object(
                GROUP,
                VERSION,
                metadata["namespace"],
                PLURAL,
                metadata["name"],
                patch,
                field_manager=_FIELD_MANAGER,
                _request_timeout=_SECONDS,
            )

    def events(self, body: Object) -> list[Object]:
        """Read the events about one, oldest first."""
        metadata = body["metadata"]
        selector = f"involvedObject.uid={metadata['uid']}"
        with _explained(f"the events of {metadata['namespace']}/{metadata['name']}"):
            found: Any = self._core.list_namespaced_event(
                metadata["namespace"], field_selector=selector, _request_timeout=_SECONDS, _preload_content=False
            )
            items = json.loads(found.data)["items"]
        return sorted(items, key=lambda event: str(event.get("eventTime") or event.get("lastTimestamp") or ""))

    def watch(self, namespace: str, name: str, *, seconds: float) -> Iterator[Object]:
        """Go through an object's states as they come, for a time; the first is what is there now.

        Raises:
            ClusterError: it is gone, or the server does not answer.
        """
        from kubernetes import watch  # noqa: PLC0415 - slow to import

        with _explained(f"ModelDeployment {namespace}/{name}"):
            stream = watch.Watch().stream(
                self._objects.list_namespaced_custom_object,
                GROUP,
                VERSION,
                namespace,
                PLURAL,
                field_selector=f"metadata.name={name}",
                timeout_seconds=max(int(seconds), 1),
            )
            for event in stream:
                if event["type"] == "DELETED":
                    raise ClusterError(f"ModelDeployment {namespace}/{name} was deleted")
                yield event["object"]


def _namespace(place: Place) -> str:
    from kubernetes import config  # noqa: PLC0415 - slow to import

    contexts, active = config.list_kube_config_contexts(config_file=place.kubeconfig or None)
    chosen = next((one for one in contexts if one["name"] == place.context), None) if place.context else active
    if chosen is None:
        known = ", ".join(str(one["name"]) for one in contexts)
        raise ClusterError(f"there is no context {place.context!r} in the kubeconfig: there are {known}", BAD_INPUT)
    return str((chosen.get("context") or {}).get("namespace") or "default")


@contextmanager
def _explained(what: str) -> Iterator[None]:
    import urllib3  # noqa: PLC0415 - comes with the client
    from kubernetes.client import ApiException  # noqa: PLC0415 - slow to import

    try:
        yield
    except ApiException as problem:
        raise _error(what, problem) from None
    except (urllib3.exceptions.HTTPError, OSError) as problem:
        cause = type(problem).__name__
        raise ClusterError(f"the API server does not answer for {what} ({cause}): try again later", NO_ANSWER) from None


def _error(what: str, problem: Any) -> ClusterError:
    said = _message(problem)
    match problem.status:
        case HTTPStatus.NOT_FOUND if "could not find the requested resource" in said or "page not found" in said:
            return ClusterError("the cluster does not know ModelDeployments: install Backstay there")
        case HTTPStatus.NOT_FOUND:
            return ClusterError(f"there is no {what}: backstay status --all-namespaces lists all", BAD_INPUT)
        case HTTPStatus.CONFLICT:
            return StaleError(f"{what} has changed meanwhile: look at it, and try again")
        case HTTPStatus.UNAUTHORIZED:
            return ClusterError(f"the API server does not know you (asked for {what}): log in to the cluster again")
        case status if status and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return ClusterError(f"the API server has trouble with {what}: {said}", NO_ANSWER)
        case _:
            return ClusterError(said or f"the API server refuses what was asked of {what} (status {problem.status})")


def _message(problem: Any) -> str:
    """Return the API server's own sentence."""
    try:
        return " ".join(str(json.loads(problem.body)["message"]).split())
    except (TypeError, ValueError, KeyError):
        return " ".join(str(problem.body or problem.reason or "").split())[:300]
