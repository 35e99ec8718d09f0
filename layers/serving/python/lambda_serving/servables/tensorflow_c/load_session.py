"""Opens a session over a SavedModel."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_char_p
from mmap import ACCESS_READ, mmap
from pathlib import Path

from lambda_serving import protos
from lambda_serving.servables.tensorflow_c.library import content_of, deleted, library, status
from lambda_serving.servables.tensorflow_c.session import Session
from lambda_serving.servables.tensorflow_c.stopping_runs import Places

__all__ = ["load_session"]

_WAITING = (
    b"While",
    b"NextIteration",
    b"Queue",
    b"Barrier",
    b"Dataset",
    b"Iterator",
    b"BatchFunction",
    b"Unbatch",
    b"Recv",
)
"""Parts of the names of ops that loop or wait. A file that contains one of them anywhere, even
within another word, counts as a graph that may wait."""
_GRAPHS = ("saved_model.pb", "saved_model.pbtxt")


def load_session(
    export_dir: str, tags: Sequence[str], config: bytes = b""
) -> tuple[Session, bytes]:
    """A session over a SavedModel, and its serialized `MetaGraphDef`.

    Loads as TensorFlow Serving does: restore op, then init op. `tags` choose the meta graph;
    `config` is a serialized `tensorflow.ConfigProto`. Raises TensorFlow's error for a SavedModel
    that it cannot load.
    """
    lib = library()
    may_wait = _may_wait(Path(export_dir))
    graph = lib.TF_NewGraph()
    try:
        with _session_options(_with_threads(config) if may_wait else config) as options:
            session, meta_graph = _load(graph, options, export_dir, tags)
    except BaseException:
        lib.TF_DeleteGraph(graph)
        raise
    return Session(session, graph, may_wait=may_wait), meta_graph


def _may_wait(export_dir: Path) -> bool:
    for name in _GRAPHS:
        path = export_dir / name
        if path.exists() and path.stat().st_size:
            with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                return any(content.find(op) >= 0 for op in _WAITING)
    return False


def _with_threads(config: bytes) -> bytes:
    """The `tensorflow.ConfigProto` with threads for this session alone, unless it names a pool.

    A loop occupies a thread: with shared threads, a few loops would leave none to other models.
    """
    known = protos.message("tensorflow.ConfigProto").FromString(config)
    if known.session_inter_op_thread_pool or known.use_per_session_threads:
        return config
    known.use_per_session_threads = True
    known.inter_op_parallelism_threads = max(known.inter_op_parallelism_threads, Places.count)
    return bytes(known.SerializeToString())


def _load(graph: int, options: int, export_dir: str, tags: Sequence[str]) -> tuple[int, bytes]:
    """The session's pointer and the serialized `MetaGraphDef`."""
    lib = library()
    names = (c_char_p * len(tags))(*(tag.encode() for tag in tags))
    with deleted(lib.TF_NewBuffer()) as buffer:
        with status() as st:
            session = lib.TF_LoadSessionFromSavedModel(
                options, None, os.fsencode(export_dir), names, len(tags), graph, buffer, st
            )
        return session, content_of(buffer)


@contextmanager
def _session_options(config: bytes) -> Iterator[int]:
    lib = library()
    options = lib.TF_NewSessionOptions()
    try:
        with status() as st:
            lib.TF_SetConfig(options, config, len(config), st)
        yield options
    finally:
        lib.TF_DeleteSessionOptions(options)
