"""The API server as the node sees it: plain JSON requests, and informers that survive its restarts."""

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import Configuration

logger = logging.getLogger(__name__)

JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"

Json = dict[str, Any]
Key = tuple[str, str]
"""Namespace and name; the namespace of a cluster-wide object is empty."""

_GONE = 410
_FIRST_RETRY = 0.1
_LAST_RETRY = 5.0
# A watch is renewed once a minute, so a connection that died without a word is noticed soon after.
_WATCH_SECONDS = 60
_REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30)
_WATCH_TIMEOUT = aiohttp.ClientTimeout(sock_connect=10, sock_read=_WATCH_SECONDS + 15)


class ApiError(Exception):
    """The API server's answer was an error: `status` is the HTTP code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


UNREACHABLE = (aiohttp.ClientError, TimeoutError, OSError)
"""What a request raises when there is no answer at all."""


class Api:
    """Authenticated requests to one API server; use `open`, and `close` at the end."""

    def __init__(self, session: aiohttp.ClientSession, *, server: str, ca: bytes) -> None:
        self._session = session
        self.server = server
        self.ca = ca

    @classmethod
    async def open(cls, kubeconfig: Path) -> Self:
        """Connect with the current context of a kubeconfig.

        Raises:
            kubernetes.aio.config.ConfigException: the file is missing or not a kubeconfig.
        """
        config = Configuration()
        await kubernetes_config.load_kube_config(
            config_file=str(kubeconfig), client_configuration=config, persist_config=False
        )
        ca = _read(config.ssl_ca_cert)
        context = ssl.create_default_context(cadata=ca.decode() or None)
        if not config.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if config.cert_file:
            context.load_cert_chain(config.cert_file, config.key_file)
        token = config.api_key.get("BearerToken", "")
        session = aiohttp.ClientSession(
            headers={"Authorization": token} if token else {},
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            # Proxies of the environment are not for loopback.
            trust_env=False,
        )
        return cls(session, server=config.host.rstrip("/"), ca=ca)

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port where the API server really listens."""
        parts = urlsplit(self.server)
        return parts.hostname or "127.0.0.1", parts.port or 443

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def request(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, content_type: str = JSON
    ) -> Json:
        """Send one request and return the JSON answer.

        Raises:
            ApiError: the server refused it.
            aiohttp.ClientError, TimeoutError, OSError: there was no answer.
        """
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type}
        async with self._session.request(
            method, self.server + path, data=data, headers=headers, timeout=_REQUEST_TIMEOUT
        ) as response:
            text = await response.text()
            if response.status >= 400:  # noqa: PLR2004 - HTTP
                raise ApiError(response.status, _message(text))
            answer: Json = json.loads(text)
            return answer

    async def patch(self, path: str, body: Mapping[str, Any], *, content_type: str = MERGE) -> Json:
        """Patch an object and return it."""
        return await self.request("PATCH", path, body=body, content_type=content_type)

    async def watch(self, path: str, version: str) -> AsyncGenerator[Json, None]:
        """Yield the watch events of a collection after resource version `version` until the server ends the stream.

        Raises:
            ApiError: the server ended it with an error; 410 means list again.
            aiohttp.ClientError, TimeoutError, OSError: the connection broke.
        """
        query = f"?watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={_WATCH_SECONDS}"
        async with self._session.get(self.server + path + query, timeout=_WATCH_TIMEOUT) as response:
            if response.status >= 400:  # noqa: PLR2004 - HTTP
                raise ApiError(response.status, _message(await response.text()))
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event: Json = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError(event["object"].get("code", 500), event["object"].get("message", "watch failed"))
                    yield event


def _read(path: str | None) -> bytes:
    return Path(path).read_bytes() if path else b""


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:300]


@dataclass(frozen=True)
class Present:
    """The object exists, new or changed."""

    object: Json


@dataclass(frozen=True)
class Absent:
    """The object is gone; this is how it was last seen."""

    object: Json


Change = Present | Absent


def key_of(obj: Json) -> Key:
    """Return namespace and name of an object."""
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


class Informer:
    """A copy of one collection that is kept current.

    Listeners are called in the event loop for every change; one object replaced by another of the same name comes as
    Absent, then Present.
    """

    def __init__(self, api: Api, path: str) -> None:
        self._api = api
        self.path = path
        self._listeners: list[Callable[[Change], None]] = []
        self.store: dict[Key, Json] = {}
        self.synced = asyncio.Event()

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` for every object there is now, and for every change from now on."""
        self._listeners.append(listener)
        for obj in list(self.store.values()):
            listener(Present(obj))

    async def run(self) -> None:
        """List and watch until cancelled; connection loss and expired versions are overcome."""
        delay = _FIRST_RETRY
        while True:
            try:
                version = await self._list()
                self.synced.set()
                while True:
                    delay = _FIRST_RETRY
                    async with contextlib.aclosing(self._api.watch(self.path, version)) as events:
                        async for event in events:
                            version = event["object"]["metadata"]["resourceVersion"]
                            self._apply(event)
            except ApiError as error:
                if error.status == _GONE:
                    continue
                logger.warning("%s: %s; trying again in %.1f s", self.path, error, delay)
            except UNREACHABLE as error:
                logger.info("%s: %s; trying again in %.1f s", self.path, error or type(error).__name__, delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LAST_RETRY)

    async def _list(self) -> str:
        answer = await self._api.request("GET", self.path)
        items = {key_of(item): item for item in answer.get("items") or []}
        for key in [key for key in self.store if key not in items]:
            self._remove(key)
        for item in items.values():
            self._put(item)
        return str(answer["metadata"]["resourceVersion"])

    def _apply(self, event: Json) -> None:
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self._put(event["object"])
            case "DELETED":
                self._remove(key_of(event["object"]))
            case _:  # BOOKMARK: only its version counts
                pass

    def _put(self, obj: Json) -> None:
        key = key_of(obj)
        known = self.store.get(key)
        if known is not None and known["metadata"]["uid"] != obj["metadata"]["uid"]:
            self._remove(key)
        elif known is not None and known["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]:
            return
        self.store[key] = obj
        self._tell(Present(obj))

    def _remove(self, key: Key) -> None:
        obj = self.store.pop(key, None)
        if obj is not None:
            self._tell(Absent(obj))

    def _tell(self, change: Change) -> None:
        for listener in self._listeners:
            listener(change)
