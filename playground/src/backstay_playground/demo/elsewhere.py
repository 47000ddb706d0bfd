"""A model server on a node of its own, as the gateway sees it: answers come after a time, and none is computed here."""

import asyncio
import os

from aiohttp import web

_TIME = 0.004


async def _answer(request: web.Request) -> web.Response:
    await request.read()
    await asyncio.sleep(_TIME)
    return web.json_response({"predictions": []})


async def _alive(_: web.Request) -> web.Response:
    return web.Response()


def main() -> None:
    """Serve until the pod ends."""
    app = web.Application()
    app.router.add_get("/ready", _alive)
    app.router.add_post("/invocations", _answer)
    web.run_app(app, host=os.environ["POD_IP"], port=int(os.environ["PORT"]), print=None, access_log=None)


if __name__ == "__main__":
    main()
