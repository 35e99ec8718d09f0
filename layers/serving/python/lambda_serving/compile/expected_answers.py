"""What the export and a compiled graph are both asked, and how the export answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from lambda_serving.compile import verify
from lambda_serving.compile.samples import sample_inputs
from lambda_serving.dtypes import Array
from lambda_serving.errors import ServingError
from lambda_serving.servables.servable import DEFAULT_SIGNATURE, Servable

__all__ = ["Questions"]


@dataclass(frozen=True, slots=True)
class Questions:
    """Inputs, the export's answers to them, and the signature and inputs that are timed."""

    inputs: verify.Inputs
    wanted: verify.Answers
    timed: tuple[str, Mapping[str, Array]] | None

    @classmethod
    def of(
        cls,
        export: Servable,
        export_dir: Path,
        graph: Any,
        load: Callable[[], Servable],
        *,
        thorough: bool = False,
    ) -> Self:
        """The inputs that a graph suggests, without those that take too long.

        `load` loads the export afresh; `thorough` is that of `sample_inputs`.
        """
        inputs: verify.Inputs = sample_inputs(export, export_dir, graph, thorough=thorough)
        wanted = verify.answers(export, inputs)
        if verify.any_late(wanted):
            inputs = verify.in_time(inputs, wanted)
            with load() as servable:  # a fresh one, without state from those inputs
                wanted = verify.answers(servable, inputs)
        by_name = sorted(inputs, key=lambda name: (name != DEFAULT_SIGNATURE, name))
        answered = (
            (name, each)
            for name in by_name
            for each, outcome in zip(inputs[name], wanted[name], strict=False)
            if not isinstance(outcome, ServingError)
        )
        return cls(inputs, wanted, next(answered, None))

    def check(self, found: verify.Answers, load: Callable[[], Servable]) -> dict[str, verify.Check]:
        """Compares the answers of another servable, by signature.

        Raises `verify.Differs`, which names the unusual value of the input if it holds one.
        """

        def answers_again() -> verify.Answers:
            with load() as servable:
                return verify.answers(servable, self.inputs)

        try:
            return verify.check(self.wanted, found, answers_again)
        except verify.Differs as error:
            told = f"{error}{_unusual(self._inputs_of(error))}"
            raise verify.Differs(told, error.name, error.index) from error

    def hold_nan(self, difference: verify.Differs) -> bool:
        """Whether the input that is answered differently holds NaN."""
        arrays = self._inputs_of(difference).values()
        return any(bool(np.isnan(each).any()) for each in arrays if each.dtype.kind in "fc")

    def _inputs_of(self, difference: verify.Differs) -> Mapping[str, Array]:
        return self.inputs[difference.name][difference.index]


def _unusual(inputs: Mapping[str, Array]) -> str:
    """Which value that is no finite number an input holds, if any."""
    for name, array in inputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f", where {name} holds {array[~np.isfinite(array)][0]}"
    return ""
