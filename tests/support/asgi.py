"""One request to an ASGI application, in process."""

import asyncio
from typing import Any

import httpx
from starlette.types import ASGIApp

__all__ = ["ask"]


def ask(app: ASGIApp, method: str, path: str, **request: Any) -> httpx.Response:
    """The answer to one request; an uncaught error is a 500, as on a server."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.request(method, path, **request)

    return asyncio.run(send())
