"""Whether two servables answer alike."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import ServingError
from lambda_serving.servable import Servable

__all__ = ["TOLERANCES", "Check", "Differs", "check"]

_Outcome = dict[str, Array] | ServingError
TOLERANCES = {
    DType.HALF: 2**-8,
    DType.BFLOAT16: 2**-5,
    DType.FLOAT: 1e-4,
    DType.DOUBLE: 1e-10,
    DType.COMPLEX64: 1e-4,
    DType.COMPLEX128: 1e-10,
}
"""The largest error that passes, as a part of the largest magnitude in the tensor. All other
dtypes must be equal."""


class Differs(Exception):
    """The servables answer an input differently; the message says how."""


@dataclass(slots=True)
class Check:
    """What comparing the answers of one signature found.

    `compared` inputs were answered, `refused` ones got an error of the same code from both.
    `largest_error` is a part of the largest magnitude in its tensor. `unstable` outputs differ
    from run to run of one servable; of these only dtype and shape are compared.
    """

    compared: int = 0
    refused: int = 0
    largest_error: float = 0.0
    unstable: list[str] = field(default_factory=list)


def check(
    wanted: Servable, found: Servable, name: str, inputs: Iterable[Mapping[str, Array]]
) -> Check:
    """Compares the answers of signature `name`; raises Differs."""
    result = Check()
    for each in inputs:
        want, again, got = (_outcome(side, name, each) for side in (wanted, wanted, found))
        _compare(name, want, again, got, result)
    return result


def _outcome(servable: Servable, name: str, inputs: Mapping[str, Array]) -> _Outcome:
    try:
        return servable.run(name, inputs)
    except ServingError as error:
        return error


def _compare(name: str, want: _Outcome, again: _Outcome, got: _Outcome, result: Check) -> None:
    if isinstance(want, ServingError) or isinstance(got, ServingError):
        if not (isinstance(want, ServingError) and type(want) is type(got)):
            raise Differs(f"signature {name}: {_told(want)} became {_told(got)}")
        result.refused += 1
        return
    result.compared += 1
    for output, array in want.items():
        other = got[output]
        if (array.dtype, array.shape) != (other.dtype, other.shape):
            raise Differs(
                f"signature {name}, output {output}: {array.dtype} of shape {array.shape} became"
                f" {other.dtype} of shape {other.shape}"
            )
        limit = TOLERANCES.get(DType.of(array.dtype), 0.0)
        if isinstance(again, ServingError) or _error(array, again[output]) > limit:
            if output not in result.unstable:
                result.unstable.append(output)
            continue
        error = _error(array, other)
        if error > limit:
            raise Differs(
                f"signature {name}, output {output}: an error of {error:.2g} of the largest value,"
                f" {limit:.2g} is tolerated"
            )
        result.largest_error = max(result.largest_error, error)


def _told(outcome: _Outcome) -> str:
    return f"the error {str(outcome)!r}" if isinstance(outcome, ServingError) else "an answer"


def _error(want: Array, got: Array) -> float:
    """The largest difference as a part of the largest magnitude; infinite where none makes sense.

    Equal values, infinite and no numbers among them, differ by nothing.
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
    return difference / largest if largest else np.inf
