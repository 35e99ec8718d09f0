"""The rows of a file that run together, before and after the run."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lambda_serving.dtypes import Array

__all__ = ["Chunk", "Part", "joined"]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one shape: their places in a chunk, from 0, and arrays of shape [rows, ...].

    The arrays are inputs by name before the run, outputs after it.
    """

    places: Sequence[int]
    arrays: Mapping[str, Array]

    def rows(self) -> list["Part"]:
        """Each row by itself."""
        return [
            Part([place], {name: array[row : row + 1] for name, array in self.arrays.items()})
            for row, place in enumerate(self.places)
        ]


@dataclass(frozen=True, slots=True)
class Chunk:
    """`size` consecutive rows of a file; `first` is the number of the first one, from 1.

    Each row is in one of `parts`, or it is bad, and `errors` says why, by place. `texts` are the
    rows as they are in the file; empty for npz.
    """

    first: int
    size: int
    parts: Sequence[Part]
    errors: Mapping[int, str]
    texts: Sequence[bytes] = ()


def joined(rows: Mapping[int, Mapping[str, Array]]) -> list[Part]:
    """Joins rows, given by place as arrays of shape [1, ...]; rows of equal shapes make a part."""
    alike = defaultdict[tuple[object, ...], list[int]](list)
    for place, arrays in rows.items():
        alike[tuple(array.shape for array in arrays.values())].append(place)
    return [
        Part(
            places,
            {
                name: np.concatenate([rows[place][name] for place in places])
                for name in rows[places[0]]
            },
        )
        for places in alike.values()
    ]
