"""Events that are neither an HTTP request nor a direct invoke.

Some only keep a function warm or check that it exists:

    {}                                                       a synthetic invoke
    {"source": "aws.events", "detail-type": "Scheduled Event", ...}    a rule with a schedule
    {"source": "aws.scheduler", ...}                         EventBridge Scheduler
    {"source": "serverless-plugin-warmup"}                   that plugin of Serverless Framework
    {"warmer": true, "concurrency": 3}                       lambda-warmer

Others are from queues, topics, streams and buses. These read no answer: they take an event for done
unless the invocation fails.

Sources: EventBridge user guide, "Events from AWS services" and "Schedule targets"; the packages'
documentation; Lambda developer guide, "Invoking Lambda with events from other AWS services".
"""

from typing import Any

from lambda_serving.errors import InvalidArgument

__all__ = ["check_awaits_answer", "is_ping"]

_SOURCES = {"aws.events", "aws.scheduler", "serverless-plugin-warmup"}
_REQUEST = {"requestContext", "rawPath", "raw_path", "path", "instances", "inputs"}
_SENDERS = {
    "Records": "SQS, SNS, S3 or a stream",
    "awslogs": "CloudWatch Logs",
    "deliveryStreamArn": "Firehose",
    "detail-type": "EventBridge",
    "eventSource": "Kafka, a message broker or a database",
}


def is_ping(event: Any) -> bool:
    """Whether an event only keeps a function warm."""
    if not isinstance(event, dict) or _REQUEST & event.keys():
        return False
    source = event.get("source")
    return (
        not event
        or (isinstance(source, str) and source in _SOURCES)
        or event.get("detail-type") == "Scheduled Event"
        or event.get("warmer") is True
    )


def check_awaits_answer(event: Any) -> None:
    """Raises InvalidArgument for an event whose sender reads no answer."""
    first = event[0] if isinstance(event, list) and event else event  # a pipe sends lists
    if not isinstance(first, dict) or _REQUEST & first.keys():
        return
    for member in _SENDERS.keys() & first.keys():
        raise InvalidArgument(
            f"The event has {member}, as events of {_SENDERS[member]} do. A model's function"
            " answers only HTTP requests and direct invokes: let a function of yours take the"
            " events and call it"
        )
