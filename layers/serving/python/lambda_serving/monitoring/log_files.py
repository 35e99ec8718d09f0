"""TFRecord files of a prefix, a new one when one is full, the oldest gone when there are many."""

import os
import re
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import IO

from lambda_serving import tfrecord
from lambda_serving.warmup import MAX_RECORDS

__all__ = ["MOST_BYTES", "MOST_FILES", "MOST_RECORDS", "LogFiles"]

MOST_BYTES = 64 * 2**20
MOST_RECORDS = MAX_RECORDS
"""So that each file will do for a warm-up."""
MOST_FILES = 32
"""Of a prefix, whoever wrote them."""

_NUMBERS = count()


class LogFiles:
    """Appends to `PREFIX-TIME-PROCESS-NUMBER.tfrecord`; for one thread.

    Raises OSError where files cannot be written; the next record is tried in a new one.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = Path(prefix)
        self._file: IO[bytes] | None = None
        self._bytes = self._records = 0

    def append(self, payload: bytes) -> None:
        record = tfrecord.record(payload)
        full = self._records >= MOST_RECORDS or self._bytes + len(record) > MOST_BYTES
        if self._file and full:
            self.close()
        try:
            if self._file is None:
                self._file = self._open()
            self._file.write(record)
        except OSError:
            self.close()
            raise
        self._bytes += len(record)
        self._records += 1

    def flush(self) -> None:
        """What was appended can be read by others."""
        if self._file:
            self._file.flush()

    def close(self) -> None:
        file, self._file = self._file, None
        self._bytes = self._records = 0
        if file:
            file.close()

    def _open(self) -> IO[bytes]:
        self._prefix.parent.mkdir(parents=True, exist_ok=True)
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        name = f"{self._prefix.name}-{moment}-{os.getpid()}-{next(_NUMBERS):06}.tfrecord"
        file = self._prefix.with_name(name).open("xb")
        self._remove_oldest()
        return file

    def _remove_oldest(self) -> None:
        ours = re.compile(re.escape(self._prefix.name) + r"-\d{8}T\d{6}-\d+-\d{6,}\.tfrecord")
        names = sorted(
            path.name for path in self._prefix.parent.iterdir() if ours.fullmatch(path.name)
        )
        for name in names[:-MOST_FILES]:
            self._prefix.with_name(name).unlink(missing_ok=True)
