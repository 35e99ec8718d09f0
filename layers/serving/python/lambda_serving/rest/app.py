"""The application: TensorFlow Serving's API, health, and the page that documents both."""

from concurrent.futures import Executor
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from lambda_serving.manager import Manager
from lambda_serving.rest import errors, openapi
from lambda_serving.rest.serving import RestOptions, Serving

__all__ = ["RestOptions", "create_app"]

_DEFAULTS = RestOptions()


def create_app(
    manager: Manager, options: RestOptions = _DEFAULTS, executor: Executor | None = None
) -> FastAPI:
    """The ASGI application over the versions that `manager` holds.

    Predictions run in `executor`'s threads, without one in the thread of the caller.
    """
    serving = Serving(manager, options, executor)
    app = FastAPI(
        title="lambda-serving",
        description="TensorFlow Serving's REST API.",
    )
    app.add_api_route("/healthz", _healthz, summary="The process answers")
    app.add_api_route(
        "/readyz",
        lambda: _readyz(manager),
        summary="Every model has a version that answers",
        responses={503: {"description": "Not yet, or not any more"}},
    )
    own = frozenset(getattr(route, "path", "") for route in app.routes)
    app.add_middleware(_ServingFirst, serving=serving, own=own)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _unexpected)
    app.openapi = lambda: _openapi(app, manager)  # type: ignore[method-assign] # FastAPI's own way
    return app


class _ServingFirst:
    """Gives every request that is not for FastAPI's own routes to `serving`.

    TensorFlow Serving's grammar speaks of the raw path, which route templates do not see; and a
    small model answers in less time than FastAPI's router takes to find no route.
    """

    def __init__(self, app: ASGIApp, serving: ASGIApp, own: frozenset[str]) -> None:
        self._app = app
        self._serving = serving
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        served = scope["type"] == "http" and scope["path"] not in self._own
        await (self._serving if served else self._app)(scope, receive, send)


def _healthz() -> Response:
    return Response(b'{"status": "ok"}', media_type="application/json")


def _readyz(manager: Manager) -> Response:
    if manager.ready():
        return Response(b'{"status": "ready"}', media_type="application/json")
    return Response(errors.body("Not ready."), 503, media_type="application/json")


def _refused(_: Request, error: Exception) -> Response:
    """A wrong method on one of our own routes."""
    assert isinstance(error, HTTPException)
    return Response(errors.body(error.detail), error.status_code, media_type="application/json")


def _unexpected(_: Request, __: Exception) -> Response:
    """Fixed text for the client; Starlette raises the error again for the server's log."""
    return Response(errors.body(errors.UNEXPECTED), 500, media_type="application/json")


def _openapi(app: FastAPI, manager: Manager) -> dict[str, Any]:
    """Made anew at each request: the models may have changed."""
    schema = get_openapi(
        title=app.title, version="v1", description=app.description, routes=app.routes
    )
    schema["paths"].update(openapi.paths(manager.models()))
    return schema
