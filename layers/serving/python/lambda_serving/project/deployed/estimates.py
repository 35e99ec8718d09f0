"""What a load would cost, deployed or not."""

from dataclasses import dataclass

from lambda_serving.project.deployed.prices import LAMBDA_BY_GB_SECOND, PRICES

__all__ = ["Estimate", "Load", "estimates"]

_MB = 1024


@dataclass(frozen=True, slots=True)
class Load:
    """Requests of a month to a function: each takes so many milliseconds.

    `cold_starts` of them start a function first, which takes `cold_milliseconds` more.
    """

    requests: int
    milliseconds: float
    memory: int
    cold_starts: int = 0
    cold_milliseconds: float = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a load costs on one architecture, in dollars a month."""

    architecture: str
    gb_seconds: float
    compute: float
    lambda_requests: float
    api_requests: float

    @property
    def dollars(self) -> float:
        return self.compute + self.lambda_requests + self.api_requests


def estimates(load: Load) -> list[Estimate]:
    """The price of a load on each architecture; its milliseconds are taken for the same on both."""
    milliseconds = load.requests * load.milliseconds + load.cold_starts * load.cold_milliseconds
    gb_seconds = milliseconds / 1000 * load.memory / _MB
    return [
        Estimate(
            architecture,
            gb_seconds,
            gb_seconds * price,
            load.requests * PRICES.lambda_request,
            load.requests * PRICES.api_request,
        )
        for architecture, price in LAMBDA_BY_GB_SECOND.items()
    ]
