"""The Prometheus page, and the `MonitoringConfig` that sets its path.

Source: config/monitoring_config.proto, model_servers/http_server.cc.
"""

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from lambda_serving import protos
from lambda_serving.api.http import Answer
from lambda_serving.config import proto_text
from lambda_serving.errors import InvalidArgument

__all__ = ["page_path", "with_page"]

_DEFAULT_PATH = "/monitoring/prometheus/metrics"
_TAKEN = ("/v1/", "/tensorflow.serving.")


def page_path(file: Path, taken: Collection[str]) -> str | None:
    """The page's path by a `MonitoringConfig` in protobuf text; None if it enables no page.

    Raises what `proto_text.read` raises, and InvalidArgument for an invalid path and for that of
    another page: one in `taken`, or one of the API.
    """
    message = proto_text.read(file, protos.message("tensorflow.serving.MonitoringConfig"))
    config = message.prometheus_config
    path: str = config.path or _DEFAULT_PATH
    if not path.startswith("/") or "?" in path or "#" in path:
        raise _invalid(file, path, "it must begin with / and must not contain ? or #")
    if path in taken or path.lower().startswith(_TAKEN):
        raise _invalid(file, path, f"that is another page. The usual path is {_DEFAULT_PATH}")
    return path if config.enable else None


def with_page(app: ASGIApp, path: str, render: Callable[[], str]) -> ASGIApp:
    """An application that answers `path`, for any method, with `render()`, called in a thread.

    A query string is refused in TensorFlow Serving's words; other paths go to `app`.
    """

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != path:
            await app(scope, receive, send)
        elif query := scope["query_string"].decode("latin-1"):
            await _text(400, f"Unexpected path: {path}?{query}. Should be {path}").send(send)
        else:
            await _text(200, await asyncio.to_thread(render)).send(send)

    return both


def _text(status: int, text: str) -> Answer:
    return Answer(status, text.encode(), ((b"content-type", b"text/plain"),))


def _invalid(file: Path, path: str, why: str) -> InvalidArgument:
    return InvalidArgument(
        f"The config file {file} is not valid: prometheus_config.path is {path!r}; {why}"
    )
