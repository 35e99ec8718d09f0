"""Opens a session over a SavedModel: from its variables, or compiled."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lambda_serving.errors import DataLoss, FailedPrecondition, NotFound
from lambda_serving.servables import compiled_folder, signature_defs
from lambda_serving.servables.session_overrides import overridden
from lambda_serving.servables.tensorflow_c import library
from lambda_serving.servables.tensorflow_c.graph_costs import Costs
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

__all__ = ["Opened", "open_session"]

_ValuesOf = Callable[[Sequence[MappedFile]], Values]


@dataclass(frozen=True, slots=True)
class Opened:
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


def open_session(
    path: Path,
    tags: Sequence[str],
    session_config: bytes,
    cache: Path | None,
    shared: "Shared | None",
    *,
    files_stay: bool,
) -> Opened:
    """Opens the SavedModel in `path`; the arguments are those of `saved_model.load`.

    Raises DataLoss when files are missing or spoilt, FailedPrecondition when variables cannot be
    restored, and TensorFlow's error for an export that it cannot load.
    """
    config = overridden(session_config, path)
    if compiled_folder.is_compiled(path):
        with _weights(path, shared, files_stay=files_stay) as values_of:
            return _open_compiled(path, tags, config, values_of)
    opened = _restore(path, tags, config)
    return _from_object_graph(opened, tags, config, cache) if opened.unset else opened


def _from_object_graph(
    opened: Opened, tags: Sequence[str], config: bytes, cache: Path | None
) -> Opened:
    """The export again, from its loadable copy, if the graph left variables without a value."""
    opened.session.close()
    path, unset = opened.path, ", ".join(opened.unset)
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


def _open_compiled(path: Path, tags: Sequence[str], config: bytes, values_of: _ValuesOf) -> Opened:
    """A session over a frozen graph with its weights; the optimisers are off."""
    if op_libraries := compiled_folder.check(path, library.version()):
        from lambda_serving.servables.tensorflow_c import op_packages  # few graphs need it

        op_packages.load_named(op_libraries)
    session, meta_graph = _session(path, tags, compiled_folder.without_optimisers(config))
    with ExitStack() as on_failure:
        on_failure.callback(session.close)
        files = compiled_folder.mapped_files(meta_graph, path)
        assign(session, files, values_of(files))
        on_failure.pop_all()
    return Opened(path, session, signature_defs.definitions(meta_graph), Costs.of(meta_graph))


@contextmanager
def _weights(path: Path, shared: "Shared | None", *, files_stay: bool) -> Iterator[_ValuesOf]:
    """Yields a function from a graph's weight files to their values; starts reading at once."""
    if files_stay and os.statvfs(path).f_flag & os.ST_RDONLY:
        yield map_files
        return
    from lambda_serving.servables.tensorflow_c import weights_reader  # mapping does not need it

    with weights_reader.reading(compiled_folder.weights_in(path), shared) as read:
        yield lambda _: read()


def _session(path: Path, tags: Sequence[str], config: bytes) -> tuple[Session, bytes]:
    """As `load_session`; loads the ops of installed packages if the graph needs them."""
    try:
        return load_session(str(path), tags, config)
    except NotFound as error:
        from lambda_serving.servables.tensorflow_c import op_packages  # few graphs need it

        op_packages.load_missing(error, path)
        return load_session(str(path), tags, config)


def _restore(path: Path, tags: Sequence[str], config: bytes) -> Opened:
    session, meta_graph = _session(path, tags, config)
    definitions = signature_defs.definitions(meta_graph)
    outputs = {
        spec.tensor_name
        for signature in signature_defs.signatures(definitions).values()
        for spec in signature.outputs.values()
    }
    unset = uninitialized_variables(session, sorted(outputs))
    return Opened(path, session, definitions, Costs.of(meta_graph), unset)
