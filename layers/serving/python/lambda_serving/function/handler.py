"""What Lambda calls: an event in, an answer out, a metric and no traceback beside."""

from time import perf_counter
from typing import Any

from mangum.types import LambdaContext

from lambda_serving.api.rest import RestOptions, create_app
from lambda_serving.api.rpc import with_grpc_web
from lambda_serving.config.settings import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.function.event_kinds import MAX_BYTES, Event
from lambda_serving.function.events import Adapter
from lambda_serving.function.pings import is_ping
from lambda_serving.function.snapstart import renew_after_restore
from lambda_serving.function.telemetry import Telemetry
from lambda_serving.model_spec import ModelSpec

__all__ = ["Handler"]

_SERVER_ERROR = 500


class Handler:
    """Answers events over the model that `manager` has loaded, one at a time.

    `stack` names the stack that its metrics are counted for. Paths may come with `base_path` before
    them, as an API behind a custom domain sends them.
    """

    def __init__(
        self, manager: Manager, settings: Settings, stack: str = "none", base_path: str = ""
    ) -> None:
        served = manager.get(ModelSpec(settings.model_name)).id
        rest = create_app(manager, RestOptions.of(settings))
        app = with_grpc_web(
            rest,
            manager,
            settings,
            max_answer=MAX_BYTES,
            timeout_ms=max(0, settings.rest_api_timeout_in_ms),
        )
        self._adapter = Adapter(app, served, base_path)
        self._warm = {"status": "warm", "model": served.name, "version": served.version}
        self._telemetry = Telemetry(served, stack)
        renew_after_restore()

    def __call__(self, event: Event, context: LambdaContext) -> Any:
        if is_ping(event):
            self._telemetry.warmed_up()
            return self._warm
        start = perf_counter()
        status, answer = self._adapter(event, context)
        self._telemetry.record(1000 * (perf_counter() - start), failed=status >= _SERVER_ERROR)
        return answer
