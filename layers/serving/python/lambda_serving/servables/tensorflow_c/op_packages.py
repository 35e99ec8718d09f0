"""Loads op libraries from installed packages, for graphs with ops that are not registered.

TensorFlow Serving's binary includes the ops of TensorFlow Text and of Decision Forests
(model_servers/BUILD, `SUPPORTED_TENSORFLOW_OPS`). Here they come from those packages, which are
not imported, as that would start Python TensorFlow. A library is opened only when a load fails
because of an op whose name it contains, or when a compiled graph names it.
"""

import mmap
import re
from collections.abc import Collection
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from lambda_serving.errors import FailedPrecondition, InvalidArgument, NotFound
from lambda_serving.servables.graph_defs import meta_graphs
from lambda_serving.servables.tensorflow_c.library import version
from lambda_serving.servables.tensorflow_c.op_libraries import (
    load_op_library,
    loaded_op_libraries,
    ops,
)

__all__ = ["load_missing", "load_named", "loaded_names"]

_PACKAGES = {
    "tensorflow_text": ("python/ops/*.so", "python/metrics/*.so"),
    "tensorflow_decision_forests": ("tensorflow/ops/inference/*.so",),
}
"""For each package, where its op libraries lie."""
_UNREGISTERED = re.compile(r"Op type not registered '([^']+)'")


def load_missing(error: NotFound, export_dir: Path) -> None:
    """Loads the libraries that the SavedModel in `export_dir` lacked when it failed with `error`.

    Looks for all of its ops, not only the one that `error` names. Raises `error` when no package
    has any of them, FailedPrecondition when a package that does is incompatible with TensorFlow.
    """
    found = {}
    if unregistered := _UNREGISTERED.search(str(error)):
        missing = {unregistered[1]} | _ops(export_dir)
        found = _libraries_with(missing - {op.name for op in ops()})
    if not found:
        raise error
    for name, path in found.items():
        _load(name, path)


def loaded_names() -> list[str]:
    """The names, for `load_named`, of the packages' libraries that this process has loaded."""
    loaded = set(loaded_op_libraries())
    return [name for name, path in _libraries().items() if str(path) in loaded]


def load_named(names: Collection[str]) -> None:
    """Loads libraries of installed packages, such as `tensorflow_text/python/ops/_x.so`.

    Skips those that are not installed: loading what needs them will fail.
    """
    for name, path in _libraries().items():
        if name in names:
            load_op_library(str(path))


def _libraries() -> dict[str, Path]:
    """All libraries of installed packages, by path relative to the package's parent folder."""
    return {
        f"{package}/{path.relative_to(folder)}": path
        for package, patterns in _PACKAGES.items()
        if (spec := find_spec(package))  # finds without importing
        for folder in map(Path, spec.submodule_search_locations or ())
        for pattern in patterns
        for path in sorted(folder.glob(pattern))
    }


def _ops(export_dir: Path) -> set[str]:
    """The ops of a SavedModel's graphs; none if it cannot be read."""
    graphs = [meta_graph.graph_def for meta_graph in meta_graphs(export_dir) or ()]
    bodies = (function.node_def for graph in graphs for function in graph.library.function)
    return {node.op for nodes in chain((graph.node for graph in graphs), bodies) for node in nodes}


def _libraries_with(names: Collection[str]) -> dict[str, Path]:
    """The libraries that contain the name of one of these ops."""
    found = {}
    for name, path in _libraries().items():
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as content:
            if any(content.find(op.encode()) >= 0 for op in names):
                found[name] = path
    return found


def _load(name: str, path: Path) -> None:
    try:
        load_op_library(str(path))
    except InvalidArgument as error:
        package = name.partition("/")[0].replace("_", "-")
        raise FailedPrecondition(
            f"It has ops of {package}{_version(package)}, which is incompatible with TensorFlow"
            f" {version()}. Install a version of {package} built for it, if there is one. {error}"
        ) from error


def _version(distribution: str) -> str:
    from importlib import metadata  # only a failure needs it

    try:
        return f" {metadata.version(distribution)}"
    except metadata.PackageNotFoundError:  # only its libraries are installed
        return ""
