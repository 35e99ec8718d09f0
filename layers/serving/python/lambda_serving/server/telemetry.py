"""The metrics, access log and request log that the settings and the models' configs ask for.

Nothing else is imported.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lambda_serving.call_record import Observers
from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.server_flags import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from lambda_serving.monitoring.metrics import Snapshot
    from lambda_serving.monitoring.request_log import RequestLog
    from lambda_serving.monitoring.server_metrics import ServerMetrics

__all__ = ["Gatherer", "Telemetry"]

Gatherer = Callable[[str, Callable[[bytes], bytes]], Callable[[bytes], list[bytes]]]
"""Given a topic and this process's answer, returns a function that queries all processes."""


class Telemetry:
    """Whom a server tells about its calls; the end of the `with` block closes the request log.

    Raises what `page_path` raises for the `monitoring_config_file`.
    """

    def __init__(self, settings: Settings, gatherer: Gatherer) -> None:
        self.observers = Observers()
        self.metrics: ServerMetrics | None = None
        self._gather: Callable[[bytes], list[bytes]] = lambda _: []
        self._page = ""
        self._requests: RequestLog | None = None
        self._ends = ExitStack()
        if settings.monitoring_config_file:
            self._measure(Path(settings.monitoring_config_file), gatherer)
        if settings.access_log:
            from lambda_serving.monitoring.access_log import access_logger, log_access

            access_logger()
            self.observers.add(log_access)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def configure(self, models: Sequence[ModelConfig]) -> None:
        """From now on, logs requests as these models' configs say."""
        if self._requests is None:
            if not any(model.logging for model in models):
                return
            from lambda_serving.monitoring.request_log import RequestLog

            log = RequestLog(self.metrics.logged) if self.metrics else RequestLog()
            self._requests = self._ends.enter_context(log)
            self.observers.add(log)
        self._requests.configure(models)

    def counters(self) -> dict[str, int]:
        """The value of each counter; empty without metrics."""
        from lambda_serving.monitoring.metrics import counters

        return counters(self._snapshots())

    def with_page(self, app: "ASGIApp") -> "ASGIApp":
        """The application, with the metrics page in front of it if the settings ask for one."""
        if self.metrics is None:
            return app
        from lambda_serving.monitoring.metrics import text
        from lambda_serving.monitoring.prometheus import with_page

        return with_page(app, self._page, lambda: text(self._snapshots()))

    def _snapshots(self) -> "list[Snapshot]":
        """Those of all processes that can answer."""
        return [json.loads(answer) for answer in self._gather(b"") if answer]

    def _measure(self, file: Path, gatherer: Gatherer) -> None:
        from lambda_serving.api.rest.app import PAGES
        from lambda_serving.monitoring.prometheus import page_path
        from lambda_serving.monitoring.server_metrics import ServerMetrics

        if path := page_path(file, PAGES):
            metrics = ServerMetrics()
            self._page, self.metrics = path, metrics
            self._gather = gatherer("metrics", lambda _: json.dumps(metrics.snapshot()).encode())
            self.observers.add(metrics.call_ended)
