"""Finds the variables that a loaded graph reads but that restoring left without a value."""

import ctypes
from collections.abc import Iterable, Iterator

from lambda_serving.servables.tensorflow_c.library import library, status
from lambda_serving.servables.tensorflow_c.operations import output_of
from lambda_serving.servables.tensorflow_c.prototypes import Output
from lambda_serving.servables.tensorflow_c.session import Session
from lambda_serving.servables.tensorflow_c.session_function import SessionFunction

__all__ = ["uninitialized_variables"]


def uninitialized_variables(session: Session, tensors: Iterable[str]) -> list[str]:
    """The sorted names of resource variables without a value that `tensors` depend on.

    Only reachable variables count: Keras 3's `model.export` leaves unused twins without a value,
    which is harmless, but its `tf.saved_model.save` leaves the ones that are read.
    """
    handles = list(_variable_handles(session.graph, tensors))
    checks = [_initialized_check(session.graph, handle) for handle in handles]
    if not checks:
        return []
    lib = library()
    return sorted(
        lib.TF_OperationName(handle).decode()
        for handle, initialized in zip(
            handles, SessionFunction(session, [], checks)([], 0), strict=True
        )
        if not initialized
    )


def _variable_handles(graph: int, tensors: Iterable[str]) -> Iterator[int]:
    """The `VarHandleOp`s that the tensors depend on, also by control edges."""
    lib = library()
    waiting = [output_of(graph, name).oper for name in tensors]
    seen = set(waiting)
    while waiting:
        operation = waiting.pop()
        if lib.TF_OperationOpType(operation) == b"VarHandleOp":
            yield operation
        for source in _sources(operation):
            if source not in seen:
                seen.add(source)
                waiting.append(source)


def _sources(operation: int) -> Iterator[int]:
    lib = library()
    inputs = (Output * lib.TF_OperationNumInputs(operation))()
    lib.TF_OperationAllInputs(operation, inputs, len(inputs))
    controls = (ctypes.c_void_p * lib.TF_OperationNumControlInputs(operation))()
    lib.TF_OperationGetControlInputs(operation, controls, len(controls))
    yield from (source.oper for source in inputs)
    yield from controls


def _initialized_check(graph: int, handle: int) -> Output:
    """Adds `VarIsInitializedOp(handle)` to the graph."""
    lib = library()
    name = b"lambda_serving/initialized/" + lib.TF_OperationName(handle)
    description = lib.TF_NewOperation(graph, b"VarIsInitializedOp", name)
    lib.TF_AddInput(description, Output(handle, 0))
    with status() as st:
        operation = lib.TF_FinishOperation(description, st)
    return Output(operation, 0)
