"""The quick way to read requests that hold numbers only, with simdjson.

It takes nested lists of numbers as `instances` or `inputs`, objects of such lists as `inputs` or
as each of the `instances`, and a `signature_name` beside them. It leaves any other request, right
or wrong, to the general way. Where both give arrays, the arrays are equal.

simdjson flattens nested lists without checking their lengths. So its numbers are trusted only if
the text of the request without numbers and white space, such as `{"inputs":[[,],[,]]}`, is that
of regular arrays. In this text, anything that is not a number leaves something behind, and the
count of the numbers tells `[]` from `[1]`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import simdjson

from lambda_serving.api.codec import flat_numbers, values
from lambda_serving.api.codec.flat_numbers import FlatNumbers, without_numbers
from lambda_serving.dtypes import MOST_DIMENSIONS, Array, DType
from lambda_serving.servables.servable import TensorSpec

__all__ = ["NESTING", "Numbers", "read", "read_values"]

NESTING = MOST_DIMENSIONS + 3
"""The deepest nesting that `read` takes: an array in an object in a list in an object."""

_LARGE = 2**20
"""Longer texts, in bytes, are parsed in pieces, because no other thread runs meanwhile."""
_LONGEST_AROUND = 2**20
"""The most bytes around the lists in such a text."""
_SPACES = b" \t\r\n"
_OTHERS = re.compile(rb'"in(?:stances|puts)"\s*:[\[\s]*(?:\{\s*"[^"]*"\s*:[\[\s]*)?["tfn]')
"""Shows at once that a request holds other values. It may err: both ways give the same answer."""
_BEGINNING = 256
_SIMDJSON_TYPES = {"f": "d", "i": "i", "u": "u"}

_Parts = tuple[Iterable[Any], Mapping[str | None, tuple[int, ...]], bytes]
"""Lists or objects, the shapes of the columns they make, and their text without the numbers."""


class Numbers(NamedTuple):
    """A request that holds numbers only, in lists or in objects that have a list for each column.

    `columns` gives the shape of each column by its name; a lone list has the name None.
    """

    signature_name: str
    is_row: bool
    parts: Iterable[Any]
    columns: Mapping[str | None, tuple[int, ...]]

    def arrays(self, inputs: Mapping[str, TensorSpec]) -> dict[str, Array] | None:
        """The arrays of the inputs; None leaves the request to the general way."""
        if self.is_row and len(self.columns) > len(inputs):
            return None
        is_lone = len(inputs) == 1 and None in self.columns
        parts = list(self.parts)
        arrays = {}
        for name, spec in inputs.items():
            array = self._array(parts, None if is_lone else name, spec.dtype)
            if array is None:
                return None
            arrays[name] = array
        return arrays

    def _array(self, parts: list[Any], name: str | None, dtype: DType) -> Array | None:
        if name not in self.columns:
            return None
        try:
            lists = parts if name is None else [each[name] for each in parts]
        except (KeyError, TypeError):
            return None
        return _array(lists, self.columns[name], dtype)


class _NotNumbers(Exception):
    """The request is of another form."""


def read(body: bytes) -> Numbers | None:
    """The numbers of a request; None leaves it to the general way."""
    if _OTHERS.search(body, 0, _BEGINNING):
        return None
    return _read_large(body) if len(body) > _LARGE else _read_small(body)


def _read_small(body: bytes) -> Numbers | None:
    numbers, text = _read(body)
    return numbers if text == without_numbers(body) else None


def _read_large(body: bytes) -> Numbers | None:
    """As `read`, for a request whose numbers are in long lists, which are parsed in pieces.

    A list without its numbers must be the text of a regular array. So it may be cut at any comma:
    a piece is parsed within the brackets that are open around it. The text around the lists is read
    with `[0]` in their places.
    """
    places = flat_numbers.places(body)
    starts, ends = [start for start, _ in places], [end for _, end in places]
    around = zip([0, *ends], [*starts, len(body)], strict=True)
    envelope = b"[0]".join([body[start:end] for start, end in around]).strip(_SPACES)
    if not places or len(envelope) > _LONGEST_AROUND:
        return None
    request = _read_small(envelope)
    try:
        return request and _filled(request, body, places)
    except (ValueError, RuntimeError, TypeError):
        return None


def _filled(request: Numbers, body: bytes, places: Sequence[tuple[int, int]]) -> Numbers | None:
    """The request with the lists of the body in place of its own, which hold one number each."""
    names, width = list(request.columns), len(request.columns)
    outer = () if None in names else next(iter(request.columns.values()))[:-1]
    if len(places) != width * prod(outer):
        return None
    parser = simdjson.Parser()
    lists = [FlatNumbers(body, *place, parser) for place in places]
    columns = {}
    for index, name in enumerate(names):
        text, *others = {each.text for each in lists[index::width]}
        if others or (shape := flat_numbers.regular_shape(text)) is None:
            return None
        columns[name] = (*outer, *shape)
    firsts = range(0, len(lists), width)
    rows = (dict(zip(names, lists[at : at + width], strict=True)) for at in firsts)
    return request._replace(parts=lists if None in names else list(rows), columns=columns)


def read_values(texts: Sequence[bytes]) -> Numbers | None:
    """A request whose `instances` are these texts, each one value; None as in `read`."""
    first, *others = {without_numbers(text) for text in texts}
    if others:
        return None
    numbers, text = _read(instances(texts))
    return numbers if text == without_numbers(instances([first] * len(texts))) else None


def instances(texts: Iterable[bytes]) -> bytes:
    """A request for values that are JSON already."""
    return b'{"instances":[%b]}' % b",".join(texts)


def _read(body: bytes) -> tuple[Numbers | None, bytes]:
    """The numbers, and the text that must remain of the request if it holds nothing else."""
    try:
        return _parsed(simdjson.Parser().parse(body), len(body))
    # not strict JSON, or a name with a zero byte, which simdjson looks up as a C string
    except (ValueError, RuntimeError, KeyError, _NotNumbers):
        return None, b""


def _parsed(root: Any, longest: int) -> tuple[Numbers, bytes]:
    """The numbers of a parsed request, and the text that remains if it holds nothing else.

    `{"signature_name": "two", "inputs": {"x": [[1, 2], [3, 4]]}}` has the columns `{"x": (2, 2)}`.
    Its text without numbers is `{"signatur_nam":"two","inputs":{"x":[[,],[,]]}}`: an `e` counts
    as a part of a number. The text is put together from what was found: the signature's name, then
    the names and shapes of the columns. If a value was not of that shape, the texts differ.
    """
    if not isinstance(root, simdjson.Object):
        raise _NotNumbers
    signature_name, kind, members = "", "", []
    parts: Iterable[Any] = ()
    columns: Mapping[str | None, tuple[int, ...]] = {}
    for key in root:
        value = root[key]
        if key == "signature_name" and isinstance(value, str):
            signature_name, text = value, _quoted(value)
        elif key in ("instances", "inputs") and not kind:
            kind = key
            parts, columns, text = (_rows if kind == "instances" else _inputs)(value, longest)
        else:
            raise _NotNumbers
        members.append(_quoted(key) + b":" + text)
    if not columns:
        raise _NotNumbers
    numbers = Numbers(signature_name, kind == "instances", parts, columns)
    return numbers, b"{%b}" % b",".join(members)


def _inputs(value: Any, longest: int) -> _Parts:
    """The list or the object that `inputs` is."""
    if isinstance(value, simdjson.Object):
        return [value], *_named(value, (), longest)
    shape = _shape(value)
    return [value], {None: shape}, _text(shape, longest)


def _rows(value: Any, longest: int) -> _Parts:
    """The lists or the objects of `instances`."""
    if not isinstance(value, simdjson.Array) or not len(value):
        raise _NotNumbers
    if not isinstance(value[0], simdjson.Object):
        return _inputs(value, longest)
    columns, text = _named(value[0], (len(value),), longest)
    return value, columns, _repeat(text, len(value), longest)


def _named(
    first: Any, outer: tuple[int, ...], longest: int
) -> tuple[Mapping[str | None, tuple[int, ...]], bytes]:
    """The columns of objects that are like the first one, and the text of the first."""
    columns, members = {}, []
    for name in first:
        shape = _shape(first[name])
        columns[name] = outer + shape
        members.append(_quoted(name) + b":" + _text(shape, longest))
    if len({_quoted(name) for name in columns}) != len(members):
        raise _NotNumbers  # names that differ in digits only could be swapped unnoticed
    return columns, b"{%b}" % b",".join(members)


def _shape(value: Any) -> tuple[int, ...]:
    """The lengths of the lists down the first elements."""
    sizes = []
    while isinstance(value, simdjson.Array):
        sizes.append(len(value))
        value = value[0] if len(value) else 0
    if not 0 < len(sizes) <= MOST_DIMENSIONS or not isinstance(value, int | float):
        raise _NotNumbers
    return tuple(sizes)


def _text(shape: tuple[int, ...], longest: int) -> bytes:
    """The text of nested lists without their numbers: `[[,],[,]]` for a 2 by 2 matrix."""
    text = b""
    for size in reversed(shape):
        text = _repeat(text, size, longest)
    return text


def _repeat(text: bytes, size: int, longest: int) -> bytes:
    """A list that repeats the text `size` times; raises _NotNumbers if the request is shorter."""
    if size * (len(text) + 1) > longest:
        raise _NotNumbers
    return b"[%b]" % ((text + b",") * size)[:-1]


def _quoted(string: str) -> bytes:
    return b'"%b"' % without_numbers(string.encode())


def _array(lists: Sequence[Any], shape: tuple[int, ...], dtype: DType) -> Array | None:
    """The array of the numbers in all of the lists."""
    wide = values.WIDE.get(dtype)
    if wide is None:
        return None
    of_type = _SIMDJSON_TYPES[wide.kind]
    try:
        numbers = b"".join([bytes(each.as_buffer(of_type=of_type)) for each in lists])
    except (TypeError, ValueError):  # not integers, or over 64 bits
        return None
    if len(numbers) != prod(shape) * wide.itemsize:
        return None
    array = values.narrow(np.frombuffer(numbers, wide), dtype)
    return None if array is None else array.reshape(shape)
