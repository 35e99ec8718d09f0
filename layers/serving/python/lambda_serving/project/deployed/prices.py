"""Prices of AWS: one region's, on one day. They change; AWS's pages have today's."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["DATE", "LAMBDA_BY_GB_SECOND", "PRICES", "REGION", "Prices"]

REGION = "us-east-1"
DATE = "November 2026"
LAMBDA_BY_GB_SECOND: Mapping[str, float] = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
"""Dollars for a function with a gigabyte of memory that runs for a second, by its processor."""


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars of the first tier, without the free tier.

    `lambda_disk` is for a gigabyte above the first half for a second. `metric`, `alarm` and
    `dashboard` are for a month.
    """

    lambda_request: float
    lambda_disk: float
    api_request: float
    metric: float
    alarm: float
    dashboard: float


PRICES = Prices(
    lambda_request=0.20e-6,
    lambda_disk=0.0000000309,
    api_request=1.00e-6,  # of an HTTP API, by 512 KB
    metric=0.30,
    alarm=0.10,
    dashboard=3.00,
)
