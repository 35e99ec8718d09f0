"""The application: TensorFlow Serving's API, health checks and documentation."""

from functools import cached_property
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from lambda_serving.api.http import Answer
from lambda_serving.api.inline_or_thread import failure
from lambda_serving.api.prediction_threads import Threads
from lambda_serving.api.rest import http_status
from lambda_serving.api.rest.v1 import Serving
from lambda_serving.call_record import Observers
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["PAGES", "Application", "create_app"]

_DEFAULTS = Settings()
PAGES = frozenset(
    ("/healthz", "/readyz", "/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc")
)
"""The paths that FastAPI answers."""


def create_app(
    manager: Manager,
    settings: Settings = _DEFAULTS,
    threads: Threads | None = None,
    observers: Observers | None = None,
) -> "Application":
    """The ASGI application over the versions that `manager` holds.

    Predictions run in `threads`, or without them in the caller's thread.
    `observers` are told of all calls below `/v1/`.
    """
    observers = Observers() if observers is None else observers
    return Application(manager, Serving(manager, settings, threads, observers))


class Application:
    """An ASGI application: FastAPI answers `PAGES`, `Serving` everything else.

    TensorFlow Serving's grammar is about the raw path, which route templates do not see. FastAPI is
    imported for the first of its pages: it takes as long as loading a small model, and a function
    on Lambda is never asked for a page.
    """

    def __init__(self, manager: Manager, serving: Serving) -> None:
        self._manager = manager
        self._serving = serving

    @cached_property
    def pages(self) -> "FastAPI":
        """The part that FastAPI answers."""
        from lambda_serving.api.rest.health_and_docs import create_pages

        return create_pages(self._manager)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in PAGES:
            await self._serving(scope, receive, send)
            return
        try:
            pages = self.pages
        except ImportError as error:
            told = failure(error, scope["path"])
            await Answer(http_status.status_of(told), http_status.body(str(told))).send(send)
        else:
            await pages(scope, receive, send)
