"""The format of a compiled servable: a SavedModel with large weights in files beside its graph.

`saved_model.pb` holds the frozen, optimised graph. Each weight is a variable `weights/DIGEST`, with
its value in the file of that name; `weights/DIGEST/assign` assigns what is fed to
`weights/DIGEST/value`. The digest verifies the content. The graph holds no paths, so the folder may
lie anywhere. `assets.extra/compiled.json` marks the folder as compiled and names the TensorFlow
version.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from lambda_serving import protos
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import (
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    ServingError,
)
from lambda_serving.servables.cancellation import time_left
from lambda_serving.servables.graph_defs import meta_graphs
from lambda_serving.servables.servable import Function
from lambda_serving.servables.tensorflow_c.mapped_weights import MappedFile
from lambda_serving.servables.tensorflow_c.session import Session
from lambda_serving.servables.tensorflow_c.session_function import session_function

__all__ = [
    "ASSIGNMENT",
    "FEED",
    "MARKER",
    "PLAIN",
    "WEIGHTS",
    "WithPlain",
    "check",
    "function",
    "is_compiled",
    "mapped_files",
    "mark",
    "weights_in",
    "without_optimisers",
]

MARKER = "assets.extra/compiled.json"
WEIGHTS, FEED, ASSIGNMENT = "weights/", "/value", "/assign"
PLAIN = "lambda_serving/plain/"
"""Prefix of the nodes of a graph's plain copy, which answers where the fused graph fails."""
_FORMAT = 1


def is_compiled(export_dir: Path) -> bool:
    """Whether a folder is marked as compiled."""
    return (export_dir / MARKER).exists()


def mark(folder: Path, tensorflow_version: str, op_libraries: Sequence[str] = ()) -> None:
    """Marks a folder as compiled for this version of TensorFlow.

    `op_libraries` are the packages' libraries that its graph needs (`op_packages.load_named`).
    """
    marker = folder / MARKER
    marker.parent.mkdir(exist_ok=True)
    made: dict[str, Any] = {"format": _FORMAT, "tensorflow": tensorflow_version}
    if op_libraries:
        made["op_libraries"] = list(op_libraries)
    marker.write_text(json.dumps(made) + "\n")


def check(export_dir: Path, tensorflow_version: str) -> list[str]:
    """The packages' op libraries that a compiled folder needs.

    Raises FailedPrecondition when the folder was compiled for another TensorFlow, because the graph
    uses internal operations that may change between versions. Raises DataLoss when the marker
    cannot be read.
    """
    try:
        made = json.loads((export_dir / MARKER).read_bytes())
        wanted = (made["format"], made["tensorflow"])
        op_libraries = [str(name) for name in made.get("op_libraries", ())]
    except (KeyError, TypeError, ValueError) as error:
        raise DataLoss(f"{MARKER} is not what `lambda-serving compile` writes") from error
    if wanted != (_FORMAT, tensorflow_version):
        raise FailedPrecondition(
            f"It was compiled for TensorFlow {wanted[1]} (format {wanted[0]}), and this is"
            f" TensorFlow {tensorflow_version} (format {_FORMAT}). Compile it again from its export"
        )
    return op_libraries


def without_optimisers(session_config: bytes) -> bytes:
    """The `tensorflow.ConfigProto` without the optimisations that compiling has done already."""
    off = protos.message("tensorflow.ConfigProto")()
    off.graph_options.rewrite_options.disable_meta_optimizer = True
    off.graph_options.optimizer_options.opt_level = off.graph_options.optimizer_options.L0
    return session_config + bytes(off.SerializeToString())  # concatenated messages are merged


def function(
    session: Session, feeds: Sequence[str], fetches: Sequence[str], *, follows_shapes: bool
) -> Function:
    """As `session_function`; the graph's plain copy answers where the fused graph fails.

    The copy is not asked after a timeout or a cancellation.
    """
    copies = [PLAIN + name if session.has(PLAIN + name) else name for name in fetches]
    found = session_function(session, feeds, fetches, follows_shapes=follows_shapes)
    if copies == fetches:
        return found
    plain = session_function(session, feeds, copies, follows_shapes=follows_shapes)
    return WithPlain(found, plain)


@dataclass(frozen=True, slots=True)
class WithPlain:
    """A fused graph, and its plain copy for calls in which it fails."""

    fused: Function
    plain: Function

    def is_quick(self, inputs: Sequence[Array]) -> bool:
        return self.fused.is_quick(inputs)

    def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> list[Array]:
        start = monotonic()
        try:
            return self.fused(inputs, timeout_ms)
        except (Cancelled, DeadlineExceeded):
            raise
        except ServingError:
            return self.plain(inputs, time_left(timeout_ms, start))


def mapped_files(meta_graph: bytes, export_dir: Path) -> list[MappedFile]:
    """The weights of a compiled graph, a serialized `MetaGraphDef`."""
    parsed = protos.message("tensorflow.MetaGraphDef").FromString(meta_graph)
    return list(_mapped_files(parsed.graph_def, export_dir))


def weights_in(export_dir: Path) -> list[MappedFile]:
    """The weights of all graphs of a compiled folder; none if it cannot be read or parsed."""
    graphs = (meta_graph.graph_def for meta_graph in meta_graphs(export_dir) or ())
    return [file for graph in graphs for file in _mapped_files(graph, export_dir)]


def _mapped_files(graph: Any, export_dir: Path) -> Iterator[MappedFile]:
    for node in graph.node:
        if node.op == "VarHandleOp" and node.name.startswith(WEIGHTS):
            yield MappedFile(
                export_dir / node.name,
                DType(node.attr["dtype"].type),
                tuple(dim.size for dim in node.attr["shape"].shape.dim),
                feed=node.name + FEED,
                assignment=node.name + ASSIGNMENT,
            )
