"""A line of JSON for each prediction, and for each other call that fails."""

import logging
import sys
import time
from datetime import UTC, datetime

import orjson

from lambda_serving.call_record import OK, CallRecord

__all__ = ["access_logger", "log_access"]

_LONGEST = 256
_log = logging.getLogger("access")


def access_logger() -> None:
    """Makes the logger `access` write bare lines to stderr only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False


def log_access(record: CallRecord) -> None:
    """Logs a call that has ended; status and metadata calls only if they failed."""
    if not record.api and record.status == OK:
        return
    line = {
        "time": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds"),
        "request_id": record.request_id,
        "entrypoint": record.entrypoint,
        "api": record.api,
        "model": record.model[:_LONGEST],
        "version": record.version,
        "signature": record.signature,
        "rows": record.rows,
        "status": record.status,
        "milliseconds": round(1000 * record.seconds, 3),
        "bytes_in": record.body_bytes,
    }
    _log.info("%s", orjson.dumps(line).decode())
