"""LiteRT's interpreters of one model, each used by one thread at a time.

Source: servables/tensorflow/tflite_interpreter_pool.cc, which makes all of them at load. Here each
but the first is made when a run first needs it, because each packs its own copy of the weights.
"""

import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from lambda_serving.dtypes import Array
from lambda_serving.errors import Cancelled, DeadlineExceeded, FailedPrecondition, InvalidArgument
from lambda_serving.servables.cancellation import Cancellation
from lambda_serving.servables.litert.model_file import FileSignature, ModelFile

__all__ = ["Interpreters", "Model", "open_model"]

_PLAIN = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
_MOST_SAID = 10_000  # characters of errors, some hundred errors
_LOOK_SECONDS = 0.05  # between looks at whether a waiting call was cancelled
_NO_VALUES = "Invalid tensor size"  # of an output without values whose shape was not known before


def open_model(
    source: str | bytes, file: ModelFile, threads: int, *, plain: bool = False
) -> "Model":
    """An interpreter of the `.tflite` file at a path, or with this content; `file` describes it.

    A `plain` one runs without XNNPACK. A file at a path stays mapped. Raises FailedPrecondition,
    with LiteRT's reason, for a file that it refuses.
    """
    where = {"model_path": source} if isinstance(source, str) else {"model_content": source}
    kernels = _PLAIN if plain else OpResolverType.AUTO
    try:
        return Model(
            Interpreter(**where, num_threads=threads, experimental_op_resolver_type=kernels), file
        )
    except (RuntimeError, ValueError) as error:
        raise FailedPrecondition(f"LiteRT refuses it: {_sentence(str(error))}") from error


def _lacking(reason: str) -> FailedPrecondition | None:
    """The error for a model with operations that LiteRT does not have, which only a run finds out.

    None if the reason of a failure is another.
    """
    if "Select TensorFlow op" not in reason and "unresolved custom op" not in reason:
        return None
    operation = re.search(r"Node number \d+ \((\w+)\)", reason)
    return FailedPrecondition(
        f"It needs the operation {operation[1] if operation else reason}, which LiteRT does not"
        " have. Convert it with built-in operations only, or serve the SavedModel"
    )


def _sentence(said: str) -> str:
    """What LiteRT said, in one line without a full stop."""
    line = " ".join(said.replace("Node number", ". Node number").split())
    return line.replace(" .", ".").replace("..", ".").rstrip(" .") or "it gives no reason"


