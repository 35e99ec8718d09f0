"""Logs JSON for CloudWatch, with embedded metrics."""

import logging

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import (
    AmazonCloudWatchEMFProvider,
)

from lambda_serving.model_spec import ServableId

__all__ = ["NAMESPACE", "Telemetry"]

NAMESPACE = "LambdaServing"
_LOGGER = "lambda_serving"


class Telemetry:
    """The metrics of one servable of the stack `stack`.

    RequestCount, Latency and ColdStart are by model and version; ErrorCount is also by model, so
    that one alarm follows a model from version to version.
    """

    def __init__(self, servable: ServableId, stack: str) -> None:
        Logger(service=_LOGGER).append_keys(model=servable.name, version=servable.version)
        logging.getLogger("mangum.http").setLevel(logging.ERROR)  # it logs every request
        # the class Metrics would share its state within a process
        self._metrics = AmazonCloudWatchEMFProvider(namespace=NAMESPACE, service=_LOGGER)
        self._metrics.set_default_dimensions(
            stack=stack, model=servable.name, version=str(servable.version)
        )
        self._errors = AmazonCloudWatchEMFProvider(namespace=NAMESPACE, service=_LOGGER)
        self._errors.set_default_dimensions(stack=stack, model=servable.name)
        self._version = str(servable.version)
        self._cold = True

    def warmed_up(self) -> None:
        """Notes that the next request will not be a cold start."""
        self._cold = False

    def record(self, milliseconds: float, *, failed: bool = False) -> None:
        """Counts a request and its latency; the first one in an environment is a cold start.

        `failed` means that the answer was 5xx: the client was not at fault.
        """
        self._metrics.add_metric("RequestCount", MetricUnit.Count, 1)
        self._metrics.add_metric("Latency", MetricUnit.Milliseconds, milliseconds)
        self._metrics.add_metric("ColdStart", MetricUnit.Count, int(self._cold))
        self._metrics.flush_metrics()
        self._cold = False
        if failed:
            self._errors.add_metric("ErrorCount", MetricUnit.Count, 1)
            self._errors.add_dimensions(service=_LOGGER, version=self._version)
            self._errors.flush_metrics()
