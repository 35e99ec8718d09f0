"""Health checks and the page that documents the API, by FastAPI; TensorFlow Serving has neither."""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException

from lambda_serving.api.inline_or_thread import UNEXPECTED
from lambda_serving.api.rest import http_status, openapi
from lambda_serving.core.basic_manager import Manager

__all__ = ["create_pages"]


def create_pages(manager: Manager) -> FastAPI:
    """`/healthz`, `/readyz`, and `/docs` over `/openapi.json` with the models of `manager`."""
    pages = FastAPI(title="lambda-serving", description="TensorFlow Serving's REST API.")
    pages.add_api_route("/healthz", _healthz, summary="The process answers")
    pages.add_api_route(
        "/readyz",
        lambda: _readyz(manager),
        summary="Every model has a version that answers",
        responses={503: {"description": "Not yet, or not any more"}},
    )
    pages.add_exception_handler(HTTPException, _refused)
    pages.add_exception_handler(Exception, _unexpected)
    pages.openapi = lambda: _openapi(pages, manager)  # type: ignore[method-assign] # FastAPI's way
    return pages


def _healthz() -> Response:
    return Response(b'{"status": "ok"}', media_type="application/json")


def _readyz(manager: Manager) -> Response:
    if why_not := manager.why_not_ready():
        return Response(http_status.body(why_not), 503, media_type="application/json")
    return Response(b'{"status": "ready"}', media_type="application/json")


def _refused(_: Request, error: Exception) -> Response:
    """The answer to a wrong method on one of our own routes."""
    assert isinstance(error, HTTPException)
    return Response(
        http_status.body(error.detail), error.status_code, media_type="application/json"
    )


def _unexpected(_: Request, __: Exception) -> Response:
    """Fixed text for the client; Starlette raises the error again for the server's log."""
    return Response(http_status.body(UNEXPECTED), 500, media_type="application/json")


def _openapi(pages: FastAPI, manager: Manager) -> dict[str, Any]:
    """Built for each request, because the models may have changed."""
    schema = get_openapi(
        title=pages.title, version="v1", description=pages.description, routes=pages.routes
    )
    schema["paths"].update(openapi.paths(manager.models()))
    return schema
