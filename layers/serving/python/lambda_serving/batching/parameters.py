"""`BatchingParameters`, read from protobuf text.

Source: servables/tensorflow/session_bundle_config.proto; checks and their words:
batching/batching_session.cc and TensorFlow's batching_util/shared_batch_scheduler.h.
"""

import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from lambda_serving import protos
from lambda_serving.config import proto_text
from lambda_serving.errors import InvalidArgument

__all__ = ["BatchingParameters", "read"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingParameters:
    """How requests are joined; sizes in rows. Raises InvalidArgument for a contradiction."""

    max_batch_size: int = 1000
    """The most rows of a request and, unless large ones are split, of a batch."""
    batch_timeout_micros: int = 0
    """How long a batch waits for more requests when a thread is free. With 0, requests wait only
    while all threads are busy, and load and `Sizing` determine the size of batches."""
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    """Batches are padded to the next of these sizes; any size is allowed if empty."""
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None
    """The most rows of a batch, with `enable_large_batch_splitting`."""

    def __post_init__(self) -> None:
        for name, least in (
            ("max_batch_size", 1),
            ("num_batch_threads", 1),
            ("batch_timeout_micros", 0),
            ("max_enqueued_batches", 0),
        ):
            if (value := getattr(self, name)) < least:
                kind = "positive" if least else "non-negative"
                raise InvalidArgument(f"{name} must be {kind}; was {value}")
        if not 1 <= self.batch_limit <= self.max_batch_size:
            raise InvalidArgument(
                "max_execution_batch_size must be positive and at most max_batch_size"
                f" {self.max_batch_size}; was {self.batch_limit}"
            )
        self._check_allowed_sizes()

    @property
    def batch_limit(self) -> int:
        """The most rows of a batch."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    def padded(self, size: int) -> int:
        """The least allowed size of at least `size` rows."""
        return next((each for each in self.allowed_batch_sizes if each >= size), size)

    def _check_allowed_sizes(self) -> None:
        sizes = self.allowed_batch_sizes
        if any(size >= larger for size, larger in pairwise(sizes)):
            raise InvalidArgument("allowed_batch_sizes entries must be monotonically increasing")
        if not sizes or sizes[-1] == self.batch_limit:
            return
        rule = (
            "be equal to max_execution_batch_size"
            if self.enable_large_batch_splitting
            else "match max_batch_size"
        )
        raise InvalidArgument(
            f"Last entry in allowed_batch_sizes must {rule}; last entry was {sizes[-1]};"
            f" expected {self.batch_limit}"
        )


def read(path: Path) -> BatchingParameters:
    """The parameters in a file, with defaults for missing ones.

    Raises NotFound when it cannot be read, and InvalidArgument, naming the file, when it cannot be
    parsed or contradicts itself.
    """
    message = proto_text.read(path, protos.message("tensorflow.serving.BatchingParameters"))
    try:
        return BatchingParameters(**dict(map(_plain, message.ListFields())))
    except InvalidArgument as error:
        raise InvalidArgument(f"The config file {path} is not valid: {error}") from None


def _plain(given: tuple[Any, Any]) -> tuple[str, Any]:
    """A field's name and value, taken out of its wrapper message."""
    descriptor, value = given
    if descriptor.is_repeated:
        return descriptor.name, tuple(value)
    return descriptor.name, value.value if descriptor.message_type else value
