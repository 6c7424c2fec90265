"""HEAD for every path that takes GET: the same head, and no body. Routes see a GET, and ``is_head`` in its scope."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadMiddleware:
    """Answers HEAD with what GET is answered with, less its body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        is_done = False

        async def without_body(message: Message) -> None:
            nonlocal is_done
            if message["type"] == "http.response.start":
                await send(message)
            elif not is_done and not message.get("more_body", False):
                is_done = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app({**scope, "method": "GET", "is_head": True}, receive, without_body)
