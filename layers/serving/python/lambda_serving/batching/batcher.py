"""Makes servables join their requests."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from lambda_serving.batching.batched_function import BatchContext, BatchedFunction, Report
from lambda_serving.batching.parameters import BatchingParameters, read
from lambda_serving.batching.scheduler import Scheduler
from lambda_serving.servables.servable import Function, Servable, Signature

__all__ = ["PER_MODEL", "Batcher"]

_log = logging.getLogger(__name__)

PER_MODEL = "batching_params.pbtxt"
"""The file in a SavedModel's folder with the model's own parameters."""


def _ignored(_: Report) -> None:
    pass


class Batcher:
    """The batching threads of `parameters`, shared by all servables passed to `joined`.

    With `per_model`, all other parameters come from each SavedModel's `PER_MODEL`; a model without
    that file is not batched (servables/tensorflow/bundle_factory_util.cc). `report` is called for
    each run, on any thread; `clock` returns seconds.
    """

    def __init__(
        self,
        parameters: BatchingParameters,
        *,
        per_model: bool = False,
        report: Callable[[Report], None] = _ignored,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parameters = parameters
        self._per_model = per_model
        name = parameters.thread_pool_name
        scheduler = Scheduler(parameters.num_batch_threads, name, clock)
        self._context = BatchContext(scheduler, clock, name, report)

    def joined(self, servable: Servable, export_dir: Path) -> Servable:
        """The servable with joined runs for each signature whose tensors have rows.

        Raises InvalidArgument for wrong parameters in the SavedModel's folder.
        """
        parameters = self._of(export_dir)
        if parameters is None:
            return servable

        owner = object()

        def join(signature: Signature, function: Function) -> BatchedFunction | None:
            if not _has_rows(signature):
                _log.info(
                    "%s: requests of signature %r cannot be joined", export_dir, signature.name
                )
                return None
            return BatchedFunction(function, signature, parameters, self._context, owner)

        return servable.joined(join)

    def close(self) -> None:
        """Ends the threads; the servables must be closed first."""
        self._context.scheduler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _of(self, export_dir: Path) -> BatchingParameters | None:
        if not self._per_model:
            return self._parameters
        path = export_dir / PER_MODEL
        return read(path) if path.exists() else None


def _has_rows(signature: Signature) -> bool:
    """Whether the first dimension of every input and output may be of any size."""
    ends = (signature.inputs, signature.outputs)
    shapes = [spec.shape for end in ends for spec in end.values()]
    return all(ends) and all(shape is None or shape[:1] == (None,) for shape in shapes)
