"""The ways to compile a graph: in which order they are tried, and which one is chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

from lambda_serving.compile.timing import Timing

__all__ = ["CONSTANTS", "EIGEN", "MAPPED", "ONEDNN", "Attempt", "Variant", "best", "next_variant"]

ONEDNN, EIGEN = "oneDNN", "Eigen"
MAPPED, CONSTANTS = "files", "graph"
_CLEARLY_QUICKER = 0.9


@dataclass(frozen=True, slots=True)
class Variant:
    """Whose kernels a graph may use, for convolutions above all, and where large weights lie."""

    kernels: str = ONEDNN
    weights: str = MAPPED


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of one variant.

    `problem` says why it is not used, and `is_slower` whether its speed was the reason. `timing` is
    None if no input was answered. `has_onednn` means that the graph uses oneDNN's kernels,
    `has_files` that weights lie in files.
    """

    variant: Variant
    problem: str = ""
    is_slower: bool = False
    timing: Timing | None = None
    has_onednn: bool = False
    has_files: bool = False

    def __str__(self) -> str:
        kernels = ONEDNN if self.has_onednn else EIGEN
        return f"{kernels} kernels, weights in {MAPPED if self.has_files else 'the graph'}"


def next_variant(tried: Sequence[Attempt]) -> Variant | None:
    """The variant to try next, None if no other can gain much.

    Each attempt takes as long as the one before, so a clearly quicker graph is good enough.
    """
    if not tried:
        return Variant()
    last = tried[-1]
    if last.has_onednn and not _is_clearly_quicker(last):
        return Variant(EIGEN)
    if last.has_files and last.variant.weights == MAPPED and all(each.is_slower for each in tried):
        return Variant(last.variant.kernels, CONSTANTS)
    return None


def best(tried: Sequence[Attempt]) -> Attempt | None:
    """The attempt with the quickest warm answer among those without a problem."""
    usable = [attempt for attempt in tried if not attempt.problem]
    return min(
        usable,
        key=lambda each: each.timing.warm.after / each.timing.warm.before if each.timing else 0.0,
        default=None,
    )


def _is_clearly_quicker(attempt: Attempt) -> bool:
    if attempt.problem or attempt.timing is None:
        return not attempt.problem
    warm = attempt.timing.warm
    return warm.after < _CLEARLY_QUICKER * warm.before
