"""The service proxy with real connections, in the event loop that the node uses."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import uvloop
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from backstay_playground.node.api import Absent, Json, Present
from backstay_playground.node.proxy import TARGET_ANNOTATION, ServiceProxy

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Pod:
    """A pod as the proxy sees it."""

    address: str
    ports: Mapping[str, int]
    ready: bool = True
    namespace: str = "n"
    labels: Mapping[str, str] = field(default_factory=lambda: {"app": "a"})

    def port(self, name: str) -> int:
        return self.ports.get(name, 0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def service(port: int, *, target: str = "") -> Json:
    return {
        "metadata": {"name": "s", "namespace": "n", "annotations": {TARGET_ANNOTATION: target} if target else {}},
        "spec": {
            "clusterIP": "127.0.0.1",
            "selector": {} if target else {"app": "a"},
            "ports": [{"port": port, "targetPort": "http"}],
        },
    }


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[Pod]:
    """Serve as a pod."""
    listening = await asyncio.start_server(handler, "127.0.0.1", 0)
    async with listening:
        yield Pod("127.0.0.1", {"http": listening.sockets[0].getsockname()[1]})


def naming(name: bytes) -> Handler:
    """Return a server that answers each line with its name."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            writer.write(name + b"\n")
        writer.close()

    return handle


@asynccontextmanager
async def proxy(pods: list[Pod], *, target: str = "") -> AsyncIterator[tuple[ServiceProxy, int]]:
    port = free_port()
    proxy = ServiceProxy(lambda: pods)
    proxy.on_change(Present(service(port, target=target)))
    running = asyncio.create_task(proxy.run())
    await until(lambda: is_open(port))
    yield proxy, port
    running.cancel()
    await asyncio.wait([running])


async def until(look: Callable[[], bool]) -> None:
    """Wait until `look` is true, for at most ten seconds."""
    patience = AsyncRetrying(
        stop=stop_after_delay(10), wait=wait_fixed(0.01), retry=retry_if_exception_type(AssertionError), reraise=True
    )
    async for attempt in patience:
        with attempt:
            assert look()


def is_open(port: int) -> bool:
    """Tell whether somebody listens; the kernel accepts on behalf of a busy event loop."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def ask(port: int) -> str:
    """Open a connection, send a line, return the answer; empty when there is none."""
    async with asyncio.timeout(5):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"who?\n")
            answer = await reader.readline()
        except ConnectionError:
            return ""
        writer.close()
        return answer.decode().strip()


def test_connections_go_round_the_ready_pods() -> None:
    async def scenario() -> None:
        async with server(naming(b"one")) as one, server(naming(b"two")) as two, proxy([one, two]) as (_, port):
            assert sorted([await ask(port) for _ in range(6)]) == ["one"] * 3 + ["two"] * 3
            one.ready = False
            assert {await ask(port) for _ in range(4)} == {"two"}
            two.ready = False
            assert await ask(port) == ""
            one.ready = True
            assert await ask(port) == "one"

    uvloop.run(scenario())


def test_a_pod_that_does_not_answer_is_passed_over() -> None:
    async def scenario() -> None:
        dead = Pod("127.0.0.1", {"http": free_port()})
        async with server(naming(b"alive")) as alive, proxy([dead, alive]) as (_, port):
            assert {await ask(port) for _ in range(5)} == {"alive"}

    uvloop.run(scenario())


def test_only_pods_that_match_take_connections() -> None:
    async def scenario() -> None:
        async with server(naming(b"pod")) as pod, proxy([pod]) as (_, port):
            for labels, namespace in (({"app": "b"}, "n"), ({"app": "a"}, "other")):
                pod.labels, pod.namespace = labels, namespace
                assert await ask(port) == ""
            pod.labels, pod.namespace = {"app": "a", "more": "x"}, "n"
            assert await ask(port) == "pod"

    uvloop.run(scenario())


def test_the_least_busy_pod_is_chosen() -> None:
    async def scenario() -> None:
        async with (
            server(naming(b"one")) as one,
            server(naming(b"two")) as two,
            proxy([one, two]) as (_, port),
            AsyncExitStack() as held,
        ):

            async def hold() -> str:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                held.callback(writer.close)
                writer.write(b"who?\n")
                return (await reader.readline()).decode().strip()

            two.ready = False
            assert [await hold() for _ in range(3)] == ["one"] * 3
            two.ready = True
            assert [await hold() for _ in range(3)] == ["two"] * 3
            assert {await hold(), await hold()} == {"one", "two"}

    uvloop.run(scenario())


def test_a_connection_lives_on_when_its_pod_stops_being_ready() -> None:
    async def scenario() -> None:
        async with server(naming(b"pod")) as pod, proxy([pod]) as (changes, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(2):
                writer.write(b"who?\n")
                assert await reader.readline() == b"pod\n"
                pod.ready = False
            changes.on_change(Absent(service(port)))
            await until(lambda: not is_open(port))
            writer.write(b"who?\n")
            assert await reader.readline() == b"pod\n"
            writer.close()

    uvloop.run(scenario())


@pytest.mark.parametrize("size", [1, 8_000_000])
def test_each_direction_ends_on_its_own(size: int) -> None:
    """The client sends everything and closes its side; the server answers only after that."""

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = await reader.read()
        writer.write(b"x" * len(received))
        writer.close()

    async def scenario() -> None:
        async with server(count) as pod, proxy([pod]) as (_, port), asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"y" * size)
            writer.write_eof()
            assert len(await reader.read()) == size
            writer.close()

    uvloop.run(scenario())


def test_a_slow_reader_holds_the_sender_back() -> None:
    sent = 0

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            while True:
                writer.write(b"z" * 65536)
                await writer.drain()
                sent += 65536
        except ConnectionError:
            writer.close()

    async def scenario() -> None:
        async with server(flood) as pod, proxy([pod]) as (_, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
            seen = -1
            async with asyncio.timeout(20):
                # Until nothing moves any more: the buffers in between are full.
                while seen != sent or not sent:
                    seen = sent
                    await asyncio.sleep(0.2)
            writer.transport.abort()
            assert sent < 64_000_000

    uvloop.run(scenario())


def test_a_fixed_target_needs_no_pod() -> None:
    async def scenario() -> None:
        async with server(naming(b"component")) as component:
            target = f"127.0.0.1:{component.ports['http']}"
            async with proxy([], target=target) as (_, port):
                assert await ask(port) == "component"

    uvloop.run(scenario())


def test_a_port_that_is_taken_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with server(naming(b"pod")) as pod, server(naming(b"other")) as other:
            port = other.ports["http"]
            proxied = ServiceProxy(lambda: [pod])
            proxied.on_change(Present(service(port)))
            running = asyncio.create_task(proxied.run())
            await until(lambda: "cannot listen" in caplog.text)
            assert await ask(port) == "other"
            running.cancel()
            await asyncio.wait([running])

    uvloop.run(scenario())
    assert "Service n/s: cannot listen on 127.0.0.1:" in caplog.text
