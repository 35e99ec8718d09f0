"""A loaded model version: named functions, arrays in, arrays out."""

import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

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


class TensorSpec(NamedTuple):
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


class Signature(NamedTuple):
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


@dataclass(eq=False, repr=False)
class Servable:
    """One loaded model version. Calls are safe from any number of threads until `close`."""

    signatures: Mapping[str, Signature]
    functions: Mapping[str, Function]
    definitions: Mapping[str, bytes] = field(kw_only=True)
    """Serialized `SignatureDef` of every signature in the export, callable or not."""
    close: Callable[[], None] = field(kw_only=True)
    """Releases the session and its memory; the servable cannot be used afterwards."""
    uncallable: Mapping[str, str] = field(default_factory=dict)
    """The signatures that cannot be called, each with the reason."""
    problems: Sequence[str] = ()
    """Likely problems for callers, each a sentence with the fix."""
    restored_from: Path = Path()
    """The folder that the graph restore loaded: the export, or its loadable copy."""
    select: Callable[[str, tuple[str, ...]], Function] | None = None
    """Returns a signature's function for only some of its outputs."""
    wants_values: bool = False
    """Whether empty inputs are refused unless they have the declared shape."""
    _joining: dict[str, JoiningFunction] = field(default_factory=dict, init=False)

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
        if name in self.uncallable:
            raise InvalidArgument(self.uncallable[name])
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
        function, names = self._chosen(signature, only)
        return dict(zip(names, function(arrays, timeout_ms), strict=True))

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
            if function := join(signature, self.functions[name]):
                self._joining[name] = function
        self.functions = {**self.functions, **self._joining}
        self.close = partial(_close, self._joining, self.close)
        return self

    def is_quick(
        self, signature_name: str, inputs: Mapping[str, Array], *, only: Sequence[str] = ()
    ) -> bool:
        """Whether such a `run` is certain to take too little time to be worth a thread."""
        signature, arrays = self._matched(signature_name, inputs)
        function, _ = self._chosen(signature, only)
        return function.is_quick(arrays)

    def _chosen(self, signature: Signature, only: Sequence[str]) -> tuple[Function, Iterable[str]]:
        """The function for these outputs, or for all of them, and the names of what it returns."""
        if only and self.select and signature.name not in self._joining:
            return self.select(signature.name, tuple(only)), only
        return self.functions[signature.name], signature.outputs

    def _matched(
        self, signature_name: str, inputs: Mapping[str, Array]
    ) -> tuple[Signature, list[Array]]:
        signature = self.signature(signature_name)
        if inputs.keys() != signature.inputs.keys():
            raise names_differ(inputs, signature)
        arrays = [np.asarray(inputs[name]) for name in signature.inputs]
        if self.wants_values:
            for (name, spec), array in zip(signature.inputs.items(), arrays, strict=True):
                _check_values(name, spec, array)
        return signature, arrays

    def when_dropped(self, dropped: Callable[[Callable[[], None]], object]) -> None:
        """When the last reference to this is gone, passes `dropped` a function that closes it.

        `dropped` is called on the thread that dropped the last reference: it must not block.
        """
        weakref.finalize(self, dropped, self.close).atexit = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_values(name: str, spec: TensorSpec, array: Array) -> None:
    """Protects XLA, which divides by a convolution's channels and crashes if there are none."""
    if array.size or spec.allows(array.shape):
        return
    wanted = ", ".join("any" if size is None else str(size) for size in spec.shape or ())
    raise InvalidArgument(
        f"Input {name!r} of shape {list(array.shape)} holds no values. The signature declares the"
        f" shape [{wanted}], and code compiled by XLA takes no other one without values"
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
