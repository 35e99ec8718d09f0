"""Learns which runs of a function are quick enough for an event loop's thread.

This applies only to functions whose cost depends on the dimensions of their inputs alone (`costs`).
A run counts as quick once runs with inputs at least as large in every dimension were quick. For
example, three quick runs of shape [32, 10] also cover [1, 10], but not [33, 10].
"""

from collections.abc import Sequence

from lambda_serving.dtypes import Array

__all__ = ["Quickness"]

Sizes = tuple[tuple[int, ...], ...]
_QUICK_SECONDS = 0.002
_SLOW_SECONDS = 0.01
_PROOFS = 3  # quick runs of a size before it counts as quick
_KNOWN, _TRIED = 8, 64  # sizes


class Quickness:
    """What the runs of one function have shown; nothing is quick without `follows_shapes`.

    Threads may share it: two simultaneous writes can only lose a proof, which comes again.
    """

    def __init__(self, *, follows_shapes: bool) -> None:
        self._follows_shapes = follows_shapes
        self._known: tuple[Sizes, ...] = ()
        self._tried: dict[Sizes, int] = {}

    def covers(self, inputs: Sequence[Array]) -> bool:
        """Whether a run of these inputs is quick."""
        return bool(self._known) and self._covers(_sizes(inputs))

    def record(self, inputs: Sequence[Array], seconds: float) -> None:
        """Learns from a run; a slow one removes every proof that covered it."""
        if not self._follows_shapes:
            return
        sizes = _sizes(inputs)
        if self._covers(sizes):
            if seconds >= _SLOW_SECONDS:
                self._known = tuple(known for known in self._known if not _within(sizes, known))
        elif seconds >= _QUICK_SECONDS:
            self._tried.pop(sizes, None)
        elif (proofs := self._tried.pop(sizes, 0) + 1) < _PROOFS:
            if len(self._tried) >= _TRIED:
                self._tried.clear()
            self._tried[sizes] = proofs
        else:
            larger = [known for known in self._known if not _within(known, sizes)]
            self._known = (sizes, *larger)[:_KNOWN]

    def _covers(self, sizes: Sizes) -> bool:
        return sizes in self._known or any(_within(sizes, known) for known in self._known)


def _sizes(inputs: Sequence[Array]) -> Sizes:
    """The dimensions of each input, and the bytes of its strings if it has any."""
    return tuple(
        (*array.shape, sum(map(len, array.flat))) if array.dtype.hasobject else array.shape
        for array in inputs
    )


def _within(sizes: Sizes, others: Sizes) -> bool:
    return all(
        len(size) == len(other) and all(a <= b for a, b in zip(size, other, strict=True))
        for size, other in zip(sizes, others, strict=True)
    )
