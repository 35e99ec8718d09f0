"""Responses: arrays to JSON.

Source: `MakeJsonFromTensors` and its kin in tensorflow_serving/util/json_tensor.cc. Values are the
same as TensorFlow Serving's; the text is compact, and numbers have the fewest digits that read back
to the same value.
"""

import binascii
from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np
import orjson

from lambda_serving.api.codec.json_in_errors import quote
from lambda_serving.api.codec.predict_request import Format
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import InvalidArgument

__all__ = ["encode", "encode_classifications", "encode_regressions", "encode_rows"]

_PIECE = 2**16
"""Values written at once, within some milliseconds."""
_MOST_DIGITS = {DType.HALF: 5, DType.BFLOAT16: 4}
"""How many decimal digits tell any two values of a dtype apart."""


def encode(outputs: Mapping[str, Array], as_format: Format) -> bytes:
    """The body of a predict response: `{"predictions": ...}` or `{"outputs": ...}`.

    A lone output has no name there. Strings are `{"b64": ...}` if the name of their output
    ends in `_bytes`. Raises InvalidArgument for outputs that do not fit the row format, and for
    dtypes that JSON does not have.
    """
    if not outputs:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")
    if as_format is Format.ROW:
        _check_batch(outputs)
    key = "predictions" if as_format is Format.ROW else "outputs"
    if sum(array.size for array in outputs.values()) > _PIECE:
        return b"".join([b'{"%b":' % key.encode(), *_content(outputs, as_format), b"}"])
    content: Any
    if len(outputs) == 1:
        content = next(orjson.Fragment(_text(*output)) for output in outputs.items())
    elif as_format is Format.COLUMNAR:
        content = {name: orjson.Fragment(_text(name, array)) for name, array in outputs.items()}
    else:
        content = _rows_of(outputs)
    return _dump({key: content})


def encode_rows(outputs: Mapping[str, Array]) -> list[bytes]:
    """The predictions of the row format one by one, each as `encode` writes it in its list.

    Raises what `encode` raises.
    """
    if not outputs:
        raise InvalidArgument("Cannot convert empty tensor map to JSON")
    _check_batch(outputs)
    if len(outputs) == 1:
        return [_dump(row) for name, array in outputs.items() for row in _rows(name, array)]
    return [_dump(row) for row in _rows_of(outputs)]


def encode_classifications(classes: Array | None, scores: Array | None) -> bytes:
    """The body of a classify response: for each example a list of `[label, score]`.

    `classes` holds labels [examples, k], `scores` float32 [examples, k]. Without `classes` the
    labels are empty, without `scores` the scores are 0. Raises InvalidArgument for no examples.
    """
    given = scores if classes is None else classes
    if given is None or not len(given):
        raise InvalidArgument("Cannot convert empty ClassificationResults to JSON")
    if classes is None:
        classes = np.full(given.shape, b"", object)
    if scores is None:
        scores = np.zeros(given.shape, np.float32)
    pieces = [b'{"results":']
    for opening, part in _parts(len(given), given.size):
        results = [
            list(zip(_rows("", labels), _rows("", numbers), strict=True))
            for labels, numbers in zip(classes[part], scores[part], strict=True)
        ]
        pieces += [opening, _dump(results)[1:-1]]
    return b"".join([*pieces, b"]}"])


def encode_regressions(values: Array) -> bytes:
    """The body of a regress response: one number for each of `values`, [n] or [n, 1].

    Raises InvalidArgument for no values.
    """
    if not values.size:
        raise InvalidArgument("Cannot convert empty RegressionResults to JSON")
    return b"".join([b'{"results":', *_pieces("", values.reshape(-1)), b"}"])


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _check_batch(outputs: Mapping[str, Array]) -> None:
    sizes: list[int] = []
    for name, array in outputs.items():
        if not array.ndim:
            raise InvalidArgument(f"Tensor name: {name} has no shape information ")
        sizes.append(len(array))
        if sizes[0] != sizes[-1]:
            raise InvalidArgument(
                f"Tensor name: {name} has inconsistent batch size: {sizes[-1]}"
                f" expecting: {sizes[0]}"
            )


