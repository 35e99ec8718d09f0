"""Checks that two servables give the same answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import DeadlineExceeded, ServingError
from lambda_serving.servables.servable import Servable

__all__ = [
    "TOLERANCES",
    "Answers",
    "Check",
    "Differs",
    "Inputs",
    "answers",
    "any_late",
    "check",
    "in_time",
]

_Outcome = dict[str, Array] | ServingError
Inputs = Mapping[str, Sequence[Mapping[str, Array]]]
"""The inputs to compare, by signature."""
Answers = Mapping[str, Sequence[_Outcome]]
"""The outcomes in the order of the inputs, by signature."""
_ROUNDS = 2
_MOST_MS = 60_000
"""The longest wait for an answer: some loops never end, for instance on an infinite number."""
TOLERANCES = {
    DType.HALF: 2**-8,
    DType.BFLOAT16: 2**-5,
    DType.FLOAT: 1e-4,
    DType.DOUBLE: 1e-10,
    DType.COMPLEX64: 1e-4,
    DType.COMPLEX128: 1e-10,
}
"""The largest tolerated error, relative to the largest magnitude in the tensor. Values of all other
dtypes must be equal."""


_LEAST = float(np.finfo(np.float32).tiny)


class Differs(Exception):
    """The servables answer an input differently; the message says how.

    `index` is that of the input among those of the signature `name`.
    """

    def __init__(self, message: str, name: str, index: int) -> None:
        super().__init__(message)
        self.name, self.index = name, index


@dataclass(slots=True)
class Check:
    """The result of comparing the answers of one signature.

    `compared` inputs were answered; for `refused` ones both gave an error of the same code, and
    `refusal` is the export's first. `largest_error` is relative to the largest magnitude in its
    tensor. `unstable` outputs differ between two loads of the export, so only their dtype and shape
    are compared.
    """

    compared: int = 0
    refused: int = 0
    refusal: str = ""
    largest_error: float = 0.0
    unstable: list[str] = field(default_factory=list)


def answers(servable: Servable, inputs: Inputs, most_ms: int = _MOST_MS) -> Answers:
    """The answers of a freshly loaded servable, in the order of the inputs.

    Each signature gets all its inputs, then all of them again, to reveal what it remembers. An
    input that takes too long gives DeadlineExceeded, and is not repeated.
    """
    return {name: _answers(servable, name, asked, most_ms) for name, asked in inputs.items()}


def _answers(
    servable: Servable, name: str, asked: Sequence[Mapping[str, Array]], most_ms: int
) -> list[_Outcome]:
    first = [_outcome(servable, name, each, most_ms) for each in asked]
    again = [
        found if isinstance(found, DeadlineExceeded) else _outcome(servable, name, each, most_ms)
        for _ in range(_ROUNDS - 1)
        for each, found in zip(asked, first, strict=True)
    ]
    return first + again


def any_late(found: Answers) -> bool:
    """Whether an answer took too long."""
    return any(
        isinstance(each, DeadlineExceeded) for outcomes in found.values() for each in outcomes
    )


def in_time(inputs: Inputs, found: Answers) -> Inputs:
    """The inputs without those that took too long."""
    return {
        name: [
            each
            for each, outcome in zip(asked, found[name], strict=False)
            if not isinstance(outcome, DeadlineExceeded)
        ]
        for name, asked in inputs.items()
    }


def check(wanted: Answers, found: Answers, again: Callable[[], Answers]) -> dict[str, Check]:
    """Compares the answers of each signature; raises Differs.

    `again` returns the answers of another load of the servable that gave `wanted`; outputs that
    differ between those two are random. It is called at most once, and only if needed.
    """
    again = cache(again)
    return {name: _check(name, wanted[name], found[name], again) for name in wanted}


def _check(
    name: str, wanted: Sequence[_Outcome], found: Sequence[_Outcome], again: Callable[[], Answers]
) -> Check:
    result, first_round = Check(), len(wanted) // _ROUNDS
    for index, (want, got) in enumerate(zip(wanted, found, strict=True)):
        if isinstance(want, ServingError) or isinstance(got, ServingError):
            if not (isinstance(want, ServingError) and type(want) is type(got)):
                problem = f"signature {name}: {_told(want)} became {_told(got)}"
                raise Differs(problem, name, index % max(first_round, 1))
            result.refused += index < first_round
            result.refusal = result.refusal or str(want)
            continue
        result.compared += index < first_round
        for output in want:
            error, problem = _difference(want[output], got[output])
            if not problem:
                result.largest_error = max(result.largest_error, error)
            elif not _is_left_to_chance(output, wanted, again()[name], want[output], got[output]):
                problem = f"signature {name}, output {output}: {problem}"
                raise Differs(problem, name, index % max(first_round, 1))
            elif output not in result.unstable:
                result.unstable.append(output)
    return result


def _outcome(servable: Servable, name: str, inputs: Mapping[str, Array], most_ms: int) -> _Outcome:
    try:
        return servable.run(name, inputs, timeout_ms=most_ms)
    except ServingError as error:
        return error


def _difference(want: Array, got: Array) -> tuple[float, str]:
    """The error, and a description of it that is empty if it is tolerated."""
    if (want.dtype, want.shape) != (got.dtype, got.shape):
        return np.inf, (
            f"{want.dtype} of shape {want.shape} became {got.dtype} of shape {got.shape}"
        )
    error, limit = _error(want, got), TOLERANCES.get(DType.of(want.dtype), 0.0)
    if error <= limit:
        return error, ""
    return error, f"an error of {error:.2g} of the largest value, {limit:.2g} is tolerated"


def _is_left_to_chance(
    output: str, wanted: Sequence[_Outcome], again: Sequence[_Outcome], want: Array, got: Array
) -> bool:
    """Whether an output keeps its dtype and shape, but its values differ from load to load."""
    return (want.dtype, want.shape) == (got.dtype, got.shape) and any(
        bool(_difference(one[output], other[output])[1])
        for one, other in zip(wanted, again, strict=True)
        if not isinstance(one, ServingError) and not isinstance(other, ServingError)
    )


def _told(outcome: _Outcome) -> str:
    return f"the error {str(outcome)!r}" if isinstance(outcome, ServingError) else "an answer"


def _error(want: Array, got: Array) -> float:
    """The largest difference relative to the largest magnitude; infinite if that is undefined.

    Equal values, including infinities and NaN, do not differ. Nor do values whose difference is
    smaller than a normal float32, as some threads of TensorFlow flush those to zero.
    """
    if want.shape != got.shape:
        return np.inf
    if want.dtype.kind in "OSUbiu" or want.dtype.names:
        return 0.0 if np.array_equal(want, got) else np.inf
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    want, got = want.astype(wide), got.astype(wide)
    alike = (want == got) | (np.isnan(want) & np.isnan(got))
    if alike.all():
        return 0.0
    if not (np.isfinite(want) & np.isfinite(got) | alike).all():
        return np.inf
    largest = float(np.abs(want[np.isfinite(want)]).max(initial=0.0))
    difference = float(np.abs(want[~alike] - got[~alike]).max())
    if difference <= _LEAST:
        return 0.0
    return difference / largest if largest else np.inf
