"""The API client against a server that behaves badly on purpose."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from backstay_playground.node.api import Absent, Api, ApiError, Change, Informer, Present


def thing(name: str, version: int, uid: str = "") -> dict[str, Any]:
    return {"metadata": {"namespace": "n", "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}}


def line(kind: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


class Server:
    """Answers each list and each watch with the next prepared answer; the last watch stays open."""

    def __init__(self, lists: Sequence[list[dict[str, Any]]], watches: Sequence[Sequence[bytes]]) -> None:
        self.lists = iter(lists)
        self.watches = iter(watches)
        self.asked_from: list[str] = []
        self.open = asyncio.Event()
        self.closing = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            items = next(self.lists, None)
            if items is None:
                return web.json_response({"message": "come back later"}, status=500)
            return web.json_response({"metadata": {"resourceVersion": "100"}, "items": items})
        self.asked_from.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        chunks = next(self.watches, None)
        if chunks is None:
            self.open.set()
            await self.closing.wait()
            return response
        for chunk in chunks:
            await response.write(chunk)
        return response


@asynccontextmanager
async def serving(server: Server, folder: Path) -> AsyncIterator[Api]:
    app = web.Application()
    app.router.add_get("/things", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": f"http://{host}:{port}"}}],
                "users": [{"name": "u", "user": {"token": "secret"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    api = await Api.open(kubeconfig)
    try:
        yield api
    finally:
        await api.close()
        server.closing.set()
        await runner.cleanup()


async def follow(server: Server, folder: Path) -> list[str]:
    """Return what a listener hears until the last watch is open: + or - with name and version."""
    heard: list[str] = []

    def listen(change: Change) -> None:
        sign = {Present: "+", Absent: "-"}[type(change)]
        heard.append(f"{sign}{change.object['metadata']['name']}{change.object['metadata']['resourceVersion']}")

    async with serving(server, folder) as api:
        informer = Informer(api, "/things")
        informer.listen(listen)
        running = asyncio.create_task(informer.run())
        async with asyncio.timeout(10):
            await server.open.wait()
        assert informer.synced.is_set()
        running.cancel()
        await asyncio.wait([running])
    return heard


async def test_events_arrive_however_they_are_cut(tmp_path: Path) -> None:
    text = line("ADDED", thing("b", 101)) + line("MODIFIED", thing("a", 102)) + line("DELETED", thing("b", 103))
    cuts = [text[start : start + 7] for start in range(0, len(text), 7)]
    server = Server([[thing("a", 1)], [thing("a", 102)]], [cuts])
    assert await follow(server, tmp_path) == ["+a1", "+b101", "+a102", "-b101"]


async def test_a_bookmark_moves_the_version_only(tmp_path: Path) -> None:
    bookmark = line("BOOKMARK", {"metadata": {"resourceVersion": "150"}})
    server = Server([[thing("a", 1)]], [[bookmark]])
    assert await follow(server, tmp_path) == ["+a1"]
    assert server.asked_from == ["100", "150"]


async def test_an_expired_version_leads_to_a_new_list(tmp_path: Path) -> None:
    gone = line("ERROR", {"code": 410, "message": "too old resource version"})
    lists = [[thing("a", 1), thing("b", 2)], [thing("b", 2), thing("c", 5)]]
    assert await follow(Server(lists, [[gone]]), tmp_path) == ["+a1", "+b2", "-a1", "+c5"]


async def test_an_object_that_took_anothers_name_is_a_new_one(tmp_path: Path) -> None:
    again = line("MODIFIED", thing("a", 101, uid="other"))
    assert await follow(Server([[thing("a", 1)]], [[again]]), tmp_path) == ["+a1", "-a1", "+a101"]


async def test_a_failing_server_is_asked_again(tmp_path: Path) -> None:
    broken = line("ERROR", {"code": 500, "message": "etcd is away"})
    server = Server([[thing("a", 1)], [thing("a", 3)]], [[broken]])
    assert await follow(server, tmp_path) == ["+a1", "+a3"]


async def test_a_refusal_carries_the_servers_words(tmp_path: Path) -> None:
    async with serving(Server([], []), tmp_path) as api:
        with pytest.raises(ApiError, match="come back later") as caught:
            await api.request("GET", "/things")
        assert caught.value.status == 500
        assert api.address[0] == "127.0.0.1"