def _parts(rows: int, values: int) -> Iterator[tuple[bytes, slice]]:
    """Rows to write at once, and the byte in front of them; `values` counts those of all rows.

    While orjson writes, no other thread runs.
    """
    step = max(1, _PIECE * rows // max(1, values))
    for start in range(0, rows, step):
        yield b"," if start else b"[", slice(start, start + step)


def _pieces(name: str, array: Array) -> Iterator[bytes]:
    """An array as JSON."""
    if array.size <= _PIECE or not array.ndim:
        yield _text(name, array)
        return
    for opening, part in _parts(len(array), array.size):
        rows = array[part]
        yield opening
        if len(rows) == 1:
            yield from _pieces(name, rows[0, ...])
        else:
            yield _text(name, rows)[1:-1]
    yield b"]"


def _content(outputs: Mapping[str, Array], as_format: Format) -> Iterator[bytes]:
    """Large outputs as they are in an answer, in pieces."""
    if len(outputs) == 1:
        [(name, array)] = outputs.items()
        return _pieces(name, array)
    return _object(outputs) if as_format is Format.COLUMNAR else _objects(outputs)


def _object(outputs: Mapping[str, Array]) -> Iterator[bytes]:
    """Arrays as the members of an object."""
    opening = b"{"
    for name, array in outputs.items():
        yield b"%b%b:" % (opening, _dump(name))
        yield from _pieces(name, array)
        opening = b","
    yield b"}"


def _objects(outputs: Mapping[str, Array]) -> Iterator[bytes]:
    """The rows of arrays as objects in a list."""
    count = len(next(iter(outputs.values())))
    if not count:
        yield b"[]"
        return
    for opening, part in _parts(count, sum(array.size for array in outputs.values())):
        rows = {name: array[part] for name, array in outputs.items()}
        yield opening
        if len(next(iter(rows.values()))) == 1:
            yield from _object({name: array[0, ...] for name, array in rows.items()})
        else:
            yield _dump(_rows_of(rows))[1:-1]
    yield b"]"


def _text(name: str, array: Array) -> bytes:
    """An array as JSON, written at once."""
    if not array.size:
        return _dump(array.tolist())
    dtype = DType.of(array.dtype)
    if dtype is DType.STRING:
        return _dump(_strings(name, array))
    array = _doubled(array)
    if not _is_number(array):
        raise InvalidArgument(f"Failed to write JSON value for tensor type: {dtype.label}")
    text = _dump(np.ascontiguousarray(array))  # has one dimension at least
    if not _is_finite(array):
        text = _name_not_finite(text, array)
    return text if array.ndim else text[1:-1]


def _rows(name: str, array: Array) -> Sequence[Any]:
    """The rows of an array, in a form that orjson writes."""
    array = _doubled(array)
    if _is_number(array) and _is_finite(array):
        return list(np.ascontiguousarray(array))
    return [orjson.Fragment(_text(name, array[index, ...])) for index in range(len(array))]


def _rows_of(outputs: Mapping[str, Array]) -> list[dict[str, Any]]:
    """The rows of several arrays, in a form that orjson writes."""
    columns = [_rows(name, array) for name, array in outputs.items()]
    return [dict(zip(outputs, row, strict=True)) for row in zip(*columns, strict=True)]


def _strings(name: str, array: Array) -> Any:
    """Strings as nested lists of fragments, which orjson copies as they are, UTF-8 or not."""
    write = _write_base64 if name.endswith("_bytes") else quote
    strings = np.frompyfunc(lambda string: orjson.Fragment(write(string)), 1, 1)(array)
    return strings.tolist() if array.ndim else strings


def _write_base64(string: bytes) -> bytes:
    return b'{"b64":"%b"}' % binascii.b2a_base64(string, newline=False)


def _is_number(array: Array) -> bool:
    """Whether orjson can write the array; 8-bit floats may look like floats of numpy's own."""
    return array.dtype.isbuiltin == 1 and array.dtype.kind in "biuf"


def _is_finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _name_not_finite(text: bytes, array: Array) -> bytes:
    """The text with `NaN`, `Infinity` or `-Infinity` in place of the null that orjson writes."""
    first, *rest = text.split(b"null")
    numbers = array[~np.isfinite(array)].tolist()
    tokens = [b"NaN" if isnan(n) else b"Infinity" if n > 0 else b"-Infinity" for n in numbers]
    return first + b"".join(token + piece for token, piece in zip(tokens, rest, strict=True))


def _doubled(array: Array) -> Array:
    """Half and bfloat16 as the doubles with the fewest digits that read back; else the array."""
    most = _MOST_DIGITS.get(DType.of(array.dtype))
    if most is None:
        return array
    bits, places = np.unique(array.view(np.uint16), return_inverse=True)
    with np.errstate(over="ignore"):
        numbers = [_shortest(value, most) for value in bits.view(array.dtype)]
    return np.array(numbers)[places].reshape(array.shape)


def _shortest(value: Any, most: int) -> float:
    """The double with the fewest digits that reads back to `value`; NaN and infinity unchanged."""
    for digits in range(1, most + 1):
        number = float(f"{float(value):.{digits}g}")
        if type(value)(number) == value:
            return number
    return float(value)
