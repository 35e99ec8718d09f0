"""What the world hears of a version that will not do: an event, a metric, a line in the log."""

import json
import logging
from typing import TYPE_CHECKING, Any

from lambda_serving.model_spec import ServableId
from lambda_serving.release.aws import explained

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

__all__ = ["DETAIL_TYPE", "SOURCE", "Reporter"]

SOURCE = "lambda-serving"
DETAIL_TYPE = "Model Version Failed"
_SERVICE = "lambda_serving_release"
_log = logging.getLogger(__name__)


class Reporter:
    """Tells the event bus, CloudWatch and the log; `system` is the stack's name."""

    def __init__(self, system: str, client: "EventBridgeClient") -> None:
        from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import (
            AmazonCloudWatchEMFProvider,
        )

        self._system = system
        self._client = client
        self._metrics = AmazonCloudWatchEMFProvider(namespace="LambdaServing", service=_SERVICE)
        self._metrics.set_default_dimensions(stack=system or "none")

    def __call__(self, servable: ServableId, error: str) -> None:
        """Raises what `aws.explained` says when the event bus does not take it."""
        self.count(servable.name)
        _log.error("%s failed: %s", servable, error)
        detail: dict[str, Any] = {
            "system": self._system,
            "model": servable.name,
            "version": servable.version,
            "error": error,
        }
        entry = {"Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": json.dumps(detail)}
        with explained("the event bus"):
            self._client.put_events(Entries=[entry])  # type: ignore[list-item] # keys are enough

    def count(self, model: str) -> None:
        """Counts a failure, of a version of a model or of a run: by stack, and by model as well."""
        self._metrics.add_metric("ReleaseFailures", "Count", 1)
        self._metrics.add_dimensions(service=_SERVICE, model=model)
        self._metrics.flush_metrics()
