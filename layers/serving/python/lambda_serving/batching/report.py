"""What can be counted of batches."""

from dataclasses import dataclass

__all__ = ["Report"]


@dataclass(frozen=True, slots=True)
class Report:
    """One run of a graph for a batch: what `/tensorflow/serving/batching_session/...` is made of.

    `queue_seconds` and `sizes` hold the wait and the rows of each request in it; `size` is what
    ran, padding included. A batch whose run fails is run again in parts, each with a report.
    """

    thread_pool_name: str
    queue_seconds: tuple[float, ...]
    sizes: tuple[int, ...]
    size: int

    @property
    def padding(self) -> int:
        return self.size - sum(self.sizes)
