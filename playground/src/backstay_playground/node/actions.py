"""What probes and lifecycle hooks do: an HTTP request, a TCP connection, a command in the container, or a pause."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import aiohttp

from backstay_playground.node.api import Json


@dataclass(frozen=True)
class Passed:
    """The action succeeded."""


@dataclass(frozen=True)
class Failed:
    """The action failed, and why."""

    reason: str


Outcome = Passed | Failed


@dataclass(frozen=True)
class Target:
    """The container an action is for.

    Args:
        address: The pod's address.
        ports: Port name -> number.
        inside: Turns a command into the argv that runs it where the container runs.
        env: The container's environment.
    """

    address: str
    ports: Mapping[str, int]
    inside: Callable[[Sequence[str]], Sequence[str]]
    env: Mapping[str, str]


@dataclass(frozen=True)
class Means:
    """What actions are performed with.

    Args:
        http: The session for httpGet.
        turns: How many commands of probes run at once: they cost more than the containers they ask, and after the
            start of many pods all would time out.
    """

    http: aiohttp.ClientSession
    turns: asyncio.Semaphore


async def probe(action: Json, target: Target, *, means: Means, seconds: float) -> Outcome:
    """Run the action of a probe; waiting for its turn does not count."""
    async with means.turns if "exec" in action else nullcontext():
        return await perform(action, target, means=means, seconds=seconds)


async def perform(action: Json, target: Target, *, means: Means, seconds: float) -> Outcome:
    """Run the one action that a probe or hook holds, for at most `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            match action:
                case {"httpGet": request}:
                    return await _http_get(request, target, means.http)
                case {"tcpSocket": socket}:
                    return await _tcp_socket(socket, target)
                case {"exec": {"command": command}}:
                    return await _execute(command, target)
                case {"sleep": {"seconds": pause}}:
                    await asyncio.sleep(pause)
                    return Passed()
                case _:
                    return Failed("the process node offers httpGet, tcpSocket, exec and sleep")
    except TimeoutError:
        return Failed(f"no answer within {seconds:g} s")


def _port(port: int | str, target: Target) -> int:
    return port if isinstance(port, int) else target.ports.get(port, 0)


async def _http_get(request: Json, target: Target, http: aiohttp.ClientSession) -> Outcome:
    scheme, path = request.get("scheme", "HTTP").lower(), request.get("path", "/")
    url = f"{scheme}://{request.get('host', target.address)}:{_port(request['port'], target)}{path}"
    headers = {header["name"]: header["value"] for header in request.get("httpHeaders") or []}
    try:
        async with http.get(url, headers=headers, allow_redirects=False) as response:
            if 200 <= response.status < 400:  # noqa: PLR2004 - the statuses that count as success
                return Passed()
            return Failed(f"{url} answered {response.status}")
    except (aiohttp.ClientError, OSError) as error:
        return Failed(f"{url}: {error}")


async def _tcp_socket(socket: Json, target: Target) -> Outcome:
    host, port = socket.get("host", target.address), _port(socket["port"], target)
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return Failed(f"{host}:{port}: {error}")
    writer.close()
    return Passed()


async def _execute(command: Sequence[str], target: Target) -> Outcome:
    process = await asyncio.create_subprocess_exec(
        *target.inside(command),
        env=dict(target.env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
    if process.returncode == 0:
        return Passed()
    return Failed(f"{command[0]} ended with {process.returncode}: {output.decode(errors='replace').strip()[-300:]}")
