"""Pages of other sites ask for nothing here: browsers send along where a page is from, also for websockets."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class SameOriginMiddleware:
    """Answers 403 where `Origin` names another host than the one that is asked."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what comes from this site's own page, or from no page."""
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            origin, host = headers.get("origin"), headers.get("host")
            if origin is not None and _host(origin) != host:
                refused = PlainTextResponse(f"expected a page of {host}, got one of {origin}", 403)
                await refused(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _host(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None
