"""TFRecord files with a prefix: a full one is followed by another, and old ones are removed."""

import errno
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from itertools import count
from pathlib import Path

from lambda_serving.protos import tfrecord
from lambda_serving.servables.warmup import MAX_RECORDS

__all__ = ["MOST_BYTES", "MOST_FILES", "MOST_RECORDS", "LogFiles"]

MOST_BYTES = 64 * 2**20
MOST_RECORDS = MAX_RECORDS
"""So that each file can be used for warm-up."""
MOST_FILES = 32
"""Per prefix, whichever process wrote them."""

_NUMBERS = count()
_FULL = {errno.ENOSPC, errno.EDQUOT}


class LogFiles:
    """Appends to `PREFIX-TIME-PROCESS-NUMBER.tfrecord`; for use by one thread.

    An appended record is complete in the file even if the process is killed. Raises OSError if a
    record cannot be written; nothing of it is left in the file then. After a full disk the next
    record is tried in the same file, after other errors in a new one. Old files are removed once
    the newest has a record. `create` creates a new file.
    """

    def __init__(self, prefix: str, create: Callable[[Path, str], FileIO] | None = None) -> None:
        self._prefix = Path(prefix)
        self._create = create or _private
        self._file: FileIO | None = None
        self._path = Path()
        self._bytes = self._records = 0

    def append(self, payload: bytes) -> None:
        record = tfrecord.record(payload)
        full = self._records >= MOST_RECORDS or self._bytes + len(record) > MOST_BYTES
        if self._file and (full or not os.fstat(self._file.fileno()).st_nlink):  # was removed
            self.close()
        file = self._file or self._open()
        try:
            _write(file, record)
        except OSError as error:
            self._undo(file, keep=error.errno in _FULL)
            raise
        self._bytes += len(record)
        self._records += 1
        if self._records == 1:
            self._remove_oldest()

    def close(self) -> None:
        file, self._file = self._file, None
        self._bytes = self._records = 0
        if file:
            file.close()

    def _open(self) -> FileIO:
        self._prefix.parent.mkdir(parents=True, exist_ok=True)
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        name = f"{self._prefix.name}-{moment}-{os.getpid()}-{next(_NUMBERS):06}.tfrecord"
        self._path = self._prefix.with_name(name)
        self._file = self._create(self._path, "xb")
        return self._file

    def _undo(self, file: FileIO, *, keep: bool) -> None:
        """Removes a partly written record, and the file if it holds no other."""
        try:
            file.truncate(file.seek(self._bytes))
            if not self._records:
                self._path.unlink(missing_ok=True)
        except OSError:
            keep = False
        if not keep or not self._records:
            self.close()

    def _remove_oldest(self) -> None:
        ours = re.compile(re.escape(self._prefix.name) + r"-\d{8}T\d{6}-\d+-\d{6,}\.tfrecord")
        names = sorted(
            path.name for path in self._prefix.parent.iterdir() if ours.fullmatch(path.name)
        )
        for name in names[:-MOST_FILES]:
            self._prefix.with_name(name).unlink(missing_ok=True)


def _private(path: Path, mode: str) -> FileIO:
    """A file that only its owner may read, as it holds what clients sent."""
    return FileIO(path, mode, opener=partial(os.open, mode=0o600))


def _write(file: FileIO, record: bytes) -> None:
    rest = memoryview(record)
    while rest:
        rest = rest[file.write(rest) :]
