"""The answer to a path without a project where Ray Serve's own proxy listens, not HAProxy.

Ray's proxies import this module: `launcher.environment` sets its name for them.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from starlette.middleware import Middleware

from lifecycle.ingress.config import REFUSALS, unrouted

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

ROUTES = "/-/routes"
"""The proxy's own page: path → application."""
JSON = b"application/json"


def middlewares() -> list[Middleware]:
    """Return the middlewares of a proxy. Ray calls this in each proxy."""
    return [Middleware(Unrouted)]


class Unrouted:
    """Puts the list of projects in the place of the proxy's own 404, which is plain text."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request; every answer but that 404 passes as it is."""
        replaced = False

        async def watch(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start":
                replaced = message["status"] == 404 and not _is_json(message)
                if replaced:
                    await self._answer(scope, receive, send)
            if not replaced:
                await send(message)

        await self._app(scope, receive, watch)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        content = await self._content(scope, receive)
        headers = [(b"content-type", JSON), (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _content(self, scope: Message, receive: Receive) -> bytes:
        body = bytearray()

        async def collect(message: Message) -> None:
            body.extend(message.get("body", b""))

        routes_scope = {
            "method": "GET",
            "path": ROUTES,
            "raw_path": ROUTES.encode(),
            "query_string": b"",
        }
        await self._app({**scope, **routes_scope}, receive, collect)
        try:
            paths = sorted(orjson.loads(bytes(body)))
        except orjson.JSONDecodeError:  # it does not know them yet
            paths = []
        return orjson.dumps(unrouted(paths) if paths else {"error": REFUSALS[404]})


def _is_json(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(JSON)
        for name, value in message["headers"]
    )
