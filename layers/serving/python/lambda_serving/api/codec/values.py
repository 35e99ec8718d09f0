"""JSON values to arrays: the values that each dtype accepts, and the errors for others.

Source: `AddValueToTensor`, `GetDenseTensorShape` and `FillTensorProto` in
tensorflow_serving/util/json_tensor.cc. Unlike TensorFlow
Serving, this also accepts half and bfloat16 (as float) and uint16 (as uint8).
"""

import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from lambda_serving.api.codec.freeing_json import empty
from lambda_serving.api.codec.json_in_errors import echo, type_name
from lambda_serving.api.codec.json_reader import Json
from lambda_serving.dtypes import MOST_DIMENSIONS, Array, DType
from lambda_serving.errors import InvalidArgument, ServingError, Unimplemented

__all__ = ["WIDE", "array", "array_or_none", "check", "is_base64", "narrow", "shape", "string"]

_FLOATS = (DType.FLOAT, DType.DOUBLE, DType.HALF, DType.BFLOAT16)
_SLICE = 2**16
_PADDING = ("", "", "==", "=")
"""The padding of base64, by the characters beyond a multiple of four."""
_INT32 = (-(2**31), 2**31 - 1)
_RANGES = {
    DType.INT8: _INT32,  # a value in int32 wraps into the smaller types, as in TensorFlow
    DType.INT16: _INT32,
    DType.INT32: _INT32,
    DType.UINT8: _INT32,
    DType.UINT16: _INT32,
    DType.INT64: (-(2**63), 2**63 - 1),
    DType.UINT32: (0, 2**32 - 1),
    DType.UINT64: (0, 2**64 - 1),
}
WIDE: Mapping[DType, np.dtype[Any]] = {
    **dict.fromkeys(_FLOATS, np.dtype("f8")),
    **dict.fromkeys(_RANGES, np.dtype("i8")),
    DType.UINT64: np.dtype("u8"),
}
"""The 64-bit dtype that holds every JSON number that a dtype accepts, for dtypes of numbers."""


def shape(value: Json) -> tuple[int, ...]:
    """The lengths of nested lists, following the first element of each."""
    sizes = []
    while isinstance(value, list):
        sizes.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(sizes)


def array(value: Json, dtype: DType) -> Array:
    """The array of a value: nested lists are its dimensions, a scalar has none.

    Raises what `check` raises, and Unimplemented for an empty list of a dtype that JSON lacks.
    """
    result = _read(value, dtype)
    if result is None:
        raise Unimplemented(f"Conversion of JSON Value: {echo(value)} to type: {dtype.label}")
    if isinstance(result, ServingError):
        raise result
    return result


def array_or_none(value: Json, dtype: DType) -> Array | None:
    """As `array`, but None if that raises."""
    result = _read(value, dtype)
    return None if isinstance(result, ServingError) else result


def check(value: Json, dtype: DType) -> None:
    """Raises the first error that TensorFlow Serving finds in a value, depth first.

    It is InvalidArgument, or Unimplemented for a dtype that JSON lacks.
    """
    result = _read(value, dtype)
    if isinstance(result, ServingError):
        raise result


def narrow(numbers: Array, dtype: DType) -> Array | None:
    """Numbers of the dtype in `WIDE` as `dtype`; None if one is out of range.

    As in TensorFlow Serving, floats that are too large become infinite, and small integer types
    accept any int32 and wrap it.
    """
    if dtype in _RANGES and numbers.size:
        low, high = _RANGES[dtype]
        if numbers.min() < low or numbers.max() > high:
            return None
    with np.errstate(over="ignore"):
        return numbers.astype(dtype.numpy, copy=False)


def is_base64(value: Json) -> bool:
    """Whether a value is `{"b64": "..."}`, which means a string."""
    return type(value) is dict and len(value) == 1 and type(value.get("b64")) is str


def string(value: Json) -> bytes:
    """The bytes of a JSON string or of a base64 object.

    Raises InvalidArgument for text that is not base64 and TypeError for any other value. As in
    absl's `Base64Unescape`, white space is skipped and padding is optional.
    """
    if type(value) is str:
        return value.encode(errors="surrogateescape")
    if type(value) is dict and len(value) == 1 and type(text := value.get("b64")) is str:
        padding = "" if "=" in text else _PADDING[len(text) % 4]
        try:
            return binascii.a2b_base64(text + padding, strict_mode=True)
        except ValueError:
            return _loose_base64(text)
    raise TypeError


def _loose_base64(text: str) -> bytes:
    packed = b"".join(text.encode(errors="surrogateescape").split())
    digits = packed.rstrip(b"=")
    padding = -len(digits) % 4
    try:
        if len(packed) - len(digits) not in (0, padding):
            raise InvalidArgument("Unable to base64 decode")
        return binascii.a2b_base64(digits + b"=" * padding, strict_mode=True)
    except binascii.Error:
        raise InvalidArgument("Unable to base64 decode") from None


