"""The service proxy: listens on every Service's address and passes bytes on to a ready pod.

It asks the node itself which pods are ready, so a pod that stops being ready gets no new connection from that moment
on. Connections that exist stay until one end closes them.
"""

import asyncio
import errno
import itertools
import logging
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

from backstay_playground.node.api import Absent, Change, Json, Key, Present, key_of
from backstay_playground.node.hosts import cluster_ip

logger = logging.getLogger(__name__)

TARGET_ANNOTATION = "playground.backstay.dev/target"
"""On a Service without selector: host:port that its connections go to."""

_CONNECT_SECONDS = 2.0
_BIND_RETRY_SECONDS = 1.0
_PRIVILEGED = "; an ordinary user needs Services with ports from 1024 on, such as 8080"
# SO_LINGER with no time: closing sends a reset, so the client knows at once.
_RESET = struct.pack("ii", 1, 0)


class Backend(Protocol):
    """What the proxy needs to know about a pod."""

    namespace: str
    address: str

    @property
    def labels(self) -> Mapping[str, str]:
        """Return the pod's labels."""

    @property
    def ready(self) -> bool:
        """Tell whether the pod takes new connections."""

    def port(self, name: str) -> int:
        """Return the number of a named container port; 0 when there is none."""


Address = tuple[str, int]


@dataclass(frozen=True)
class Route:
    """One port of one Service."""

    service: Key
    selector: Mapping[str, str]
    target_port: int | str
    fixed: tuple[Address, ...]

    def targets(self, pods: Iterable[Backend]) -> Iterator[Address]:
        """Yield the addresses that can take a connection now."""
        yield from self.fixed
        if not self.selector:
            return
        for pod in pods:
            if pod.namespace == self.service[0] and self.selector.items() <= pod.labels.items() and pod.ready:
                port = self.target_port if isinstance(self.target_port, int) else pod.port(self.target_port)
                if port:
                    yield pod.address, port


def routes(service: Json) -> dict[Address, Route]:
    """Return where a Service listens, and where each port leads."""
    spec, address = service["spec"], cluster_ip(service)
    target = (service["metadata"].get("annotations") or {}).get(TARGET_ANNOTATION, "")
    selector = spec.get("selector") or {}
    if not address or not (selector or target):
        return {}
    host, _, port = target.rpartition(":")
    fixed = ((host, int(port)),) if target and not selector and port.isdecimal() else ()
    return {
        (address, each["port"]): Route(key_of(service), selector, each.get("targetPort", each["port"]), fixed)
        for each in spec.get("ports") or []
        if each.get("protocol", "TCP") == "TCP"
    }


class _Half(asyncio.Protocol):
    """One of two connections that are tied together; what it receives goes to its peer."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.peer: _Half | None = None
        self.early: list[bytes] = []
        self.finished = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports do not inherit from asyncio's.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            # Pausing earlier than now does not hold: uvloop starts to read after connection_made.
            self.early.append(data)
            self.transport.pause_reading()
        else:
            self.peer.transport.write(data)

    def eof_received(self) -> bool:
        self.finished = True
        if self.peer is None:
            return True
        if not self.peer.transport.is_closing():
            self.peer.transport.write_eof()
        # The other direction may still be busy.
        return not self.peer.finished

    def pause_writing(self) -> None:
        if self.peer is not None and not self.peer.transport.is_closing():
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and not self.peer.transport.is_closing():
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is None:
            return
        if exc is None:
            self.peer.transport.close()
        else:
            self.peer.reset()

    def reset(self) -> None:
        """Close so that the other end notices a failure."""
        connection = self.transport.get_extra_info("socket")
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


class _Back(_Half):
    """The connection to a pod: made for a client's connection, which is read on as soon as this one stands."""

    def __init__(self, front: _Half) -> None:
        super().__init__()
        self.peer = front

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        front = self.peer
        if front is None or front.transport.is_closing():
            self.transport.abort()
            return
        front.peer = self
        # First, as writing may pause it again.
        front.transport.resume_reading()
        self.transport.writelines(front.early)
        front.early.clear()
        if front.finished:
            self.transport.write_eof()


class _Front(_Half):
    """A client's connection."""

    def __init__(self, arrived: Callable[["_Front"], None]) -> None:
        super().__init__()
        self._arrived = arrived
        self.closed: Callable[[], None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._arrived(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.closed()


class ServiceProxy:
    """Listens for all Services; `on_change` is fed by an informer, `run` opens and closes the listeners.

    Args:
        pods: Returns the pods of this node.
    """

    def __init__(self, pods: Callable[[], Iterable[Backend]]) -> None:
        self._pods = pods
        self._routes: dict[Address, Route] = {}
        self._servers: dict[Address, asyncio.Server] = {}
        self._stale = asyncio.Event()
        self._busy: defaultdict[Address, set[_Front]] = defaultdict(set)
        self._turns: dict[Address, int] = {}
        self._clock = itertools.count(1)
        self._connecting: set[asyncio.Task[None]] = set()
        self._complained: set[Address] = set()

    def on_change(self, change: Change) -> None:
        """Take note of a Service."""
        key = key_of(change.object)
        kept = {address: route for address, route in self._routes.items() if route.service != key}
        match change:
            case Present(service):
                self._routes = kept | routes(service)
            case Absent():
                self._routes = kept
        self._stale.set()

    async def run(self) -> None:
        """Keep the listeners in step with the Services until cancelled."""
        try:
            while True:
                self._close(address for address in list(self._servers) if address not in self._routes)
                missing = [address for address in self._routes if address not in self._servers]
                opened = [await self._open(address) for address in missing]
                with suppress(TimeoutError):
                    # A port that is taken may become free.
                    async with asyncio.timeout(None if all(opened) else _BIND_RETRY_SECONDS):
                        await self._stale.wait()
                self._stale.clear()
        finally:
            self._close(list(self._servers))

    async def _open(self, address: Address) -> bool:
        loop = asyncio.get_running_loop()
        try:
            self._servers[address] = await loop.create_server(
                lambda: _Front(lambda front: self._arrived(front, address)), *address, backlog=1024
            )
        except OSError as error:
            if address not in self._complained:
                service = "/".join(self._routes[address].service)
                hint = _PRIVILEGED if error.errno == errno.EACCES else ""
                logger.warning("Service %s: cannot listen on %s:%d: %s%s", service, *address, error.strerror, hint)
                self._complained.add(address)
            return False
        return True

    def _close(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            self._servers.pop(address).close()

    def _arrived(self, front: _Front, address: Address) -> None:
        route = self._routes.get(address)
        if route is None:
            front.reset()
            return
        task = asyncio.get_running_loop().create_task(self._connect(front, route))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, front: _Front, route: Route) -> None:
        loop = asyncio.get_running_loop()
        tried: set[Address] = set()
        while choice := [each for each in route.targets(self._pods()) if each not in tried]:
            # The least busy one, and among equals the one that has waited longest.
            target = min(choice, key=lambda each: (len(self._busy[each]), self._turns.get(each, 0)))
            tried.add(target)
            self._turns[target] = next(self._clock)
            self._busy[target].add(front)
            front.closed = partial(self._busy[target].discard, front)
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    await loop.create_connection(lambda: _Back(front), *target)
            except OSError:
                front.closed()
            else:
                return
        front.reset()
