"""Events that only keep a function warm or check that it exists.

    {}                                                       a synthetic invoke
    {"source": "aws.events", "detail-type": "Scheduled Event", ...}    a rule with a schedule
    {"source": "aws.scheduler", ...}                         EventBridge Scheduler
    {"source": "serverless-plugin-warmup"}                   that plugin of Serverless Framework
    {"warmer": true, "concurrency": 3}                       lambda-warmer

Sources: EventBridge user guide, "Events from AWS services" and "Schedule targets"; the packages'
documentation.
"""

from typing import Any

__all__ = ["is_ping"]

_SOURCES = {"aws.events", "aws.scheduler", "serverless-plugin-warmup"}
_REQUEST = {"requestContext", "rawPath", "raw_path", "path", "instances", "inputs"}


def is_ping(event: Any) -> bool:
    """Whether an event is one of these."""
    if not isinstance(event, dict) or _REQUEST & event.keys():
        return False
    source = event.get("source")
    return (
        not event
        or (isinstance(source, str) and source in _SOURCES)
        or event.get("detail-type") == "Scheduled Event"
        or event.get("warmer") is True
    )
