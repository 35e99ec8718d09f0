"""Opens the SavedModel of a folder in TensorFlow: from its variables, or compiled."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from lambda_serving.errors import DataLoss, FailedPrecondition, NotFound
from lambda_serving.servables import compiled, signature_defs
from lambda_serving.servables.problems import signature_problems
from lambda_serving.servables.servable import Function, Servable, Signature, TensorSpec
from lambda_serving.servables.session_overrides import overridden
from lambda_serving.servables.tensorflow_c.graph_costs import Costs
from lambda_serving.servables.tensorflow_c.library import version as tensorflow_version
from lambda_serving.servables.tensorflow_c.load_session import load_session
from lambda_serving.servables.tensorflow_c.mapped_weights import (
    MappedFile,
    Values,
    assign,
    map_files,
)
from lambda_serving.servables.tensorflow_c.session import Session
from lambda_serving.servables.tensorflow_c.variables import uninitialized_variables

if TYPE_CHECKING:
    from lambda_serving.servables.tensorflow_c.shared_memory import Shared

__all__ = ["open_saved_model"]

_Weights = Callable[[], AbstractContextManager[Callable[[Sequence[MappedFile]], Values]]]
_SELECTIONS = 32  # choices of outputs whose functions are cached; each is a small object


def open_saved_model(
    path: Path,
    tags: Sequence[str],
    session_config: bytes,
    cache: Path | None,
    *,
    files_stay: bool,
    shared: "Shared | None",
) -> Servable:
    """The servable of a SavedModel; see `saved_model.load`. Raises TensorFlow's errors."""
    weights = partial(_weights, path, files_stay=files_stay, shared=shared)
    return _servable(_open(path, tags, session_config, cache, weights))


@dataclass(frozen=True, slots=True)
class _Opened:
    """A session and what is known about its graph.

    `unset` are variables that a signature reads and that have no value; `problems` are sentences
    about what had to be repaired.
    """

    path: Path
    session: Session
    definitions: Mapping[str, bytes]
    costs: Costs
    unset: Sequence[str] = ()
    problems: Sequence[str] = ()


def _open(
    path: Path,
    tags: Sequence[str],
    config: bytes,
    cache: Path | None,
    weights: _Weights,
) -> _Opened:
    config = overridden(config, path)
    if compiled.is_compiled(path):
        return _open_compiled(path, tags, config, weights)
    opened = _restore(path, tags, config)
    if not opened.unset:
        return opened
    opened.session.close()
    unset = ", ".join(opened.unset)
    if not (path / "variables" / "variables.index").exists():
        raise DataLoss(
            f"variables/variables.index is missing, but the graph reads {len(opened.unset)}"
            " variables. The export was copied in part: copy it again"
        )
    from lambda_serving.servables.object_graph import loadable_copy  # few exports need it

    opened = _restore(loadable_copy(path, tags, cache), ("serve",), config)
    if opened.unset:
        opened.session.close()
        raise FailedPrecondition(
            "Neither the graph nor the object graph restores the variables"
            f" {', '.join(opened.unset)}"
        )
    problem = (
        f"the graph restore leaves the variables {unset} without a value, so"
        " TensorFlow Serving cannot serve this export. Its object graph was used instead, which"
        " starts Python TensorFlow once. Export with model.export(path)"
    )
    return replace(opened, problems=[problem])


def _open_compiled(path: Path, tags: Sequence[str], config: bytes, weights: _Weights) -> _Opened:
    """A session over a frozen graph with its weights; the optimisers are off."""
    with weights() as values_of, ExitStack() as on_failure:
        if op_libraries := compiled.check(path, tensorflow_version()):
            from lambda_serving.servables.tensorflow_c.op_packages import (
                load_named,  # few graphs need it
            )

            load_named(op_libraries)
        session, meta_graph = _session(path, tags, compiled.without_optimisers(config))
        on_failure.callback(session.close)
        files = compiled.mapped_files(meta_graph, path)
        assign(session, files, values_of(files))
        on_failure.pop_all()
    return _Opened(path, session, signature_defs.definitions(meta_graph), Costs.of(meta_graph))


@contextmanager
def _weights(
    path: Path, *, files_stay: bool, shared: "Shared | None"
) -> Iterator[Callable[[Sequence[MappedFile]], Values]]:
    """Yields a function from a graph's weight files to their values; starts reading at once."""
    if files_stay and os.statvfs(path).f_flag & os.ST_RDONLY:
        yield map_files
        return
    from lambda_serving.servables.tensorflow_c.weights_reader import (
        reading,  # mapping does not need it
    )

    with reading(compiled.weights_in(path), shared) as read:
        yield lambda _: read()


def _session(path: Path, tags: Sequence[str], config: bytes) -> tuple[Session, bytes]:
    """As `load_session`; loads the ops of installed packages if the graph needs them."""
    try:
        return load_session(str(path), tags, config)
    except NotFound as error:
        from lambda_serving.servables.tensorflow_c.op_packages import (
            load_missing,  # few graphs need it
        )

        load_missing(error, path)
        return load_session(str(path), tags, config)


def _restore(path: Path, tags: Sequence[str], config: bytes) -> _Opened:
    session, meta_graph = _session(path, tags, config)
    definitions = signature_defs.definitions(meta_graph)
    outputs = {
        spec.tensor_name
        for signature in signature_defs.signatures(definitions).values()
        for spec in signature.outputs.values()
    }
    unset = uninitialized_variables(session, sorted(outputs))
    return _Opened(path, session, definitions, Costs.of(meta_graph), unset)


def _servable(opened: _Opened) -> Servable:
    signatures = signature_defs.signatures(opened.definitions)
    uncallable = signature_defs.uncallable(opened.definitions)
    session = opened.session
    steady = {
        name
        for name, signature in signatures.items()
        if opened.costs.follow_shapes(spec.tensor_name for spec in signature.outputs.values())
    }

    def function(name: str, outputs: Iterable[str]) -> Function:
        signature = signatures[name]
        return compiled.function(
            session,
            [spec.tensor_name for spec in signature.inputs.values()],
            [signature.outputs[output].tensor_name for output in outputs],
            follows_shapes=name in steady,
        )

    return Servable(
        signatures,
        {name: function(name, signature.outputs) for name, signature in signatures.items()},
        select=lru_cache(_SELECTIONS)(function),
        definitions=opened.definitions,
        uncallable=uncallable,
        problems=[
            *opened.problems,
            *signature_problems(signatures, uncallable),
            *_unfetchable(signatures),
        ],
        restored_from=opened.path,
        close=session.close,
        wants_values=opened.costs.any_compiled(),
    )


def _unfetchable(by_name: Mapping[str, Signature]) -> list[str]:
    """The outputs that TensorFlow refuses to fetch, each a sentence with the fix."""
    return [
        f"output {output!r} of signature {signature.name!r} is its input {name!r}, and TensorFlow"
        f" refuses every call: {_tensor(there)} is both fed and fetched. Export tf.identity of it"
        for signature in by_name.values()
        for output, there in signature.outputs.items()
        for name, spec in signature.inputs.items()
        if _tensor(spec) == _tensor(there)
    ]


def _tensor(spec: TensorSpec) -> str:
    """The tensor's full name: `x` means `x:0`."""
    return spec.tensor_name if ":" in spec.tensor_name else f"{spec.tensor_name}:0"
