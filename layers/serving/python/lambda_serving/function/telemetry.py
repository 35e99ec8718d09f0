"""Logs JSON for CloudWatch, with embedded metrics."""

import logging

from lambda_serving.function.json_log import log_json
from lambda_serving.model_spec import ServableId
from lambda_serving.monitoring import embedded_metrics

__all__ = ["Telemetry"]

_SERVICE = "lambda_serving"


class Telemetry:
    """The metrics of one servable of the stack `stack`.

    RequestCount, Latency and ColdStart are by model and version; ErrorCount is also by model, so
    that one alarm follows a model from version to version.
    """

    def __init__(self, servable: ServableId, stack: str) -> None:
        log_json({"service": _SERVICE, "model": servable.name, "version": servable.version})
        logging.getLogger("mangum.http").setLevel(logging.ERROR)  # it logs every request
        self._by_model = {"stack": stack, "model": servable.name, "service": _SERVICE}
        self._by_version = {**self._by_model, "version": str(servable.version)}
        self._cold = True

    def warmed_up(self) -> None:
        """Notes that the next request will not be a cold start."""
        self._cold = False

    def record(self, milliseconds: float, *, failed: bool = False) -> None:
        """Counts a request and its latency; the first one in an environment is a cold start.

        `failed` means that the answer was 5xx: the client was not at fault.
        """
        embedded_metrics.count(
            {
                "RequestCount": (1.0, "Count"),
                "Latency": (milliseconds, "Milliseconds"),
                "ColdStart": (float(self._cold), "Count"),
            },
            self._by_version,
        )
        self._cold = False
        if failed:
            embedded_metrics.count({"ErrorCount": (1.0, "Count")}, self._by_model, self._by_version)
