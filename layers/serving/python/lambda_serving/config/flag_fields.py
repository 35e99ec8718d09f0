"""Flags as fields of a dataclass: name, type, default, help and range."""

from dataclasses import field, fields
from typing import Any, NamedTuple

from lambda_serving.errors import InvalidArgument

__all__ = ["Flag", "flag", "flags_of", "switch"]

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class Flag(NamedTuple):
    """One flag: `--name=value`."""

    name: str
    type: type
    default: Any
    help: str
    range: tuple[int | None, int | None]

    def parse(self, text: str) -> Any:
        """The value of `text`, the default if it is empty; raises InvalidArgument."""
        if not text:
            return self.default
        if self.type is bool:
            if text.lower() not in _BOOLEANS:
                raise InvalidArgument(f"{self.name.upper()} is {text!r}; it must be true or false")
            return _BOOLEANS[text.lower()]
        return text if self.type is str else self._number(text)

    def _number(self, text: str) -> int | float:
        low, high = self.range
        try:
            number: int | float = self.type(text)
        except ValueError:
            raise InvalidArgument(
                f"{self.name.upper()} is {text!r}; it must be a"
                f" {'whole ' if self.type is int else ''}number"
            ) from None
        if (low is not None and number < low) or (high is not None and number > high):
            raise InvalidArgument(
                f"{self.name.upper()} is {number}; it must be at least {low}"
                f"{'' if high is None else f' and at most {high}'}"
            )
        return number


def flag(default: Any, about: str, low: int | None = None, high: int | None = None) -> Any:
    """A field for a flag; numbers range from `low` to `high`."""
    return field(default=default, metadata={"help": about, "range": (low, high)})


def switch(about: str, *, default: bool = False) -> Any:
    """A field for a flag that is true or false."""
    return flag(default, about)


def flags_of(settings: type) -> list[Flag]:
    """The flags of a dataclass, in the order of its fields."""
    return [
        Flag(each.name, type(each.default), each.default, **each.metadata)
        for each in fields(settings)
    ]
