"""A rolling restart under load: two processes, one after the other, as a Deployment's pods are replaced."""

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp

from backstay_bench_serving.servers import Kind, Server, start

RATE = 60.0
# How long a Service still names a pod that is told to end.
STILL_NAMED = 0.5
_SETTLED = 1.5


async def lost(
    kind: Kind, model: Path, ports: Sequence[int], folder: Path, processors: Sequence[int]
) -> tuple[int, int]:
    """Restart both processes of a server while they are asked; return the requests sent, and those without a 200."""
    servers = [await asyncio.to_thread(start, kind, model, port, folder, processors) for port in ports]
    named, body = [server.url for server in servers], await asyncio.to_thread((folder / "body.json").read_bytes)
    client = asyncio.create_task(_ask(named, body))
    try:
        for index, port in enumerate(ports):
            await asyncio.sleep(_SETTLED)
            await _replace(servers, index, named, kind=kind, model=model, port=port, folder=folder, on=processors)
        await asyncio.sleep(_SETTLED)
    finally:
        named.clear()
        sent = await client
        for server in servers:
            await asyncio.to_thread(server.stop)
    return len(sent), sum(status != 200 for status in sent)  # noqa: PLR2004 - the status of an answer


async def _replace(  # noqa: PLR0913 - what a pod is made of
    servers: list[Server],
    index: int,
    named: list[str],
    *,
    kind: Kind,
    model: Path,
    port: int,
    folder: Path,
    on: Sequence[int],
) -> None:
    old = servers[index]
    old.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(STILL_NAMED)
    named.remove(old.url)
    await asyncio.to_thread(old.stop)
    servers[index] = await asyncio.to_thread(start, kind, model, port, folder, on)
    named.append(servers[index].url)


async def _ask(named: list[str], body: bytes) -> list[int]:
    """Ask whoever is named, in turn, at a steady rate, until nobody is; return each request's status, 0 for none."""
    sent: list[int] = []
    timeout = aiohttp.ClientTimeout(total=10)

    async def one(session: aiohttp.ClientSession, url: str) -> None:
        status = 0
        with suppress(aiohttp.ClientError, TimeoutError):
            async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
                await response.read()
                status = response.status
        sent.append(status)

    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as tasks:
        due, count = time.monotonic(), 0
        while named:
            tasks.create_task(one(session, named[count % len(named)]))
            due, count = due + 1 / RATE, count + 1
            await asyncio.sleep(max(due - time.monotonic(), 0))
    return sent
