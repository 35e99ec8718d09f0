"""Reports failures as an event, a metric and a line in the log."""

import json
import logging
from typing import TYPE_CHECKING, Any

from lambda_serving.errors import Unavailable
from lambda_serving.model_spec import ServableId
from lambda_serving.monitoring import embedded_metrics
from lambda_serving.release.aws.clients import translate_errors

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

__all__ = ["ADDRESS_DETAIL_TYPE", "DETAIL_TYPE", "SOURCE", "Reporter"]

SOURCE = "lambda-serving"
DETAIL_TYPE = "Model Version Failed"
ADDRESS_DETAIL_TYPE = "Model Address Missing"
_MAX_ERROR = 16_384
"""Bytes of an error as JSON. An event may have 256 KiB, but its reader wants the sentence."""
_SERVICE = "lambda_serving_release"
_log = logging.getLogger(__name__)


class Reporter:
    """Reports to the event bus, CloudWatch and the log; `system` is the stack's name."""

    def __init__(self, system: str, client: "EventBridgeClient") -> None:
        self._system = system
        self._client = client

    def __call__(self, servable: ServableId, error: str) -> None:
        """Reports that a version failed.

        Raises what `translate_errors` raises, and Unavailable if the event bus rejects the event.
        """
        self.count(servable.name)
        _log.error("%s failed: %s", servable, error)
        self._send(DETAIL_TYPE, error, model=servable.name, version=servable.version)

    def address(self, model: str, alias: str, error: str) -> None:
        """Reports that the alias of a version or a label has no routes; raises as `__call__`."""
        self.count(model)
        _log.error("%s: %s has no address: %s", model, alias, error)
        self._send(ADDRESS_DETAIL_TYPE, error, model=model, alias=alias)

    def _send(self, detail_type: str, error: str, **detail: Any) -> None:
        told = json.dumps({"system": self._system, **detail, "error": _cut(error)})
        entry = {"Source": SOURCE, "DetailType": detail_type, "Detail": told}
        with translate_errors("the event bus"):
            answer = self._client.put_events(
                Entries=[entry]  # type: ignore[list-item] # keys are enough
            )
        if answer["FailedEntryCount"]:
            [refused] = answer["Entries"]
            raise Unavailable(
                "The event bus rejected an event:"
                f" {refused.get('ErrorMessage')} ({refused.get('ErrorCode')})"
            )

    def count(self, model: str) -> None:
        """Counts a failure of a version or a run, by stack and also by model."""
        by_stack = {"stack": self._system or "none", "service": _SERVICE}
        embedded_metrics.count(
            {"ReleaseFailures": (1.0, "Count")}, by_stack, {**by_stack, "model": model}
        )


def _cut(error: str) -> str:
    """The part of an error that fits into an event; the log has all of it."""
    told, size = list[str](), 0
    for character in error:
        size += len(json.dumps(character)) - 2
        if size > _MAX_ERROR:
            return "".join(told) + "... (the log has all of it)"
        told.append(character)
    return error
