"""Runs one signature of a LiteRT model, after checking that the inputs fit it.

LiteRT takes inputs by their bytes: what does not fit has to be found before. The words are those of
servables/tensorflow/predict_util.cc where it has any.
"""

from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import DeadlineExceeded, InvalidArgument
from lambda_serving.servables.litert.interpreters import Interpreters, Model
from lambda_serving.servables.quick_runs import Quickness
from lambda_serving.servables.servable import Signature, TensorSpec

__all__ = ["SignatureFunction", "described"]

_MOST_DIMENSIONS = 6
"""XNNPACK's limit; LiteRT ends the process for many more."""
_LARGEST = 2**31 - 1


_Kinds = list[tuple[np.dtype[Any], tuple[int, ...]]]


class SignatureFunction:
    """Runs a signature with any free interpreter, of those `for_nan` if inputs hold NaN."""

    def __init__(
        self,
        signature: Signature,
        interpreters: Interpreters,
        *,
        follows_shapes: bool,
        for_nan: Interpreters | None = None,
    ) -> None:
        self._signature = signature
        self._interpreters = interpreters
        self._for_nan = for_nan
        self._quickness = Quickness(follows_shapes=follows_shapes)
        self._known: tuple[_Kinds, bool] = [], False

    def is_quick(self, inputs: Sequence[Array]) -> bool:
        return self._quickness.covers(inputs) and self._chosen(inputs) is self._interpreters

    def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> list[Array]:
        """Arrays in the order of the signature's outputs, for arrays in the order of its inputs.

        `timeout_ms` (0: no bound) limits the wait for an interpreter. LiteRT cannot stop a run, so
        one that took longer fails only when it ends. Raises DeadlineExceeded then, and
        InvalidArgument for inputs that do not fit the signature or the model.
        """
        signature, start = self._signature, perf_counter()
        lacks_rows = self._lacks_rows(inputs)
        arrays = dict(zip(signature.inputs, inputs, strict=True))
        chosen = self._chosen(inputs)
        model = chosen.take(timeout_ms)
        begun = perf_counter()
        try:
            if lacks_rows:
                outputs = _run_rowless(model, signature, arrays)
            else:
                outputs = model.run(signature.name, arrays)
        finally:
            chosen.give_back(model)
        ended = perf_counter()
        if chosen is self._interpreters:
            self._quickness.record(inputs, ended - begun)
        if 0 < timeout_ms < 1000 * (ended - start):
            raise DeadlineExceeded(
                f"Run took {1000 * (ended - start):.0f} ms, and {timeout_ms} ms were allowed"
            )
        return [outputs[name] for name in signature.outputs]

    def _lacks_rows(self, inputs: Sequence[Array]) -> bool:
        """As `_lacks_rows`, after checking inputs that are of other kinds than those before."""
        kinds = [(array.dtype, array.shape) for array in inputs]
        known, lacks = self._known
        if kinds != known:
            for position, array in enumerate(inputs):
                _check(position, array, self._signature)
            lacks = _lacks_rows(self._signature, inputs)
            self._known = kinds, lacks
        return lacks

    def _chosen(self, inputs: Sequence[Array]) -> Interpreters:
        if self._for_nan and any(map(_holds_nan, inputs)):
            return self._for_nan
        return self._interpreters


def _holds_nan(array: Array) -> bool:
    """Whether it does; the maximum, which NaN is, is found quicker than each NaN."""
    return array.dtype.kind in "fc" and array.size > 0 and bool(np.isnan(array.max()))


def _run_rowless(
    model: Model, signature: Signature, inputs: Mapping[str, Array]
) -> dict[str, Array]:
    """What a model answers to zero rows: none of its answer to one row.

    LiteRT refuses them with some graphs, and with others gives them shapes from anywhere in memory.
    """
    row = {name: _row(signature.inputs[name], array) for name, array in inputs.items()}
    return {name: array[:0] for name, array in model.run(signature.name, row).items()}


def _lacks_rows(signature: Signature, inputs: Sequence[Array]) -> bool:
    """Whether inputs have no rows, and outputs as many rows as they have."""
    specs = signature.inputs.values()
    rows = [len(each) for each, spec in zip(inputs, specs, strict=True) if _takes_rows(spec)]
    if not rows or any(rows):
        return False
    return all(map(_takes_rows, signature.outputs.values()))


def _takes_rows(spec: TensorSpec) -> bool:
    return spec.shape is not None and spec.shape[:1] == (None,)


def _row(spec: TensorSpec, array: Array) -> Array:
    """One row of zeros for an array of rows; any other array as it is."""
    if not _takes_rows(spec):
        return array
    return np.full((1, *array.shape[1:]), b"" if array.dtype.hasobject else 0, array.dtype)


def _check(position: int, array: Array, signature: Signature) -> None:
    name, spec = list(signature.inputs.items())[position]
    if (given := _dtype(array)) is not spec.dtype:
        label = given.label if given else array.dtype
        raise InvalidArgument(
            f"Expects arg[{position}] to be {spec.dtype.label} but {label} is provided"
        )
    if not spec.allows(array.shape):
        raise InvalidArgument(
            f"Input {name!r} has the shape {list(array.shape)}, which does not fit"
            f" {described(spec)}, the shape that the signature declares"
        )
    if array.ndim > _MOST_DIMENSIONS or max(array.shape, default=0) > _LARGEST:
        raise InvalidArgument(
            f"Input {name!r} has the shape {list(array.shape)}. LiteRT takes at most"
            f" {_MOST_DIMENSIONS} dimensions, each of at most {_LARGEST}"
        )


def _dtype(array: Array) -> DType | None:
    try:
        return DType.of(array.dtype)
    except KeyError:
        return None


def described(spec: TensorSpec) -> str:
    """The shape that a signature declares, `any` for what is free."""
    if spec.shape is None:
        return "any shape"
    return f"[{', '.join('any' if size is None else str(size) for size in spec.shape)}]"
