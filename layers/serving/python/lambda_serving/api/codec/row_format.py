"""Row format: `instances`, each with a value for every input, stacked into arrays.

Source: `FillTensorMapFromInstancesList` in tensorflow_serving/util/json_tensor.cc.
"""

from collections.abc import Mapping
from math import prod
from typing import TypeGuard

import numpy as np

from lambda_serving.api.codec import values
from lambda_serving.api.codec.freeing_json import empty
from lambda_serving.api.codec.json_in_errors import echo, plain
from lambda_serving.api.codec.json_reader import Json
from lambda_serving.dtypes import Array
from lambda_serving.errors import InvalidArgument, ServingError
from lambda_serving.servables.servable import TensorSpec

__all__ = ["decode"]

_BLOCK, _FEW = 4096, 64  # instances


def decode(instances: list[Json], inputs: Mapping[str, TensorSpec]) -> dict[str, Array]:
    """The arrays of the inputs by name, of shape [instances, *shape of one].

    The first instance decides whether all are objects with a member for each input or values of
    the only input. A lone base64 object is a value; with several inputs it is one of the first.
    Raises InvalidArgument.
    """
    if not isinstance(instances[0], dict) and len(inputs) > 1:
        raise InvalidArgument(
            "instances is a plain list, but expecting list of objects as multiple input tensors"
            " required as per tensorinfo_map"
        )
    named = _is_named(instances[0])
    shapes: dict[str, tuple[int, ...]] = {}
    blocks: list[dict[str, Array]] = []
    for start in range(0, len(instances), _BLOCK):
        block = instances[start : start + _BLOCK]
        arrays = _arrays_of(block, inputs, shapes, named=named)
        if arrays is None:
            empty(blocks)
            raise _first_error(start, block, inputs, shapes, named=named)
        shapes = shapes or {name: array.shape[1:] for name, array in arrays.items()}
        blocks.append(arrays)
    if len(blocks) == 1:
        return blocks[0]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _arrays_of(
    block: list[Json],
    inputs: Mapping[str, TensorSpec],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    named: bool,
) -> dict[str, Array] | None:
    """The arrays of some instances; None if one is wrong, or differs from the first instance."""
    columns = _columns(block, inputs) if _is_named(block[0]) == named else None
    if columns is None:
        return None
    arrays = {}
    for name, column in columns.items():
        array = values.array_or_none(column, inputs[name].dtype)
        if array is None or (shapes and shapes[name] != array.shape[1:]):
            return None
        arrays[name] = array
    return arrays


def _columns(
    instances: list[Json], inputs: Mapping[str, TensorSpec]
) -> Mapping[str, list[Json]] | None:
    if not _is_named(instances[0]):
        return dict.fromkeys(list(inputs)[:1], instances)
    names, maybe_base64 = inputs.keys(), "b64" in inputs
    objects = [
        each
        for each in instances
        if type(each) is dict
        and each.keys() == names
        and not (maybe_base64 and values.is_base64(each))
    ]
    if len(objects) != len(instances):
        return None
    return {name: [each[name] for each in objects] for name in inputs}


def _is_named(instance: Json) -> TypeGuard[dict[str, Json]]:
    return isinstance(instance, dict) and not values.is_base64(instance)


def _first_error(
    start: int,
    block: list[Json],
    inputs: Mapping[str, TensorSpec],
    shapes: dict[str, tuple[int, ...]],
    *,
    named: bool,
) -> InvalidArgument:
    """TensorFlow Serving's error for some instances; all instances before them are right.

    Looks for the first wrong one among a few at a time, which saves time if many are right.
    """
    for part in (block[:1], *(block[at : at + _FEW] for at in range(1, len(block), _FEW))):
        if not shapes or _arrays_of(part, inputs, shapes, named=named) is None:
            for index, instance in enumerate(part, start):
                if error := _error(index, instance, inputs, shapes, named=named):
                    return error
        start += len(part)
    return InvalidArgument("Failed to process 'instances' list: its elements cannot be stacked")


def _error(
    index: int,
    instance: Json,
    inputs: Mapping[str, TensorSpec],
    shapes: dict[str, tuple[int, ...]],
    *,
    named: bool,
) -> InvalidArgument | None:
    """The error of an instance, None if it is right; `shapes` gets the first shape of each name."""
    members = instance if _is_named(instance) else {next(iter(inputs)): instance}
    if _is_named(instance) != named:
        wanted, given = ("object", "list") if named else ("value/list", "object")
        return InvalidArgument(f"Expecting {wanted} but got {given} at item {index} of input list")
    for name, value in members.items():
        try:
            _check(name, value, inputs, shapes)
        except ServingError as error:
            place = f"{index} key: {plain(name)}" if named else f"{index}"
            return InvalidArgument(
                f"Failed to process element: {place} of 'instances' list."
                f" Error: {error.code.name}: {error}"
            )
    if named and len(members) != len(inputs):
        return InvalidArgument(
            f"Failed to process element: {index} of 'instances' list."
            f" JSON object: {echo(instance)} keys must be equal to: {','.join(sorted(inputs))}"
        )
    return None


def _check(
    name: str, value: Json, inputs: Mapping[str, TensorSpec], shapes: dict[str, tuple[int, ...]]
) -> None:
    """Raises if a value is wrong by itself, or its shape is not that of the first with its name."""
    if name not in inputs:
        raise InvalidArgument(f"JSON object: does not have named input: {plain(name)}")
    values.check(value, inputs[name].dtype)
    shape = values.shape(value)
    first = shapes.setdefault(name, shape)
    if prod(first) != prod(shape):
        raise InvalidArgument(f"Expecting tensor size: {prod(first)} but got: {prod(shape)}")
    if first != shape:
        raise InvalidArgument(f"Expecting shape {_text(first)} but got: {_text(shape)}")


def _text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
