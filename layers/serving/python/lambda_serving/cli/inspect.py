"""`lambda-serving inspect`: what is in a SavedModel, and what is wrong with it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lambda_serving.cli.console import plain_console, printable, table
from lambda_serving.cli.options import Loading, loading

if TYPE_CHECKING:  # these bring numpy, which `serve` imports beside the loading of TensorFlow
    from rich.console import Console
    from rich.table import Table

    from lambda_serving.servables.servable import Servable, TensorSpec

__all__ = ["inspect"]


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the same as one JSON document")
@loading
def inspect(
    directory: Path,
    as_json: bool,  # noqa: FBT001 - as click passes it
    loading: Loading,
) -> None:
    """Show the signatures of the SavedModel in DIRECTORY, its size, and its problems.

    DIRECTORY is one version (it holds saved_model.pb) or a base path, of which every version is
    shown. Each is loaded as the server loads it, warm-up included; the exit code is 1 when one
    does not load.

    JSON is {"versions": [...]}; each has "path" and "error", which is null for one that loads.
    That has "bytes", "problems" and, by its name, in "signatures" each one's "method_name",
    "inputs" and "outputs": by name again "dtype", "shape" (null for one of any rank, null in it for
    a size that is free) and "tensor", the name in the graph.
    """
    from lambda_serving.cli.exports import exports

    found, load = exports(directory), loading.loader()
    described = (_described(path, load) for path in found)
    if as_json:
        versions = list(described)
        click.echo(json.dumps({"versions": versions}, indent=2))
    else:
        console = plain_console()
        versions = [_show(console, version) for version in described]
    if any(version["error"] for version in versions):
        sys.exit(1)


def _described(export_dir: Path, load: Callable[[Path], "Servable"]) -> dict[str, Any]:
    """A version as JSON has it."""
    from lambda_serving.errors import ServingError

    try:
        with load(export_dir) as servable:
            return {
                "path": str(export_dir),
                "error": None,
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


def _show(console: "Console", version: dict[str, Any]) -> dict[str, Any]:
    """Prints a version, and gives it back."""
    if version["error"]:
        lines = map(printable, f"Error: {version['error']}".splitlines())
        click.echo("\n".join(lines), err=True)
        return version
    size = version["bytes"] / 2**20
    console.print(f"{printable(version['path'])}: {size:.1f} MiB", soft_wrap=True)
    console.print(_table(version["signatures"]))
    for problem in version["problems"]:
        console.print(f"Problem: {printable(problem)}.", style="yellow", soft_wrap=True)
    return version


def _table(signatures: dict[str, Any]) -> "Table":
    made = table("signature", "", "name", "dtype", "shape")
    for signature, described in signatures.items():
        title = printable(signature)
        for kind in ("input", "output"):
            for name, spec in described[f"{kind}s"].items():
                made.add_row(title, kind, printable(name), spec["dtype"], _shape(spec["shape"]))
                title = ""
        made.add_section()
    return made


def _shape(shape: tuple[int | None, ...] | None) -> str:
    if shape is None:
        return "any"
    return f"[{', '.join('n' if size is None else str(size) for size in shape)}]"
