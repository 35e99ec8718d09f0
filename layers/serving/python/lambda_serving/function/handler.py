"""What Lambda calls: an event in, an answer out, a metric and no traceback beside."""

import random
from time import perf_counter
from typing import Any

from mangum.types import LambdaContext
from snapshot_restore_py import register_after_restore

from lambda_serving.function.events import Adapter
from lambda_serving.function.kinds import MAX_BYTES, Event
from lambda_serving.function.telemetry import Telemetry
from lambda_serving.manager import Manager
from lambda_serving.model_spec import ModelSpec
from lambda_serving.rest import RestOptions, create_app
from lambda_serving.rpc import with_grpc_web
from lambda_serving.settings import Settings

__all__ = ["Handler"]

_SERVER_ERROR = 500


class Handler:
    """Answers events over the model that `manager` has loaded, one at a time.

    `stack` names the stack that its metrics are counted for.
    """

    def __init__(self, manager: Manager, settings: Settings, stack: str = "none") -> None:
        served = manager.get(ModelSpec(settings.model_name)).id
        rest = create_app(manager, RestOptions.of(settings))
        app = with_grpc_web(
            rest,
            manager,
            settings,
            max_answer=MAX_BYTES,
            timeout_ms=max(0, settings.rest_api_timeout_in_ms),
        )
        self._adapter = Adapter(app, served)
        self._telemetry = Telemetry(served, stack)
        register_after_restore(random.seed)  # environments of one snapshot must not draw alike

    def __call__(self, event: Event, context: LambdaContext) -> Any:
        start = perf_counter()
        answer = self._adapter(event, context)
        status = answer.get("statusCode", 200) if isinstance(answer, dict) else 200
        self._telemetry.record(1000 * (perf_counter() - start), failed=status >= _SERVER_ERROR)
        return answer
