"""Large JSON values freed in pieces.

Python frees a list in one go, and no other thread runs meanwhile: for ten million numbers this
takes a tenth of a second. Values in an error's traceback would be freed by whoever drops the error.
"""

from itertools import chain, repeat, starmap
from typing import Any

from lambda_serving.api.codec.rapidjson_dialect import Json

__all__ = ["release"]

_SLICE, _FEW = 2**15, 64
_CONTAINERS = {list, dict}  # by type, as orjson and json make them


def release(value: Json) -> None:
    """Empties a value and the large containers in it."""
    waiting = [value]
    while waiting:
        container = waiting.pop()
        while container and isinstance(container, list | dict):
            part = _taken(container)
            if not _are_small(part):
                waiting += [each for each in part if type(each) in _CONTAINERS]


def _taken(container: list[Json] | dict[str, Json]) -> list[Json]:
    """Some of the elements or members, which are removed from the container."""
    if isinstance(container, list):
        part = container[-_SLICE:]
        del container[-_SLICE:]
        return part
    items = starmap(container.popitem, repeat((), min(len(container), _SLICE)))
    return [value for _, value in items]


def _are_small(values: list[Any]) -> bool:
    """Whether these are scalars, or short containers of scalars."""
    containers: list[Any] = [
        each.values() if kind is dict else each
        for each, kind in zip(values, map(type, values), strict=True)
        if kind in _CONTAINERS
    ]
    return not containers or (
        max(map(len, containers)) < _FEW
        and _CONTAINERS.isdisjoint(map(type, chain.from_iterable(containers)))
    )
