"""Who is told of the calls of a server, as its settings and the configs of its models want it.

What nobody wants is not even imported.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lambda_serving.call_record import Observers
from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.settings import Settings

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from lambda_serving.monitoring import RequestLog, ServerMetrics, Snapshot

__all__ = ["Asking", "Observed"]

Asking = Callable[[str, Callable[[bytes], bytes]], Callable[[bytes], list[bytes]]]
"""Of a topic and what this process answers to it: what asks all processes of the server."""


class Observed:
    """Metrics, access log and log of requests; inside a `with` block, which ends the log.

    Raises what a wrong `monitoring_config_file` raises.
    """

    def __init__(self, settings: Settings, asking: Asking) -> None:
        self.observers = Observers()
        self.metrics: ServerMetrics | None = None
        self._ask: Callable[[bytes], list[bytes]] = lambda _: []
        self._page = ""
        self._requests: RequestLog | None = None
        self._ends = ExitStack()
        if settings.monitoring_config_file:
            self._measure(Path(settings.monitoring_config_file), asking)
        if settings.access_log:
            from lambda_serving.monitoring import access_logger, log_access

            access_logger()
            self.observers.add(log_access)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def configure(self, models: Sequence[ModelConfig]) -> None:
        """Logs requests as these models say, from now on."""
        if self._requests is None:
            if not any(model.logging for model in models):
                return
            from lambda_serving.monitoring import RequestLog

            log = RequestLog(self.metrics.logged) if self.metrics else RequestLog()
            self._requests = self._ends.enter_context(log)
            self.observers.add(log)
        self._requests.configure(models)

    def counters(self) -> dict[str, int]:
        """The value of each counter, nothing without metrics."""
        from lambda_serving.monitoring import counters

        return counters(self._snapshots())

    def with_page(self, app: "ASGIApp") -> "ASGIApp":
        """The application with the page of metrics in front of it, if there is to be one."""
        if self.metrics is None:
            return app
        from lambda_serving.monitoring import text, with_page

        return with_page(app, self._page, lambda: text(self._snapshots()))

    def _snapshots(self) -> "list[Snapshot]":
        """Of all processes; one that cannot tell is left out."""
        return [json.loads(answer) for answer in self._ask(b"") if answer]

    def _measure(self, file: Path, asking: Asking) -> None:
        from lambda_serving.api.rest.app import PAGES
        from lambda_serving.monitoring import ServerMetrics, page_path

        if path := page_path(file, PAGES):
            metrics = ServerMetrics()
            self._page, self.metrics = path, metrics
            self._ask = asking("metrics", lambda _: json.dumps(metrics.snapshot()).encode())
            self.observers.add(metrics.call_ended)
