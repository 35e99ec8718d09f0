"""A loaded model version: named functions, arrays in, arrays out."""

import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import InvalidArgument

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = [
    "DEFAULT_SIGNATURE",
    "Function",
    "JoiningFunction",
    "Servable",
    "Signature",
    "TensorSpec",
    "names_differ",
]

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

    def allows(self, shape: Sequence[int]) -> bool:
        """Whether the signature declares arrays of this shape."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            each in {None, size} for each, size in zip(self.shape, shape, strict=True)
        )


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

    def named(self, outputs: Sequence[Array]) -> dict[str, Array]:
        """Outputs by name, for outputs in the order of `self.outputs`."""
        return dict(zip(self.outputs, outputs, strict=True))


class Function(Protocol):
    """Runs one signature: takes arrays in the order of its inputs, returns its outputs in order.

    `is_quick` says that a run of these inputs is certain to take too little time to be worth a
    thread.
    """

    def is_quick(self, inputs: Sequence[Array]) -> bool: ...

    def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> list[Array]: ...


class JoiningFunction(Function, Protocol):
    """A function whose concurrent runs may be joined into one.

    `submit` returns a future of the outputs, or None if this run cannot be joined with others: then
    call the function. `close` returns when everything submitted is done.
    """

    def submit(self, inputs: Sequence[Array], timeout_ms: int) -> "Future[list[Array]] | None": ...

    def close(self) -> None: ...


class Servable:
    """One loaded model version. Calls are safe from any number of threads until `close`."""

    def __init__(
        self,
        signatures: Mapping[str, Signature],
        functions: Mapping[str, Function],
        *,
        definitions: Mapping[str, bytes],
        close: Callable[[], None],
        uncallable: Mapping[str, str] | None = None,
        problems: Sequence[str] = (),
        restored_from: Path = Path(),
        select: Callable[[str, tuple[str, ...]], Function] | None = None,
        wants_values: bool = False,
    ) -> None:
        """`select` returns a signature's function for only some of its outputs.

        With `wants_values`, empty inputs are refused unless they have the declared shape.
        """
        self.signatures = signatures
        self.definitions = definitions
        """Serialized `SignatureDef` of every signature in the export, callable or not."""
        self._uncallable = uncallable or {}
        self.problems = problems
        """Likely problems for callers, each a sentence with the fix."""
        self.restored_from = restored_from
        """The folder that the graph restore loaded: the export, or its loadable copy."""
        self._functions = functions
        self._joining: dict[str, JoiningFunction] = {}
        self._close = close
        self._select = select
        self._wants_values = wants_values

    def signature(self, name: str) -> Signature:
        """The signature called `name`, `serving_default` for the empty name.

        Raises InvalidArgument if there is none, in TensorFlow Serving's words
        (util/json_tensor.cc), or if it cannot be called, with the reason.
        """
        if signature := self.callable_signature(name):
            return signature
        raise InvalidArgument(
            f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def'
        )

    def callable_signature(self, name: str) -> Signature | None:
        """As `signature`, but None if there is none."""
        name = name or DEFAULT_SIGNATURE
        if name in self._uncallable:
            raise InvalidArgument(self._uncallable[name])
        return self.signatures.get(name)

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, Array],
        *,
        timeout_ms: int = 0,
        only: Sequence[str] = (),
    ) -> dict[str, Array]:
        """Outputs by name for inputs by name; the graph checks shapes, this does not.

        `only` names distinct outputs to compute; all are computed if it is empty, or if runs are
        joined with others. Strings are object arrays of `bytes`. `timeout_ms` bounds the run of the
        graph, 0 means no bound. Raises InvalidArgument when the inputs' names differ from the
        signature's, else whatever the graph raises, with TensorFlow's message.
        """
        signature, arrays = self._matched(signature_name, inputs)
        outputs = self._function(signature, only)(arrays, timeout_ms)
        if self._selects(signature, only):
            return dict(zip(only, outputs, strict=True))
        return signature.named(outputs)

    def submit(
        self, signature_name: str, inputs: Mapping[str, Array], *, timeout_ms: int = 0
    ) -> "Future[list[Array]] | None":
        """As `run` without waiting: a future of outputs for `Signature.named`.

        None if runs of the signature are not joined with others: then call `run`.
        """
        signature, arrays = self._matched(signature_name, inputs)
        function = self._joining.get(signature.name)
        return function.submit(arrays, timeout_ms) if function else None

    def joined(self, join: Callable[[Signature, Function], JoiningFunction | None]) -> Self:
        """This servable, its functions replaced by those that `join` returns."""
        for name, signature in self.signatures.items():
            if function := join(signature, self._functions[name]):
                self._joining[name] = function
        self._functions = {**self._functions, **self._joining}
        return self

    def is_quick(
        self, signature_name: str, inputs: Mapping[str, Array], *, only: Sequence[str] = ()
    ) -> bool:
        """Whether such a `run` is certain to take too little time to be worth a thread."""
        signature, arrays = self._matched(signature_name, inputs)
        return self._function(signature, only).is_quick(arrays)

    def _function(self, signature: Signature, only: Sequence[str]) -> Function:
        if self._select and self._selects(signature, only):
            return self._select(signature.name, tuple(only))
        return self._functions[signature.name]

    def _selects(self, signature: Signature, only: Sequence[str]) -> bool:
        return bool(only and self._select and signature.name not in self._joining)

    def _matched(
        self, signature_name: str, inputs: Mapping[str, Array]
    ) -> tuple[Signature, list[Array]]:
        signature = self.signature(signature_name)
        if inputs.keys() != signature.inputs.keys():
            raise names_differ(inputs, signature)
        arrays = [np.asarray(inputs[name]) for name in signature.inputs]
        if self._wants_values:
            for (name, spec), array in zip(signature.inputs.items(), arrays, strict=True):
                _check_values(name, spec, array)
        return signature, arrays

    def close(self) -> None:
        """Releases the session and its memory; the servable cannot be used afterwards."""
        _close(self._joining, self._close)

    def when_dropped(self, dropped: Callable[[Callable[[], None]], object]) -> None:
        """When the last reference to this is gone, passes `dropped` a function that closes it.

        `dropped` is called on the thread that dropped the last reference: it must not block.
        """
        close = partial(_close, self._joining, self._close)
        weakref.finalize(self, dropped, close).atexit = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_values(name: str, spec: TensorSpec, array: Array) -> None:
    """Protects XLA, which divides by a convolution's channels and crashes if there are none."""
    if array.size or spec.allows(array.shape):
        return
    wanted = ["any" if size is None else size for size in spec.shape or ()]
    raise InvalidArgument(
        f"Input {name!r} of shape {list(array.shape)} holds no values. The signature declares the"
        f" shape {wanted}, and code compiled by XLA takes no other one without values"
    )


def _close(joining: Mapping[str, JoiningFunction], close: Callable[[], None]) -> None:
    for function in joining.values():
        function.close()
    close()


def names_differ(inputs: Collection[str], signature: Signature) -> InvalidArgument:
    """The error for differing names, in the words of servables/tensorflow/predict_util.cc."""
    given, wanted = sorted(inputs), sorted(signature.inputs)
    extra = ",".join(name for name in given if name not in signature.inputs)
    missing = ",".join(name for name in wanted if name not in inputs)
    return InvalidArgument(
        f"input size does not match signature: {len(given)}!={len(wanted)}"
        f" len({{{','.join(given)}}}) != len({{{','.join(wanted)}}})."
        f" Sent extra: {{{extra}}}. Missing but required: {{{missing}}}."
    )
