"""Turns the path of an event into a path of the application."""

from typing import Any
from urllib.parse import quote, unquote

from mangum.types import LambdaContext
from starlette.types import ASGIApp, Receive, Scope, Send

from lambda_serving.model_spec import ServableId

__all__ = ["Placed"]

_MODELS, _GRPC_WEB = "/v1/models", "/tensorflow.serving."


class Placed:
    """Calls an application with the paths that it knows.

    Paths of events may begin with the stage of an API, and with `base_path`, where a custom domain
    puts the API. An alias `label-L` of the function stands for label L: a release made it point
    here. The empty path of a bare body means predict of the served model.
    """

    def __init__(self, app: ASGIApp, served: ServableId, base_path: str = "") -> None:
        self._app = app
        self._served = served
        self._base_path = f"/{base_path.strip('/')}" if base_path.strip("/") else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = scope["raw_path"].decode()
        path = self._place(sent, scope["aws.event"], scope["aws.context"])
        if path != sent:
            scope = {**scope, "path": unquote(path), "raw_path": path.encode()}
        await self._app(scope, receive, send)

    def _place(self, path: str, event: Any, context: LambdaContext) -> str:
        if not path:
            return f"{_MODELS}/{quote(self._served.name, safe='')}:predict"
        request_context = event.get("requestContext") or {}
        stage = request_context.get("stage")
        for prefix in (f"/{stage}" if isinstance(stage, str) else "", self._base_path):
            path = _without(prefix, path)
        return self._at_version(path, context)

    def _at_version(self, path: str, context: LambdaContext) -> str:
        """The path with this version instead of the label by which the function was called."""
        called = getattr(context, "invoked_function_arn", None) or ""  # a test's may have none
        label = called.rpartition(":label-")[2] if ":label-" in called else ""
        before, found, after = path.partition(f"/labels/{label}")
        if not label or not found or after[:1] not in {"", ":", "/"}:
            return path
        return f"{before}/versions/{self._served.version}{after}"


def _without(prefix: str, path: str) -> str:
    """The path without a prefix, which not every sender leaves there.

    A stage may be called `v1`, so a path that is already one of ours keeps its beginning, unless
    the rest is one of ours too.
    """
    if not prefix or not path.startswith(f"{prefix}/"):
        return path
    rest = path.removeprefix(prefix)
    return rest if _is_ours(rest) or not _is_ours(path) else path


def _is_ours(path: str) -> bool:
    return path[: len(_MODELS)].lower() == _MODELS or path.startswith(_GRPC_WEB)
