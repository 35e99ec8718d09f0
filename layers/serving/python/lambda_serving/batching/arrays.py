"""Joins the inputs of several requests into one, and splits its outputs again."""

from collections.abc import Hashable, Iterator, Sequence
from itertools import accumulate, pairwise
from math import prod

import numpy as np

from lambda_serving.dtypes import Array
from lambda_serving.errors import InvalidArgument, ResourceExhausted

__all__ = ["fits", "join", "kind", "rows", "split"]

Arrays = Sequence[Array]
_MOST = 256 * 2**20  # bytes of one padded request


def rows(inputs: Arrays) -> int:
    """The rows of a request; raises InvalidArgument as batching/batching_util.h does."""
    if not all(array.ndim for array in inputs):
        raise InvalidArgument("Batching Run() input tensors must have at least one dimension")
    first, *others = (len(array) for array in inputs)
    if any(size != first for size in others):
        raise InvalidArgument("Batching Run() input tensors must have equal 0th-dimension size")
    return first


def kind(inputs: Arrays, *, pad: bool) -> Hashable:
    """A key that is equal for requests that can be joined; with `pad`, their rows may differ."""
    if pad and all(array.size for array in inputs):
        return tuple((array.dtype, array.ndim) for array in inputs)
    return tuple((array.dtype, array.shape[1:]) for array in inputs)


def join(requests: Sequence[Arrays], padding: int) -> list[Array]:
    """One array for each input: the rows of all requests, then `padding` more rows.

    As in batching/batching_session.cc, the padding repeats the first row of the last request, which
    the model is known to accept. Smaller rows are filled up with the first element of their
    request. For example, [[1, 2]] and [[3]] with a padding of 1 give [[1, 2], [3, 3], [3, 3]].
    """
    return [_stack(_same_shape(arrays), padding) for arrays in zip(*requests, strict=True)]


def fits(outputs: Arrays, size: int) -> bool:
    """Whether every output has `size` rows."""
    return all(output.ndim and len(output) == size for output in outputs)


def split(outputs: Arrays, sizes: Sequence[int]) -> Iterator[list[Array]]:
    """The outputs of each request in turn; rows after them are padding and dropped."""
    for start, end in pairwise(accumulate(sizes, initial=0)):
        yield [output[start:end] for output in outputs]


def _stack(arrays: Arrays, padding: int) -> Array:
    if padding:
        arrays = [*arrays, *[arrays[-1][:1]] * padding]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _same_shape(arrays: Arrays) -> Arrays:
    if len({array.shape[1:] for array in arrays}) == 1:
        return arrays
    inner = tuple(max(sizes) for sizes in zip(*(each.shape[1:] for each in arrays), strict=True))
    return [_filled(array, inner) for array in arrays]


def _filled(array: Array, inner: tuple[int, ...]) -> Array:
    """The array filled up to rows of shape `inner`.

    Raises ResourceExhausted over 256 MiB, which two small requests can cause: a long one and a wide
    one.
    """
    if (size := prod((len(array), *inner)) * array.itemsize) > _MOST:
        raise ResourceExhausted(f"Requests padded to one shape take {size} bytes")
    filled: Array = np.full((len(array), *inner), array.flat[0], array.dtype)
    filled[tuple(map(slice, array.shape))] = array
    return filled
