"""Lambda's events through an ASGI application: Mangum, with its reading of events done our way."""

from functools import partial
from typing import Any, cast
from urllib.parse import quote

from mangum import Mangum
from mangum.types import LambdaContext, LambdaHandler, Response

from lambda_serving.api.rest import http_status
from lambda_serving.errors import ServingError
from lambda_serving.function.event_kinds import TEXT, Event, kind_of
from lambda_serving.function.time_budget import InTime, answer_seconds
from lambda_serving.model_spec import ServableId

__all__ = ["Adapter"]

_MODELS, _GRPC_WEB = "/v1/models", "/tensorflow.serving."


class Adapter(Mangum):
    """Answers every event, a broken one too, in the form that its sender can read.

    Paths may come with the stage of an API before them, and with `base_path`, where a custom domain
    has the API. An alias `label-L` of the function stands for that label: a release made it point
    here.
    """

    def __init__(self, app: Any, served: ServableId, base_path: str = "") -> None:
        # Lambda has no start-up and shut-down to tell of.
        super().__init__(app, lifespan="off", text_mime_types=TEXT)
        self._in_time = InTime()
        self._served = served
        self._base_path = f"/{base_path.strip('/')}" if base_path.strip("/") else ""

    def __call__(self, event: Event, context: LambdaContext) -> Any:
        """The status of an answer, and what the function returns."""
        work = partial(super().__call__, event, context)
        try:
            return self._in_time(work, answer_seconds(context))
        except ServingError as error:
            response: Response = {
                "status": http_status.status_of(error),
                "headers": [[b"content-type", b"application/json"]],
                "body": http_status.body(str(error)),
            }
            return self.infer(event, context)(response)

    def infer(self, event: Event, context: LambdaContext) -> LambdaHandler:
        """What Mangum calls a handler of the event."""
        return cast("LambdaHandler", kind_of(event)(event, context, self.config, self._place))

    def _place(self, path: str, event: Event, context: LambdaContext) -> str:
        if not path:  # a bare body is for the model served
            return f"{_MODELS}/{quote(self._served.name, safe='')}:predict"
        request_context = event.get("requestContext") or {}
        stage = request_context.get("stage")
        for prefix in (f"/{stage}" if isinstance(stage, str) else "", self._base_path):
            path = _without(prefix, path)
        return self._at_version(path, context)

    def _at_version(self, path: str, context: LambdaContext) -> str:
        """The path with the label, by which the function was called, as the version it is of."""
        called = getattr(context, "invoked_function_arn", None) or ""  # who tries it may give none
        label = called.rpartition(":label-")[2] if ":label-" in called else ""
        before, found, after = path.partition(f"/labels/{label}")
        if not label or not found or after[:1] not in {"", ":", "/"}:
            return path
        return f"{before}/versions/{self._served.version}{after}"


def _without(prefix: str, path: str) -> str:
    """The path behind a prefix, if it has one: not every sender leaves it there.

    A stage may be called `v1`: what is a path of ours as it stands is no path behind a prefix.
    """
    if not prefix or not path.startswith(f"{prefix}/"):
        return path
    rest = path.removeprefix(prefix)
    return rest if _is_ours(rest) or not _is_ours(path) else path


def _is_ours(path: str) -> bool:
    return path[: len(_MODELS)].lower() == _MODELS or path.startswith(_GRPC_WEB)
