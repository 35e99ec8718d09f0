"""Fields of serialized messages found many at once, where short ones follow one another."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from lambda_serving.dtypes import Array
from lambda_serving.protos.wire import (
    LENGTH,
    LONGEST_VARINT,
    ONE_BYTE,
    SMALLEST_TAG,
    VARINT,
    Field,
    fields,
)

__all__ = ["Fields", "parts"]

_BLOCK = 2**15  # bytes in which fields are found at once
_RUN = 2**15  # bytes in which equal fields are found at once
_FEW, _SHORT = 64, 24  # after `_FEW` fields of `_SHORT` bytes on average, many are found at once


@dataclass(frozen=True, slots=True)
class Fields:
    """Consecutive fields, as arrays of int64 of equal length."""

    numbers: Array
    kinds: Array
    contents: Array
    ends: Array

    @property
    def end(self) -> int:
        return int(self.ends[-1])


def parts(body: bytes, start: int, end: int) -> Iterator[Field | Fields]:
    """Every field of a message in order, short ones many at a time. Raises Malformed."""
    are_short = False
    while start < end:
        found = (_run(body, start, end) or _block(body, start, end)) if are_short else None
        if found is not None:
            yield found
            are_short = found.end - start <= _SHORT * len(found.ends)
            start = found.end
            continue
        before = start
        for field in islice(fields(body, start, end), _FEW):
            yield field
            start = field[4]
        are_short = start - before <= _SHORT * _FEW


def _run(body: bytes, start: int, end: int) -> Fields | None:
    """The fields from `start` on with equal numbers and lengths; None if they are few."""
    number, kind, _, content, after = next(fields(body, start, end))
    size, head = after - start, content - start
    if kind == VARINT or size > _SHORT:
        return None
    rows = np.frombuffer(body, np.uint8, min(end - start, _RUN) // size * size, start)
    rows = rows.reshape(-1, size)
    other = (rows[:, :head] != rows[0, :head]).any(1)
    count = int(other.argmax()) if other.any() else len(rows)
    if count < _FEW:
        return None
    begins = np.arange(count) * size + start
    return Fields(np.full(count, number), np.full(count, kind), begins + head, begins + size)


def _block(body: bytes, start: int, end: int) -> Fields | None:
    """The fields from `start` on that end within a block; None if the first one does not.

    Computes for each byte where a field would end if it began there. Then follows the fields: a
    step goes from each known field to the next, then over two fields, over four, and so on, so that
    known fields double each time. Stops at a field with a longer tag or length.
    """
    size = min(_BLOCK, end - start)
    here, nowhere = _PLACES[:size], size + 1
    tags = np.frombuffer(body, np.uint8, size, start)
    padded = np.zeros(size + 2, np.intp)
    padded[:size] = tags
    after = here + _WIDTHS[tags]
    is_length = _IS_LENGTH[tags]
    after += np.where(is_length, padded[1 : size + 1], 0)
    is_number = _IS_NUMBER[tags]
    if is_number.any():
        number_ends = np.append(_number_ends(tags), size)[1:] + 1
        too_long = number_ends - here > LONGEST_VARINT + 1
        after = np.where(is_number, np.where(too_long, nowhere, number_ends), after)
    after[is_length & (padded[1 : size + 1] > ONE_BYTE)] = nowhere
    after = np.append(np.minimum(after, nowhere), (nowhere, nowhere))
    begins, step = np.zeros(1, np.intp), after
    while begins[-1] < size:
        begins = np.concatenate([begins, step.take(begins)])
        step = step.take(step)
    begins = begins[: np.searchsorted(begins, size)]
    begins = begins[after[begins] <= size]
    if not len(begins):
        return None
    kinds = tags[begins] & 7
    return Fields(
        tags[begins] >> 3, kinds, begins + start + 1 + (kinds == LENGTH), after[begins] + start
    )


def _number_ends(tags: Array) -> Array:
    """For each byte, the position of the first byte from there that ends a varint, or the size."""
    size = len(tags)
    places = np.where(tags <= ONE_BYTE, _PLACES[:size], size)
    ends: Array = np.minimum.accumulate(places[::-1])[::-1]
    return ends


_PLACES = np.arange(_BLOCK)
_NEVER = 2 * _BLOCK
_TAGS = np.arange(256)
_IS_SHORT = (_TAGS >= SMALLEST_TAG) & (_TAGS <= ONE_BYTE)
_IS_LENGTH = (_TAGS & 7 == LENGTH) & _IS_SHORT
_IS_NUMBER = (_TAGS & 7 == VARINT) & _IS_SHORT
_OF_KIND = np.array([_NEVER, 9, 2, _NEVER, _NEVER, 5, _NEVER, _NEVER])
_WIDTHS = np.where(_IS_SHORT, _OF_KIND[_TAGS & 7], _NEVER)
"""Bytes of a field by its tag, without its content; those of a number are not known."""
