"""The API server, through the official client's transport and with plain JSON objects.

The client's typed models are left aside: building them is most of the CPU time of a controller that only compares and
copies. Errors are turned into the few kinds that callers act on.
"""

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, ApiException, Configuration

FIELD_MANAGER = "backstay"
TIMEOUT = 15.0
PAGE = 500
"""How many objects are listed at once."""

Object = dict[str, Any]


class ApiError(Exception):
    """The API server did not do what was asked; the text is a sentence for people."""


class NotFoundError(ApiError):
    """The object does not exist."""


class MissingKindError(ApiError):
    """The API server does not know the kind."""


class ConflictError(ApiError):
    """The object has changed since it was read, or exists already."""


class RefusedError(ApiError):
    """The request is invalid or not permitted; asking again would not help."""


class UnavailableError(ApiError):
    """The API server could not be reached or could not answer now."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One namespaced kind of object: its API version (``group/version``), kind and plural."""

    api_version: str
    kind: str
    plural: str

    @property
    def group(self) -> str:
        """Return the API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """Return the version in its API group."""
        return self.api_version.rpartition("/")[2]

    @property
    def version_path(self) -> str:
        """Return the URL path at which the API server lists the kinds of this group and version."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"

    def __str__(self) -> str:
        """Name it for people."""
        return f"{self.kind} ({self.api_version})"

    def path(self, namespace: str | None, name: str | None = None, sub: str | None = None) -> str:
        """Build the URL path; without a namespace, that of all namespaces or of a cluster-wide kind."""
        parts = [self.version_path]
        if namespace is not None:
            parts.append(f"namespaces/{quote(namespace, safe='')}")
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        if sub is not None:
            parts.append(sub)
        return "/".join(parts)


