"""`python run_shapes.py SAVED_MODEL`: runs each signature of `build_convolutions` on odd shapes.

Prints a line of JSON for each run: the signature, the shape, and the shape of the answer or the
code and the message of the error.
"""

import json
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from lambda_serving.errors import ServingError
from lambda_serving.servables import saved_model
from lambda_serving.servables.servable import Servable
from support.build_convolutions import SIGNATURES

__all__ = ["shapes"]

_SIZES = (2, 8, 8, 3, 2, 2)
_OTHERS = (0, 1, 2, 4, 6, 9)
_OTHERS_BY_XLA = (0, 4, 9)  # which compiles the graph anew for each shape


def main(path: str) -> None:
    with saved_model.load(path, warm_up=False) as servable:
        for name, declared in SIGNATURES.items():
            for shape in shapes(declared, _OTHERS_BY_XLA if "xla" in name else _OTHERS):
                line = json.dumps([name, shape, *_outcome(servable, name, shape)])
                sys.stdout.write(line + "\n")
                sys.stdout.flush()


def shapes(
    declared: tuple[int | None, ...], others: Sequence[int] = _OTHERS
) -> Iterator[tuple[int, ...]]:
    """Shapes of each rank up to 6, and the declared one with a size changed, to 0 first."""
    for rank in range(7):
        yield _SIZES[:rank]
    whole = (2, *(8 if size is None else size for size in declared))
    yield whole
    for axis in range(len(whole)):
        for size in others:
            yield (*whole[:axis], size, *whole[axis + 1 :])
    yield (0,) * len(whole)


def _outcome(servable: Servable, name: str, shape: tuple[int, ...]) -> tuple[object, str]:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) % 7
    try:
        return servable.run(name, {"x": values})["y"].shape, ""
    except ServingError as error:
        return error.code.name, str(error)


if __name__ == "__main__":
    main(*sys.argv[1:])
