"""`lambda-serving inspect`: what is in a SavedModel, and what is wrong with it."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # these bring numpy, which `serve` imports beside the loading of TensorFlow
    from rich.console import Console
    from rich.table import Table

    from lambda_serving.servable import Servable, TensorSpec

__all__ = ["inspect"]


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
def inspect(directory: Path) -> None:
    """Show the signatures of the SavedModel in DIRECTORY, its size, and its problems.

    DIRECTORY is one version (it holds saved_model.pb) or a base path, of which every version is
    shown. Each is loaded as the server loads it, warm-up included; the exit code is 1 when one
    does not load.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("lambda_serving").setLevel(logging.ERROR)  # problems are shown below
    from rich.console import Console

    from lambda_serving.cli.exports import exports
    from lambda_serving.saved_model import load

    console = Console()
    for export_dir in exports(directory):
        with load(export_dir) as servable:
            _show(console, export_dir, servable)


def _show(console: "Console", export_dir: Path, servable: "Servable") -> None:
    size = sum(path.stat().st_size for path in export_dir.rglob("*") if path.is_file())
    console.print(f"{export_dir}: {size / 2**20:.1f} MiB", highlight=False)
    console.print(_table(servable))
    for problem in servable.problems:
        console.print(f"Problem: {problem}.", style="yellow", highlight=False)


def _table(servable: "Servable") -> "Table":
    from rich.table import Table

    table = Table("signature", "", "name", "dtype", "shape")
    for signature in servable.signatures.values():
        title = signature.name
        for kind, specs in (("input", signature.inputs), ("output", signature.outputs)):
            for name, spec in specs.items():
                table.add_row(title, kind, name, spec.dtype.label, _shape(spec))
                title = ""
        table.add_section()
    return table


def _shape(spec: "TensorSpec") -> str:
    if spec.shape is None:
        return "any"
    sizes = ["n" if size is None else str(size) for size in spec.shape]
    return rf"\[{', '.join(sizes)}]"  # rich takes a bare bracket for markup
