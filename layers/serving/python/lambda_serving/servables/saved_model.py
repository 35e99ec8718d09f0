"""Loads a SavedModel as a `Servable`."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from lambda_serving.errors import DataLoss, FailedPrecondition, NotFound, ServingError, Unavailable
from lambda_serving.servables import compiled, signature_defs
from lambda_serving.servables.servable import (
    DEFAULT_SIGNATURE,
    Function,
    Servable,
    Signature,
    TensorSpec,
)
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
from lambda_serving.servables.warmup import WarmUp
from lambda_serving.servables.warmup import warm_up as run_warm_up

if TYPE_CHECKING:
    from lambda_serving.servables.tensorflow_c.shared_memory import Shared

__all__ = ["load"]

_log = logging.getLogger(__name__)
_Weights = Callable[[], AbstractContextManager[Callable[[Sequence[MappedFile]], Values]]]
_SELECTIONS = 32  # choices of outputs whose functions are cached; each is a small object


def load(
    path: str | Path,
    *,
    tags: Sequence[str] = ("serve",),
    session_config: bytes = b"",
    warm_up: bool = True,
    warm_up_iterations: int = 1,
    cache: Path | None = None,
    wrap: Callable[[Servable, Path], Servable] | None = None,
    warmed_up: Callable[[WarmUp], None] | None = None,
    files_stay: bool = False,
    shared: "Shared | None" = None,
) -> Servable:
    """The servable of the SavedModel in `path`, restored as TensorFlow Serving restores it.

    `tags` choose the meta graph; `session_config` is a serialized `tensorflow.ConfigProto`.
    `warm_up` runs the export's warm-up requests, each `warm_up_iterations` times, and reports to
    `warmed_up`. `cache` keeps loadable copies of exports that need one (`object_graph`). `wrap`
    replaces the servable before it is warmed up. `files_stay` promises that nobody changes files
    that this process cannot write, so that compiled weights may be mapped; otherwise `shared` is
    where processes share the weights they read. Problems that do not prevent loading are logged as
    warnings, with their fix.

    Raises NotFound, DataLoss, InvalidArgument or another error that TensorFlow gives for the
    export, and what a failing warm-up request raises.
    """
    path = Path(path)
    with _naming(path), ExitStack() as on_failure:
        weights = partial(_weights, path, files_stay=files_stay, shared=shared)
        servable = _servable(_open(path, tags, session_config, cache, weights))
        on_failure.callback(servable.close)
        if wrap:
            servable = wrap(servable, path)
        if warm_up:
            run_warm_up(servable, path, warm_up_iterations, warmed_up)
        on_failure.pop_all()
    for problem in servable.problems:
        _log.warning("%s: %s", path, problem)
    return servable


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Adds the SavedModel's path, and a hint if there is one, to errors."""
    try:
        yield
    except ServingError as error:
        from lambda_serving.servables.load_failures import hint  # only a failure needs it

        raise type(error)(
            f"Could not load the SavedModel in {path}: {error}{hint(error, path)}"
        ) from error
    except OSError as error:
        raise Unavailable(f"Could not load the SavedModel in {path}: {error}") from error


def _tensor(spec: TensorSpec) -> str:
    """The tensor's full name: `x` means `x:0`."""
    return spec.tensor_name if ":" in spec.tensor_name else f"{spec.tensor_name}:0"


def _problems(by_name: Mapping[str, Signature], uncallable: Mapping[str, str]) -> list[str]:
    """Likely problems for callers of these signatures, each a sentence with the fix."""
    found = [
        f"input {name!r} of signature {signature.name!r} takes only {spec.shape[0]} rows at"
        " once, often the batch size of its training. model.export(path) keeps it free"
        for signature in by_name.values()
        for name, spec in signature.inputs.items()
        if spec.shape and spec.shape[0] is not None
    ]
    found += uncallable.values()
    found += [
        f"output {output!r} of signature {signature.name!r} is its input {name!r}, and TensorFlow"
        f" refuses every call: {_tensor(there)} is both fed and fetched. Export tf.identity of it"
        for signature in by_name.values()
        for output, there in signature.outputs.items()
        for name, spec in signature.inputs.items()
        if _tensor(spec) == _tensor(there)
    ]
    if DEFAULT_SIGNATURE not in {**by_name, **uncallable}:
        found.append(
            f"there is no signature {DEFAULT_SIGNATURE!r}: every request must name its signature"
            f" ({', '.join(map(repr, sorted(by_name)))})"
            if by_name
            else "it has no signature to call. Export it with model.export(path), or name"
            " signatures in tf.saved_model.save"
        )
    return found


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
        problems=[*opened.problems, *_problems(signatures, uncallable)],
        restored_from=opened.path,
        close=session.close,
        wants_values=opened.costs.any_compiled(),
    )