MODEL_DEPLOYMENT = Kind("backstay.dev/v1alpha1", "ModelDeployment", "modeldeployments")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
CONTROLLER_REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
POD = Kind("v1", "Pod", "pods")
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
EVENT = Kind("events.k8s.io/v1", "Event", "events")
NAMESPACE = Kind("v1", "Namespace", "namespaces")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
GATEWAY = Kind("gateway.networking.k8s.io/v1", "Gateway", "gateways")
APPLICATION = Kind("argoproj.io/v1alpha1", "Application", "applications")
ACCESS_REVIEW = Kind("authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews")


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing: objects, each with its kind, and the version of the cluster that the whole listing is of."""

    items: list[Object]
    version: int


class Cluster:
    """A small asynchronous client: raw objects in, raw objects out."""

    def __init__(self, client: ApiClient, asked: Callable[[str, int], None] = lambda *_: None) -> None:
        """Take the client that sends; ``asked`` is told of every request's verb and HTTP status (0: no answer)."""
        self._client = client
        self._asked = asked

    @staticmethod
    async def connect(asked: Callable[[str, int], None] = lambda *_: None) -> "Cluster":
        """Connect as the pod's service account, or by ``KUBECONFIG`` outside of a pod.

        Raises:
            UnavailableError: when neither is there.
        """
        configuration = Configuration()
        try:
            if "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=configuration)
            else:
                await config.load_kube_config(client_configuration=configuration)
        except config.ConfigException as problem:
            raise UnavailableError(f"No cluster to connect to: {problem}; run in a pod or set KUBECONFIG") from problem
        return Cluster(ApiClient(configuration), asked)

    async def close(self) -> None:
        """End all connections."""
        await self._client.close()

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Read one object."""
        return await self._request("GET", kind, kind.path(namespace, name))

    async def pages(self, kind: Kind, *, labels: str = "", namespace: str | None = None) -> AsyncIterator[Page]:
        """Read all objects of a kind in one namespace or in all of them, some hundreds at a time."""
        query = {"limit": str(PAGE), "labelSelector": labels}
        while True:
            found = await self._request("GET", kind, kind.path(namespace), query=query)
            items = [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in found["items"]]
            yield Page(items, int(found["metadata"]["resourceVersion"]))
            token = found["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    async def list(self, kind: Kind, *, labels: str = "", namespace: str | None = None) -> list[Object]:
        """Read all objects of a kind in one namespace or in all of them."""
        return [item async for page in self.pages(kind, labels=labels, namespace=namespace) for item in page.items]

    async def serves(self, kind: Kind) -> bool:
        """Tell whether the API server lists a kind, as it does shortly after its definition was created."""
        try:
            listed = await self._request("GET", kind, kind.version_path)
        except (MissingKindError, NotFoundError):
            return False
        return any(resource["name"] == kind.plural for resource in listed["resources"])

    async def create(self, kind: Kind, body: Object) -> Object:
        """Create an object."""
        return await self._request("POST", kind, kind.path(body["metadata"].get("namespace")), body=body)

    async def apply(self, kind: Kind, body: Object) -> Object:
        """Apply an object server-side, taking the fields that others set back."""
        meta = body["metadata"]
        return await self._request(
            "PATCH",
            kind,
            kind.path(meta["namespace"], meta["name"]),
            body=body,
            content="application/apply-patch+yaml",
            query={"fieldManager": FIELD_MANAGER, "force": "true"},
        )

    async def replace(self, kind: Kind, body: Object) -> Object:
        """Replace an object; with a resourceVersion in it only if it is still that one."""
        meta = body["metadata"]
        return await self._request("PUT", kind, kind.path(meta["namespace"], meta["name"]), body=body)

    async def replace_spec(self, kind: Kind, body: Object) -> Object:
        """Replace the spec of an object, with what others have added to it."""
        meta = body["metadata"]
        return await self._request(
            "PATCH",
            kind,
            kind.path(meta["namespace"], meta["name"]),
            body=[{"op": "replace", "path": "/spec", "value": body["spec"]}],
            content="application/json-patch+json",
            query={"fieldManager": FIELD_MANAGER},
        )

    async def replace_status(self, kind: Kind, body: Object) -> Object:
        """Replace the status of an object; with a resourceVersion in it only if it is still that one."""
        meta = body["metadata"]
        return await self._request("PUT", kind, kind.path(meta["namespace"], meta["name"], "status"), body=body)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Mapping[str, Any]) -> Object:
        """Change some fields of an object."""
        return await self._request(
            "PATCH", kind, kind.path(namespace, name), body=dict(patch), content="application/merge-patch+json"
        )

    async def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """Delete an object and what it owns; one that is gone already is fine."""
        try:
            await self._request("DELETE", kind, kind.path(namespace, name), query={"propagationPolicy": "Background"})
        except NotFoundError:
            return

    async def _request(  # noqa: PLR0913 - the parts of one HTTP request, by keyword
        self,
        method: str,
        kind: Kind,
        path: str,
        *,
        body: Object | Sequence[Object] | None = None,
        content: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        parameters = {name: value for name, value in (query or {}).items() if value}
        if method in ("POST", "PUT"):
            parameters.setdefault("fieldManager", FIELD_MANAGER)
        try:
            _, url, headers, _, _ = await self._client.param_serialize(
                method,
                path,
                header_params={"Accept": "application/json", "Content-Type": content},
                auth_settings=["BearerToken"],
            )
            target = f"{url}?{urlencode(parameters)}" if parameters else url
            response = await self._client.call_api(
                method, target, header_params=headers, body=body, _request_timeout=TIMEOUT
            )
            text = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as problem:
            self._asked(method, 0)
            raise UnavailableError(f"The API server did not answer {method} {path}: {problem!r}") from problem
        except ApiException as problem:
            self._asked(method, problem.status or 0)
            raise _error(kind, path, problem.status, problem.body) from problem
        self._asked(method, response.status)
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise _error(kind, path, response.status, text)
        answer: Object = json.loads(text)
        return answer


def _error(kind: Kind, path: str, status: int | None, body: bytes | str | None) -> ApiError:
    """Turn an answer of the API server into the kind of error that callers act on."""
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        document = {}
    message = document.get("message") or f"HTTP {status}"
    sentence = f"{kind.kind} {path.rsplit('/', 1)[-1]}: {message}"
    if status == HTTPStatus.NOT_FOUND:
        named = document.get("details", {}).get("name")
        return NotFoundError(sentence) if named else MissingKindError(f"The API server does not know {kind}")
    if status in (HTTPStatus.CONFLICT, HTTPStatus.GONE):
        return ConflictError(sentence)
    if (
        status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.UNAUTHORIZED)
        or not status
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    ):
        return UnavailableError(sentence)
    return RefusedError(sentence)
