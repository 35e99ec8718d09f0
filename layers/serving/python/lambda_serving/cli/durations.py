"""Spans of time on the command line: 90s, 15m, 6h, 7d."""

import re
from typing import Any

import click

__all__ = ["DURATION"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)
_MOST_DAYS = 455
"""CloudWatch keeps no metric for longer."""


class _Duration(click.ParamType[int]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The seconds of a span; one that was converted before stays as it is."""
        if isinstance(value, int):
            return value
        found = _SPAN.fullmatch(value)
        seconds = int(found[1]) * _UNITS[found[2]] if found else 0
        if not 0 < seconds <= _MOST_DAYS * _UNITS["d"]:
            self.fail(
                f"{value!r} must be a number with s, m, h or d, such as 15m or 7d, and at most"
                f" {_MOST_DAYS}d.",
                param,
                ctx,
            )
        return seconds


DURATION = _Duration()
"""The type of an option; its value is in seconds."""
