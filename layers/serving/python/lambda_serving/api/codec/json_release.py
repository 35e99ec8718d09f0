"""Large JSON values freed in pieces.

Python frees a list in one go, and no other thread runs meanwhile: for ten million numbers this
takes a tenth of a second. Values in an error's traceback would be freed by whoever drops the error.
"""

from itertools import chain

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
    return [container.popitem()[1] for _ in range(min(len(container), _SLICE))]


def _are_small(values: list[Json]) -> bool:
    """Whether these hold no containers, apart from short lists of scalars."""
    if _CONTAINERS.isdisjoint(map(type, values)):
        return True
    lists = [each for each in values if type(each) is list]
    return (
        len(lists) == len(values)
        and max(map(len, lists)) < _FEW
        and _CONTAINERS.isdisjoint(map(type, chain.from_iterable(lists)))
    )
