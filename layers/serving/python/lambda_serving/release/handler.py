"""The release function: takes messages from the queue of changes and reconciles their models.

A message's group names the model to look at; nothing else in it counts. If the run ends in an
error, or has to wait for something that sends no event, the message's visibility timeout is set to
the time until the next look, and the message is returned as failed. A direct invocation,
`{"model": NAME}`, is for what cannot wait: a rollback.
Source: Lambda's developer guide, partial batch responses of SQS; SQS's FIFO queues.
"""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lambda_serving.errors import ServingError
from lambda_serving.release.aws.clients import connect, translate_errors
from lambda_serving.release.aws.events import Reporter
from lambda_serving.release.aws.stack import Clients, System
from lambda_serving.release.deciding.actions import Wait
from lambda_serving.release.reconcile import TEMPORARY, Gateway, reconcile

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

__all__ = ["Worker", "start"]

_log = logging.getLogger(__name__)
_LONGEST_ACTION_SECONDS = 75  # with less time left before the timeout, no action starts
_BACKOFF_SECONDS = (5, 10, 20, 40, 80, 160, 300)  # between two tries of what fails
_Message = Mapping[str, Any]


class Worker:
    """The handler; `gateway` makes the gateway to a model from its name."""

    def __init__(
        self,
        gateway: Callable[[str], Gateway],
        queue: "SQSClient",
        failed: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`failed` gets the name of each model whose run ended in an error that somebody must fix.

        A temporary error, such as throttling or somebody else's change, counts as one when it
        persists through all of the growing intervals.
        """
        self._gateway = gateway
        self._queue = queue
        self._failed = failed

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        if model := event.get("model"):
            return self._release_now(model, context)
        groups: dict[str, list[_Message]] = {}
        for message in event["Records"]:
            groups.setdefault(message["attributes"]["MessageGroupId"], []).append(message)
        again = [
            message
            for model, messages in groups.items()
            if (seconds := self._release(model, messages, context)) is not None
            for message in self._postponed(messages, seconds)
        ]
        return {"batchItemFailures": [{"itemIdentifier": each["messageId"]} for each in again]}

    def _release_now(self, model: str, context: Any) -> dict[str, Any]:
        """Bypasses the queue, in which an earlier message of the model may be waiting.

        Lambda repeats the invocation after an error, provided that it is asynchronous.
        """
        outcome = self._reconcile(model, context)
        return {"waits": outcome.what if outcome else None}

    def _reconcile(self, model: str, context: Any) -> Wait | None:
        def is_time_left() -> bool:
            left: int = context.get_remaining_time_in_millis()
            return left > 1000 * _LONGEST_ACTION_SECONDS

        outcome = reconcile(
            self._gateway(model), lambda action: _log.info("%s: %s", model, action), is_time_left
        )
        if outcome:
            _log.info("%s: %s", model, outcome)
        return outcome

    def _release(self, model: str, messages: list[_Message], context: Any) -> float | None:
        """Seconds until the next look at the model, None if an event will trigger it."""
        try:
            outcome = self._reconcile(model, context)
        except ServingError as error:
            tries = max(int(each["attributes"]["ApproximateReceiveCount"]) for each in messages)
            _log.warning("%s: %s", model, error)
            if isinstance(error, TEMPORARY) and tries < len(_BACKOFF_SECONDS):
                return _BACKOFF_SECONDS[tries - 1]
        except Exception:  # noqa: BLE001 other models get their turn
            tries = len(_BACKOFF_SECONDS)
            _log.exception("%s: the release failed", model)
        else:
            return outcome.seconds if outcome else None
        self._failed(model)
        return _BACKOFF_SECONDS[min(tries, len(_BACKOFF_SECONDS)) - 1]

    def _postponed(self, messages: list[_Message], seconds: float) -> list[_Message]:
        for message in messages:
            name = message["eventSourceARN"].rpartition(":")[2]
            with translate_errors(f"queue {name}"):
                url = self._queue.get_queue_url(QueueName=name)["QueueUrl"]
                self._queue.change_message_visibility(
                    QueueUrl=url,
                    ReceiptHandle=message["receiptHandle"],
                    VisibilityTimeout=min(int(seconds) + 1, 900),
                )
        return messages


def start(environ: Mapping[str, str]) -> Worker:
    """The handler of the release function; raises what `System.of` raises."""
    system, clients = System.of(environ), Clients.connect()
    _log.setLevel(logging.INFO)
    events, queue = connect("events", "sqs")
    reporter = Reporter(system.name, events)
    return Worker(
        lambda model: system.gateway(model, clients, reporter, tell_address=reporter.address),
        queue,
        reporter.count,
    )
