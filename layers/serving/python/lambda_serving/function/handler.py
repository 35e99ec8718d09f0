"""What Lambda calls: takes an event, returns an answer, and writes metrics to the log."""

from functools import partial
from time import perf_counter
from typing import Any

from mangum import Mangum
from mangum.types import LambdaContext

from lambda_serving.api.rest import create_app, http_status
from lambda_serving.api.rpc import with_grpc_web
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.errors import ServingError
from lambda_serving.function.event_call import MAX_BYTES, TEXT, Event
from lambda_serving.function.event_kinds import KINDS
from lambda_serving.function.paths import Placed
from lambda_serving.function.pings import check_awaits_answer, is_ping
from lambda_serving.function.snapstart import renew_after_restore
from lambda_serving.function.telemetry import Telemetry
from lambda_serving.function.time_budget import InTime, answer_seconds
from lambda_serving.model_spec import ModelSpec

__all__ = ["Handler"]

_SERVER_ERROR = 500


class Handler:
    """Answers events over the model that `manager` has loaded, one at a time.

    `stack` is a dimension of its metrics. Paths may begin with `base_path`, as an API behind a
    custom domain sends them.
    """

    def __init__(
        self, manager: Manager, settings: Settings, stack: str = "none", base_path: str = ""
    ) -> None:
        served = manager.get(ModelSpec(settings.model_name)).id
        rest = create_app(manager, settings)
        app = with_grpc_web(
            rest,
            manager,
            settings,
            max_answer=MAX_BYTES,
            timeout_ms=max(0, settings.rest_api_timeout_in_ms),
        )
        self._mangum = Mangum(
            Placed(app, served, base_path),
            lifespan="off",  # Lambda has no events for start and end
            custom_handlers=KINDS,
            text_mime_types=TEXT,
        )
        self._in_time = InTime()
        self._warm = {"status": "warm", "model": served.name, "version": served.version}
        self._telemetry = Telemetry(served, stack)
        renew_after_restore()

    def __call__(self, event: Event, context: LambdaContext) -> Any:
        """The answer in the form that the event's sender can read, even if the event is broken.

        Raises what `check_awaits_answer` raises, so that Lambda counts the invocation as failed.
        """
        if is_ping(event):
            self._telemetry.warmed_up()
            return self._warm
        check_awaits_answer(event)
        start = perf_counter()
        returned = self._returned(event, context)
        failed = returned["status"] >= _SERVER_ERROR
        self._telemetry.record(1000 * (perf_counter() - start), failed=failed)
        return returned["answer"]

    def _returned(self, event: Event, context: LambdaContext) -> dict[str, Any]:
        try:
            return self._in_time(partial(self._mangum, event, context), answer_seconds(context))
        except ServingError as error:
            return self._mangum.infer(event, context)(
                {
                    "status": http_status.status_of(error),
                    "headers": [[b"content-type", b"application/json"]],
                    "body": http_status.body(str(error)),
                }
            )
