"""What CloudWatch learns: logs as JSON, metrics embedded in them."""

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
    """Metrics of one servable: RequestCount, Latency and ColdStart by model and version."""

    def __init__(self, servable: ServableId) -> None:
        Logger(service=_LOGGER).append_keys(model=servable.name, version=servable.version)
        logging.getLogger("mangum.http").setLevel(logging.ERROR)  # a line a request otherwise
        self._metrics = AmazonCloudWatchEMFProvider(  # `Metrics` is one for the process
            namespace=NAMESPACE, service=_LOGGER
        )
        self._metrics.set_default_dimensions(model=servable.name, version=str(servable.version))
        self._cold = True

    def record(self, milliseconds: float) -> None:
        """Counts a request that took so long; the first one of an environment was a cold start."""
        self._metrics.add_metric("RequestCount", MetricUnit.Count, 1)
        self._metrics.add_metric("Latency", MetricUnit.Milliseconds, milliseconds)
        self._metrics.add_metric("ColdStart", MetricUnit.Count, int(self._cold))
        self._metrics.flush_metrics()
        self._cold = False