class Model:
    """One interpreter, for one thread at a time.

    LiteRT repeats all that an interpreter has said in each error, so an interpreter that has said
    much is `worn_out`: drop it.
    """

    def __init__(self, interpreter: Any, file: ModelFile) -> None:
        self._interpreter = interpreter
        self._signatures = file.signatures
        self._forget = interpreter.reset_all_variables if file.operations.recur else None
        self._shapes = dict[int, tuple[int, ...]]()
        self._said = ""
        several = any(each.subgraph for each in file.signatures.values())
        self._runners = {  # a run takes longer by them, and the interpreter then has no other way
            name: interpreter.get_signature_runner(each.key)
            for name, each in file.signatures.items()
            if several
        }

    @property
    def worn_out(self) -> bool:
        return len(self._said) > _MOST_SAID

    def run(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name of the signature `name`.

        Raises InvalidArgument with LiteRT's reason, and FailedPrecondition for a model with
        operations that it does not have.
        """
        try:
            if self._forget:
                self._forget()
            if name in self._runners:
                return self._run_signature(name, inputs)
            return self._run_first_subgraph(self._signatures[name], inputs)
        except (RuntimeError, ValueError) as error:
            self._shapes = {}
            said = str(error)
            reason = _sentence(said.removeprefix(self._said))
            self._said = said
            failed = InvalidArgument(f"LiteRT could not run the model: {reason}")
            raise _lacking(reason) or failed from error

    def _run_signature(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        runner = self._runners[name]
        try:
            outputs: dict[str, Array] = runner(
                **{key: _fed(array) for key, array in inputs.items()}
            )
        except ValueError as error:
            if _NO_VALUES not in str(error):
                raise
            subgraph, details = self._signatures[name].subgraph, runner.get_output_details()
            outputs = {key: self._output(each, subgraph) for key, each in details.items()}
        return outputs

    def _run_first_subgraph(
        self, signature: FileSignature, inputs: Mapping[str, Array]
    ) -> dict[str, Array]:
        interpreter, places = self._interpreter, signature.inputs
        fed = {places[name]: _fed(array) for name, array in inputs.items()}
        shapes = {index: array.shape for index, array in fed.items()}
        if shapes != self._shapes:
            self._shapes = {}
            for index, shape in shapes.items():
                interpreter.resize_tensor_input(index, shape)
            interpreter.allocate_tensors()
            self._shapes = shapes
        for index, array in fed.items():
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        try:
            return {
                name: interpreter.get_tensor(index) for name, index in signature.outputs.items()
            }
        except ValueError as error:
            if _NO_VALUES not in str(error):
                raise
        details = {each["index"]: each for each in interpreter.get_output_details()}
        return {name: self._output(details[index], 0) for name, index in signature.outputs.items()}

    def _output(self, details: Mapping[str, Any], subgraph: int) -> Array:
        if 0 in details["shape"]:
            dtype = np.dtype(details["dtype"])
            return np.empty(details["shape"], object if dtype.kind == "S" else dtype)
        array: Array = self._interpreter.get_tensor(details["index"], subgraph)
        return array


def _fed(array: Array) -> Array:
    """The array as LiteRT reads it: of a single string without dimensions it takes the bytes."""
    if array.ndim or not array.dtype.hasobject:
        return array
    string: bytes = array.item()
    return np.ndarray((), f"S{len(string)}", string)


def _make_none() -> Model:
    raise FailedPrecondition("Session has been closed.")


class Interpreters:
    """Up to `count` interpreters for the runs of any number of threads, until `close`.

    `first` is one of them if there is one already, and `make` makes another one. Whoever takes one
    has to give it back. If one is idle, neither needs a lock.
    """

    def __init__(self, first: Model | None, make: Callable[[], Model], count: int) -> None:
        self._make = make
        self._idle = [first] if first else []
        self._count = count
        self._unmade = count - len(self._idle)
        self._waiting = 0
        self._closed = False
        self._changed = threading.Condition()

    def take(self, timeout_ms: int) -> Model:
        """An interpreter, for one run.

        Waits for one, and raises DeadlineExceeded after `timeout_ms` (0: no bound), Cancelled when
        the call is cancelled before that, and FailedPrecondition when closed.
        """
        cancellation = Cancellation.current()
        if cancellation and cancellation.cancelled:
            raise Cancelled("The call was cancelled")
        try:
            return self._idle.pop()
        except IndexError:
            return self._awaited(timeout_ms, cancellation) or self._made()

    def give_back(self, model: Model) -> None:
        """Lets another run have it."""
        if model.worn_out:
            self._drop()
            return
        self._idle.append(model)
        if self._waiting:  # whoever waits has counted itself before it looked for an idle one
            with self._changed:
                self._changed.notify()

    def close(self) -> None:
        """Waits for runs in flight, then releases all interpreters."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._waiting += 1
            while self._unmade < self._count:
                try:
                    self._idle.pop()
                except IndexError:
                    self._changed.wait()
                else:
                    self._unmade += 1
            self._waiting -= 1
            self._make = _make_none  # the other one holds the file

    def _made(self) -> Model:
        try:
            return self._make()
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        with self._changed:
            self._unmade += 1
            self._changed.notify()

    def _awaited(self, timeout_ms: int, cancellation: Cancellation | None) -> Model | None:
        """One that is idle; None if one has to be made."""
        late = monotonic() + timeout_ms / 1000 if timeout_ms > 0 else inf
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    if self._closed:
                        raise FailedPrecondition("Session has been closed.")
                    if cancellation and cancellation.cancelled:
                        raise Cancelled("The call was cancelled")
                    if self._idle:
                        with suppress(IndexError):  # another thread may be first
                            return self._idle.pop()
                    if self._unmade:
                        self._unmade -= 1
                        return None
                    if monotonic() >= late:
                        raise DeadlineExceeded(
                            f"Timed out waiting for {self._count} other runs of the model"
                        )
                    self._changed.wait(_LOOK_SECONDS)
            finally:
                self._waiting -= 1
