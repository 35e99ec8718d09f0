"""The lines of a function's log as JSON, which CloudWatch Logs Insights splits into fields."""

import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["JsonLines", "log_json"]


class JsonLines(logging.Formatter):
    """Writes a record as one line of JSON, with `members` in each."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        super().__init__()
        self._members = members

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "requestId": getattr(record, "aws_request_id", None),
            **self._members,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str) + "\n"


def log_json(members: Mapping[str, Any]) -> None:
    """Makes Lambda's runtime log so, our information included; elsewhere nothing else changes.

    A function whose log format AWS sets to JSON keeps that one.
    """
    logging.getLogger("lambda_serving").setLevel(logging.INFO)
    if os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON":
        return
    for handler in logging.getLogger().handlers:
        if type(handler).__module__.startswith("awslambdaric."):
            handler.setFormatter(JsonLines(members))
