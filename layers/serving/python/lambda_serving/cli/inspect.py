"""`lambda-serving inspect`: shows what is in a SavedModel, and what is wrong with it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambda_serving.cli.console import printable, stages
from lambda_serving.cli.layout import show_text
from lambda_serving.cli.options import Loading, loading

if TYPE_CHECKING:  # these import numpy, which `serve` imports while TensorFlow loads
    from lambda_serving.servables.servable import Servable, TensorSpec

__all__ = ["inspect"]

_TITLES = {"tensorflow": "TensorFlow", "litert": "LiteRT"}
_INDENT = len("  output ")


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead")
@loading
def inspect(
    directory: Path,
    as_json: bool,  # noqa: FBT001 - as click passes it
    loading: Loading,
) -> None:
    """Show the signatures, size and problems of the SavedModel in DIRECTORY.

    DIRECTORY is a version's folder (with saved_model.pb) or a base path, of which every version is
    shown. Each version is loaded like the server loads it, warm-up included; the exit code is 1 if
    one does not load.

    The JSON document is {"versions": [...]}. Each version has "path" and "error"; the error is null
    for a version that loads, which also has its "runtime" ("tensorflow" or "litert"), "bytes",
    "problems" and "signatures". The latter maps each signature's name to its "method_name",
    "inputs" and "outputs", which map each tensor's name to its "dtype", its "shape" (null for any
    rank; a null size is free) and "tensor", its name in the graph.
    """
    from lambda_serving.cli.exports import exports

    found, load = exports(directory), loading.loader()
    versions = []
    for path in found:
        with stages(str(path)) as progress:
            progress("loading")
            versions.append(_described(path, load, loading.runtime(path)))
        if not as_json:
            _show(versions[-1])
    if as_json:
        click.echo(json.dumps({"versions": versions}, indent=2))
    if any(version["error"] for version in versions):
        sys.exit(1)


def _described(
    export_dir: Path, load: Callable[[Path], "Servable"], runtime: str
) -> dict[str, Any]:
    """A version, in the form of the JSON document."""
    from lambda_serving.errors import ServingError

    try:
        with load(export_dir) as servable:
            return {
                "path": str(export_dir),
                "error": None,
                "runtime": runtime,
                "bytes": sum(
                    path.stat().st_size for path in export_dir.rglob("*") if path.is_file()
                ),
                "signatures": {
                    signature.name: {
                        "method_name": signature.method_name,
                        "inputs": {name: _spec(each) for name, each in signature.inputs.items()},
                        "outputs": {name: _spec(each) for name, each in signature.outputs.items()},
                    }
                    for signature in servable.signatures.values()
                },
                "problems": list(servable.problems),
            }
    except ServingError as error:
        return {"path": str(export_dir), "error": str(error)}


def _spec(spec: "TensorSpec") -> dict[str, Any]:
    return {"dtype": spec.dtype.label, "shape": spec.shape, "tensor": spec.tensor_name}


def _show(version: dict[str, Any]) -> None:
    if version["error"]:
        lines = map(printable, f"Error: {version['error']}".splitlines())
        click.echo("\n".join(lines), err=True)
        return
    size, runtime = version["bytes"] / 2**20, _TITLES[version["runtime"]]
    show_text(f"{version['path']}:", f"{size:.1f} MiB,", runtime)
    for name, signature in version["signatures"].items():
        show_text(name)
        for kind in ("input", "output"):
            for tensor, spec in signature[f"{kind}s"].items():
                pieces = f"{tensor}:", spec["dtype"], _shape(spec["shape"])
                show_text(*pieces, indent=_INDENT, first=f"  {kind}")
    for problem in version["problems"]:
        show_text(f"Problem: {problem}.", color="yellow")


def _shape(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "any"
    return f"[{', '.join('n' if size is None else str(size) for size in shape)}]"
