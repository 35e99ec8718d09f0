"""Large JSON values freed in steps.

Python frees a list in one go, and no other thread runs meanwhile: for ten million numbers this
takes a tenth of a second.
"""

from typing import Any, Self

__all__ = ["Growth", "empty"]

_SLICE = 2**15  # elements


class Growth:
    """Notes what large containers gain in each step, and removes all of it at the end of a block.

    The last gains are removed first. So only the gains of one step are freed at once, however
    deeply containers are nested.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[list[Any] | dict[str, Any], int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._steps:
            container, size = self._steps.pop()
            while len(container) > size:
                if isinstance(container, dict):
                    container.popitem()
                else:
                    del container[max(size, len(container) - _SLICE) :]

    def add(self, container: list[Any] | dict[str, Any]) -> None:
        """Notes that a container is about to gain elements or members."""
        self._steps.append((container, len(container)))


def empty(parts: list[Any]) -> None:
    """Removes parts one by one."""
    while parts:
        parts.pop()
