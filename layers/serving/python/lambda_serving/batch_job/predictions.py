"""Runs chunks of inputs, which gives chunks of outputs."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lambda_serving.batch_job.chunks import Chunk, Part
from lambda_serving.dtypes import Array
from lambda_serving.errors import InvalidArgument, ServingError
from lambda_serving.servables.servable import Servable, Signature

__all__ = ["predict", "rows_at_once"]


def rows_at_once(signature: Signature, wanted: int) -> int:
    """How many rows a run takes: `wanted`, or the first dimension that all inputs fix.

    One if the inputs have no common first dimension: then a row is the whole input of a run.
    """
    fixed = _fixed(signature)
    return wanted if fixed is None else fixed or 1


def _fixed(signature: Signature) -> int | None:
    """The number of rows that a run must have; None for any, 0 for inputs without rows."""
    shapes = [spec.shape for spec in signature.inputs.values() if spec.shape is not None]
    sizes = {shape[0] if shape else 0 for shape in shapes} or {None}
    return sizes.pop() if len(sizes) == 1 else 0


def predict(servable: Servable, signature: Signature, chunk: Chunk) -> Chunk:
    """The outputs of a chunk's rows.

    Rows run together. If that fails, each runs alone, and those that fail alone are bad.
    """
    parts, errors = [], dict(chunk.errors)
    for part in chunk.parts:
        try:
            parts.append(Part(part.places, _run(servable, signature, part.arrays)))
        except ServingError as error:
            if len(part.places) == 1:
                errors[part.places[0]] = str(error)
                continue
            rows = Chunk(chunk.first, chunk.size, part.rows(), {})
            alone = predict(servable, signature, rows)
            parts += alone.parts
            errors |= alone.errors
    return replace(chunk, parts=parts, errors=errors)


def _run(servable: Servable, signature: Signature, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of shape [rows, ...] for inputs of shape [rows, ...]."""
    rows, fixed = len(next(iter(inputs.values()))), _fixed(signature)
    if fixed == 0:
        outputs = servable.run(signature.name, {name: each[0] for name, each in inputs.items()})
        return {name: np.asarray(array)[np.newaxis] for name, array in outputs.items()}
    if fixed is not None and rows < fixed:  # repeats the last row
        missing = fixed - rows
        inputs = {
            name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
            for name, array in inputs.items()
        }
    outputs = servable.run(signature.name, inputs)
    for name, array in outputs.items():
        if array.shape[:1] != (fixed or rows,):
            raise InvalidArgument(
                f"The output {name} of the signature {signature.name} has the shape"
                f" {list(array.shape)} for {fixed or rows} rows: it is not one value for each"
            )
    return {name: array[:rows] for name, array in outputs.items()}