def _read(value: Json, dtype: DType) -> Array | ServingError | None:
    """The array of a value, its first error, or None for an empty list of a dtype that JSON lacks.

    Goes down level by level. Elements behind an error are dropped from the levels below it, so the
    error found last is the first one depth first.
    """
    sizes = shape(value)
    if len(sizes) > MOST_DIMENSIONS:
        return InvalidArgument(
            f"JSON Value: {echo(value)} has {len(sizes)} dimensions,"
            f" at most {MOST_DIMENSIONS} are supported"
        )
    irregular: ServingError | None = None
    elements: list[Json] = [value]
    for level, size in enumerate(sizes):
        lists = [each for each in elements if type(each) is list and len(each) == size]
        if len(lists) < len(elements):
            right = (type(each) is list and len(each) == size for each in elements)
            place = next(i for i, is_right in enumerate(right) if not is_right)
            irregular = _irregular(elements[place], sizes, level)
            lists = lists[:place]
        elements = _joined(lists)
    arrays: list[Array] = []
    for part in _slices(elements):
        array = _strings(part) if dtype is DType.STRING else _numbers(part, dtype)
        if array is None:
            empty(arrays)
            return _wrong(part, dtype, len(sizes)) or irregular
        arrays.append(array)
    if irregular:
        return irregular
    return (arrays[0] if len(arrays) == 1 else np.concatenate(arrays)).reshape(sizes)


def _slices(elements: list[Json]) -> Iterator[list[Json]]:
    """Parts short enough for one call of C, during which no other thread runs."""
    if len(elements) <= _SLICE:
        yield elements
        return
    for start in range(0, len(elements), _SLICE):
        yield elements[start : start + _SLICE]


def _joined(lists: list[list[Json]]) -> list[Json]:
    elements: list[Json] = []
    for start in range(0, len(lists), _SLICE):
        elements.extend(chain.from_iterable(lists[start : start + _SLICE]))
    return elements


def _numbers(elements: list[Json], dtype: DType) -> Array | None:
    types = _types(dtype)
    if not types or not set(map(type, elements)) <= types:
        return None
    try:
        numbers = np.array(elements, WIDE.get(dtype, bool))
    except OverflowError:  # an integer that 64 bits cannot hold, or a negative one without sign
        return None
    return narrow(numbers, dtype)


def _types(dtype: DType) -> set[type]:
    """The Python types that a dtype accepts; its range may be narrower than theirs."""
    if dtype in _FLOATS:
        return {int, float}
    if dtype in _RANGES:
        return {int}
    return {bool} if dtype is DType.BOOL else set()


def _strings(elements: list[Json]) -> Array | None:
    array = np.empty(len(elements), object)
    if not set(map(type, elements)) <= {str, dict}:
        return None
    encode: Callable[[Any], bytes] = str.encode
    try:
        array[:] = list(map(encode, elements))
    except (TypeError, UnicodeEncodeError):  # objects, or bytes that are not UTF-8
        try:
            array[:] = list(map(string, elements))
        except (InvalidArgument, TypeError):
            return None
    return array


def _irregular(value: Json, sizes: Sequence[int], level: int) -> InvalidArgument:
    """The error of a value that should be a list of the size at its level."""
    if isinstance(value, list):
        return InvalidArgument(
            f"Encountered list at unexpected size: {len(value)} at level: {level}"
            f" expected size: {sizes[level]}"
        )
    return InvalidArgument(
        f"JSON Value: {echo(value)} found at incorrect level: {level + 1}"
        f" in the JSON DOM. Expected at level: {len(sizes)}"
    )


def _wrong(elements: list[Json], dtype: DType, rank: int) -> ServingError | None:
    """The error of the first element that is a list or that the dtype does not accept."""
    if (place := _first_wrong(elements, dtype)) is None:
        return None
    value = elements[place]
    if isinstance(value, list):
        return InvalidArgument(f"Encountered list at unexpected level: {rank} expected < {rank}")
    if dtype is not DType.STRING or not isinstance(value, dict):
        return _refusal(value, dtype)
    if not is_base64(value):
        return InvalidArgument(f"JSON Value: {echo(value)} not formatted correctly for base64 data")
    return InvalidArgument("Unable to base64 decode")


def _first_wrong(elements: list[Json], dtype: DType) -> int | None:
    if dtype is DType.STRING:
        return next((i for i, each in enumerate(elements) if _is_no_string(each)), None)
    types, place = _types(dtype), None
    if not set(map(type, elements)) <= types:
        place = next(i for i, each in enumerate(elements) if type(each) not in types)
    if dtype not in _RANGES:
        return place
    low, high = _RANGES[dtype]
    integers: list[Any] = elements[:place]
    return next((i for i, each in enumerate(integers) if not low <= each <= high), place)


def _is_no_string(value: Json) -> bool:
    if type(value) is str:
        return False
    try:
        string(value)
    except (InvalidArgument, TypeError):
        return True
    return False


def _refusal(value: Json, dtype: DType) -> ServingError:
    if dtype is not DType.STRING and not _types(dtype) and not isinstance(value, dict):
        return Unimplemented(f"Conversion of JSON Value: {echo(value)} to type: {dtype.label}")
    return InvalidArgument(
        f"JSON Value: {echo(value)} Type: {type_name(value)} is not of expected type: {dtype.label}"
    )
