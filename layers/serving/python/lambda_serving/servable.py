"""A loaded model version: named functions, arrays in, arrays out."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import InvalidArgument

__all__ = ["DEFAULT_SIGNATURE", "Function", "Servable", "Signature", "TensorSpec", "names_differ"]

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a signature.

    `shape` has None for a dimension of any size, and is None itself when the rank is unknown.
    `tensor_name` is the tensor in the graph, e.g. `serving_default_x:0`.
    """

    dtype: DType
    shape: tuple[int | None, ...] | None
    tensor_name: str


@dataclass(frozen=True, slots=True)
class Signature:
    """A named function of a servable: its inputs and outputs by name, sorted.

    `defaults` holds values of inputs that a caller may leave out (gRPC only; TensorFlow
    Serving's REST requires every input). `definition` is the serialized `SignatureDef`, as the
    metadata call shows it.
    """

    name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str
    definition: bytes
    defaults: Mapping[str, Array]


class Function(Protocol):
    """Runs one signature: arrays in the order of its inputs in, of its outputs out.

    `is_quick` says that the last run took so little that a thread of its own is not worth it.
    """

    is_quick: bool

    def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> list[Array]: ...


class Servable:
    """One loaded model version. Calls are safe from any number of threads until `close`."""

    def __init__(
        self,
        signatures: Mapping[str, Signature],
        functions: Mapping[str, Function],
        *,
        definitions: Mapping[str, bytes],
        close: Callable[[], None],
        problems: Sequence[str] = (),
        restored_from: Path = Path(),
    ) -> None:
        self.signatures = signatures
        self.definitions = definitions
        """Serialized `SignatureDef` of every signature in the export, servable or not."""
        self.problems = problems
        """What is likely to trouble callers, each a sentence with the fix."""
        self.restored_from = restored_from
        """The folder that the graph restore loaded: the export, or its loadable copy."""
        self._functions = functions
        self._called: dict[str, Function] = {}
        self._close = close

    def signature(self, name: str) -> Signature:
        """The signature called `name`, `serving_default` for the empty name.

        Raises InvalidArgument, in TensorFlow Serving's words (util/json_tensor.cc).
        """
        try:
            return self.signatures[name or DEFAULT_SIGNATURE]
        except KeyError:
            raise InvalidArgument(
                f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def'
            ) from None

    def run(
        self, signature_name: str, inputs: Mapping[str, Array], *, timeout_ms: int = 0
    ) -> dict[str, Array]:
        """Outputs by name for inputs by name; shapes are the graph's business, not checked here.

        Strings are arrays of objects, `bytes` each. `timeout_ms` bounds the run of the graph,
        0 is no bound. Raises InvalidArgument when inputs and signature differ in names, else
        whatever the graph raises, with TensorFlow's message.
        """
        signature = self.signature(signature_name)
        if inputs.keys() != signature.inputs.keys():
            raise names_differ(inputs, signature)
        arrays = [np.asarray(inputs[name]) for name in signature.inputs]
        function = self._functions[signature.name]
        self._called[signature.name] = function
        results = function(arrays, timeout_ms)
        return dict(zip(signature.outputs, results, strict=True))

    @property
    def is_quick(self) -> bool:
        """Whether a thread is not worth it for a run: every signature's last one was quick."""
        return bool(self._called) and all(each.is_quick for each in self._called.values())

    def close(self) -> None:
        """Give back the session and its memory; the servable answers nothing after this."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def names_differ(inputs: Collection[str], signature: Signature) -> InvalidArgument:
    """In the words of servables/tensorflow/predict_util.cc."""
    given, wanted = sorted(inputs), sorted(signature.inputs)
    extra = ",".join(name for name in given if name not in signature.inputs)
    missing = ",".join(name for name in wanted if name not in inputs)
    return InvalidArgument(
        f"input size does not match signature: {len(given)}!={len(wanted)}"
        f" len({{{','.join(given)}}}) != len({{{','.join(wanted)}}})."
        f" Sent extra: {{{extra}}}. Missing but required: {{{missing}}}."
    )
