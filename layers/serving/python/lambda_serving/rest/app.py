"""The application: TensorFlow Serving's API, health, and the page that documents both."""

from concurrent.futures import Executor
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.routing import Route

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
        routes=[Route("/v1/{call:path}", serving)],
    )
    app.add_api_route("/healthz", _healthz, summary="The process answers")
    app.add_api_route(
        "/readyz",
        lambda: _readyz(manager),
        summary="Every model has a version that answers",
        responses={503: {"description": "Not yet, or not any more"}},
    )
    app.router.routes.append(Route("/{anything:path}", serving))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    app.openapi = lambda: _openapi(app, manager)  # type: ignore[method-assign] # FastAPI's own way
    return app


def _healthz() -> Response:
    return Response(b'{"status": "ok"}', media_type="application/json")


def _readyz(manager: Manager) -> Response:
    if manager.ready():
        return Response(b'{"status": "ready"}', media_type="application/json")
    return Response(errors.body("Not ready."), 503, media_type="application/json")


def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else errors.UNEXPECTED
    return Response(errors.body(detail), status, media_type="application/json")


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
