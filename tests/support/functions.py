"""Servables that compute in Python, and keep the calls of their functions."""

from collections.abc import Callable, Sequence

from lambda_serving.dtypes import Array
from lambda_serving.servables.servable import Function, Servable, Signature

__all__ = ["Computed", "servable_of"]


class Computed:
    """A function that passes its inputs to `compute`; `calls` has those of each run, and timeouts.

    Runs are quick when `is_quick` says so of their inputs.
    """

    def __init__(
        self,
        compute: Callable[..., Sequence[Array]],
        *,
        is_quick: Callable[[Sequence[Array]], bool] = lambda _: False,
    ) -> None:
        self._compute = compute
        self._is_quick = is_quick
        self.calls: list[tuple[list[Array], int]] = []

    def is_quick(self, inputs: Sequence[Array]) -> bool:
        return self._is_quick(inputs)

    def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> list[Array]:
        self.calls.append((list(inputs), timeout_ms))
        return list(self._compute(*inputs))


def servable_of(
    *signatures: Signature, function: Function, close: Callable[[], None] = lambda: None
) -> Servable:
    """A servable whose signatures all run one function."""
    return Servable(
        {signature.name: signature for signature in signatures},
        {signature.name: function for signature in signatures},
        definitions={},
        close=close,
    )
