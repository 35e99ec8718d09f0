"""Large JSON values given back some at a time.

Python frees all of a list at once, and lets no other thread run meanwhile: a tenth of a second for
ten million numbers. What an error's traceback keeps would be freed by whoever drops the error.
"""

from itertools import chain

from lambda_serving.api.codec.rapidjson_dialect import Json

__all__ = ["release"]

_SLICE, _FEW = 2**15, 64
_CONTAINERS = {list, dict}  # by type, as orjson and json make them


def release(value: Json) -> None:
    """Empties a value and what is large in it."""
    waiting = [value]
    while waiting:
        container = waiting.pop()
        while container and isinstance(container, list | dict):
            part = _taken(container)
            if not _are_small(part):
                waiting += [each for each in part if type(each) in _CONTAINERS]


def _taken(container: list[Json] | dict[str, Json]) -> list[Json]:
    """Some of the elements or members, which the container has no more."""
    if isinstance(container, list):
        part = container[-_SLICE:]
        del container[-_SLICE:]
        return part
    return [container.popitem()[1] for _ in range(min(len(container), _SLICE))]


def _are_small(values: list[Json]) -> bool:
    """Whether there is no container among these, or only short lists without any."""
    if _CONTAINERS.isdisjoint(map(type, values)):
        return True
    lists = [each for each in values if type(each) is list]
    return (
        len(lists) == len(values)
        and max(map(len, lists)) < _FEW
        and _CONTAINERS.isdisjoint(map(type, chain.from_iterable(lists)))
    )
