"""The cluster as the command sees it: ModelDeployments, read and annotated with a person's own rights."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from backstay.adapters.messages.plain import line
from backstay.cli.cluster.kubeconfig import ClusterError, Place, connection
from backstay.cli.trouble import BAD_INPUT, NO_ANSWER
from backstay.domain.resource import GROUP, PLURAL, VERSION

__all__ = ["ClusterError", "Models", "Object", "Place", "SilentError", "StaleError"]

Object = dict[str, Any]

_SECONDS = 15.0
_PAGE = 500
_FIELD_MANAGER = "backstay-cli"


class StaleError(ClusterError):
    """The object has changed since it was read."""


class SilentError(ClusterError):
    """The server does not answer, or not now."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, NO_ANSWER)


class MissingError(ClusterError):
    """There is no such object."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, BAD_INPUT)


class Models:
    """The ModelDeployments of a cluster. No call waits for longer than ``timeout`` seconds.

    Raises:
        ClusterError: there is no usable kubeconfig.
    """

    def __init__(self, place: Place, *, timeout: float = _SECONDS) -> None:
        configuration, self.namespace = connection(place)
        import urllib3  # noqa: PLC0415 - comes with the client, which is slow to import
        from kubernetes import client  # noqa: PLC0415

        if not configuration.verify_ssl:
            # The kubeconfig says so; kubectl does not repeat it at each request either.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        api = client.ApiClient(configuration)
        self._timeout = timeout
        self._objects = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)

    def place(self, name: str) -> tuple[str, str]:
        """Split ``namespace/name``; a plain name is in the namespace that is meant.

        Raises:
            ClusterError: it is neither.
        """
        namespace, separator, short = name.partition("/")
        where = (namespace, short) if separator else (self.namespace, name)
        if not all(where) or "/" in short:
            raise ClusterError(f"{name!r} names no ModelDeployment: write its name, or namespace/name", BAD_INPUT)
        return where

    def get(self, namespace: str, name: str) -> Object:
        """Read one."""
        with _explained(f"ModelDeployment {namespace}/{name}"):
            found: Any = self._objects.get_namespaced_custom_object(
                GROUP, VERSION, namespace, PLURAL, name, _request_timeout=self._timeout
            )
            return dict(found)

    def every(self, namespace: str | None) -> list[Object]:
        """Read all of a namespace, or of all namespaces."""
        items: list[Object] = []
        more: dict[str, Any] = {"limit": _PAGE, "_request_timeout": self._timeout}
        with _explained("the ModelDeployments"):
            while True:
                page: Any
                if namespace is None:
                    page = self._objects.list_cluster_custom_object(GROUP, VERSION, PLURAL, **more)
                else:
                    page = self._objects.list_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, **more)
                items.extend(page["items"])
                token = page["metadata"].get("continue")
                if not token:
                    return items
                more["_continue"] = token

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
                _request_timeout=self._timeout,
            )

    def events(self, body: Object) -> list[Object]:
        """Read the events about one, oldest first; none where a person may not read them."""
        metadata = body["metadata"]
        selector = f"involvedObject.uid={metadata['uid']}"
        try:
            with _explained(f"the events of {metadata['namespace']}/{metadata['name']}"):
                found: Any = self._core.list_namespaced_event(
                    metadata["namespace"],
                    field_selector=selector,
                    _request_timeout=self._timeout,
                    _preload_content=False,
                )
                items = json.loads(found.data)["items"]
        except SilentError:
            raise
        except ClusterError:
            return []
        return sorted(items, key=lambda event: str(event.get("eventTime") or event.get("lastTimestamp") or ""))


@contextmanager
def _explained(what: str) -> Iterator[None]:
    import urllib3  # noqa: PLC0415 - comes with the client
    from kubernetes.client import ApiException  # noqa: PLC0415 - slow to import

    try:
        yield
    except ApiException as problem:
        raise _error(what, problem) from None
    except urllib3.exceptions.SSLError as problem:
        cause = line(str(problem))
        raise ClusterError(f"the API server's certificate is not that of the kubeconfig: {cause}", BAD_INPUT) from None
    except (urllib3.exceptions.HTTPError, OSError) as problem:
        cause = type(problem).__name__
        raise SilentError(f"the API server does not answer for {what} ({cause}): try again later") from None


def _error(what: str, problem: Any) -> ClusterError:  # noqa: PLR0911 - one for each kind of answer
    document = _document(problem)
    said = line(str(document.get("message") or problem.body or problem.reason or ""))[:1000]
    match problem.status:
        case HTTPStatus.NOT_FOUND if not (document.get("details") or {}).get("name"):
            return ClusterError("the cluster does not know ModelDeployments: install Backstay there", BAD_INPUT)
        case HTTPStatus.NOT_FOUND:
            return MissingError(f"there is no {what}: backstay status --all-namespaces lists all")
        case HTTPStatus.CONFLICT:
            return StaleError(f"{what} has changed meanwhile: look at it, and try again")
        case HTTPStatus.UNAUTHORIZED:
            return ClusterError(
                f"the API server does not know you (asked for {what}): log in to the cluster again", BAD_INPUT
            )
        case status if not status or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return SilentError(f"the API server has trouble with {what}: {said}")
        case HTTPStatus.TOO_MANY_REQUESTS:
            return SilentError(f"the API server has no time for {what}: try again later")
        case _:
            # An admission policy's own sentence says who may not do what, and what to do about it.
            sentence = said.rpartition(" denied request: ")[2]
            return ClusterError(sentence or f"the API server refuses what was asked of {what} ({problem.status})")


def _document(problem: Any) -> dict[str, Any]:
    try:
        document = json.loads(problem.body)
    except (TypeError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
