"""Which runtime `compile --runtime=auto` chooses for each model, and why.

Models are ten of Keras' applications with random weights, the samples of `examples/`, and those of
the other benchmarks. Ours is LiteRT, the peer TensorFlow, both as the report of compiling measured
them. A model that LiteRT cannot serve has a reason and no figures. The table of reasons is written
to the standard error, as Markdown.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks.children import python
from benchmarks.rows import Row, Unit

__all__ = ["measure"]

_COMMAND = Path(sys.executable).with_name("lambda-serving")
_APPLICATIONS = (
    *("mobilenetv2", "mobilenetv3small", "efficientnetb0", "efficientnetv2b0", "resnet50"),
    *("densenet121", "inceptionv3", "nasnetmobile", "xception", "convnexttiny"),
)
_EXAMPLES = Path(__file__).parents[2] / "examples"
_SAMPLES = {
    "examples/half_plus_two": _EXAMPLES / "half_plus_two/1",
    "examples/mnist": _EXAMPLES / "mnist/saved/1",
    "examples/mnist, Keras 3": _EXAMPLES / "mnist/saved_with_signature/1",
}
_FIGURES = {
    "start_ms": ("start", Unit.MILLISECONDS),
    "warm_ms": ("warm answer", Unit.MILLISECONDS),
    "warm_8_rows_ms": ("warm answer to 8 rows", Unit.MILLISECONDS),
    "peak_mb": ("memory", Unit.MEGABYTES),
}


def measure(*, quick: bool) -> list[Row]:
    """Rows for each model that LiteRT can serve: start, warm answers, and memory."""
    names = ("text",) if quick else ("mlp", "text", "examples", *_APPLICATIONS)
    rows = list[Row]()
    click.echo("| model | chosen | why |\n| --- | --- | --- |", err=True)
    with tempfile.TemporaryDirectory(prefix="lambda-serving-bench-") as folder:
        for name, export in _SAMPLES.items():
            rows += _rows(name, export, Path(folder) / "compiled")
        for name in names:  # one at a time: they are large
            subprocess.run(python("models.py", folder, name), check=True)
            rows += _rows(name, Path(folder) / name, Path(folder) / "compiled")
    return rows


def _rows(name: str, export: Path, folder: Path) -> list[Row]:
    runtime = _compiled(export, folder / name.replace("/", "-"))
    chosen = {"litert": "LiteRT", "tensorflow": "TensorFlow"}[runtime["name"]]
    plain = "; NaN without XNNPACK" if runtime["plain_for_nan"] else ""
    click.echo(f"| {name} | {chosen} | {runtime['reason']}{plain} |", err=True)
    if not (costs := runtime["costs"]):
        return []
    return [
        Row.of(f"{name}: {title}", unit, [(costs["litert"][key], costs["tensorflow"][key])])
        for key, (title, unit) in _FIGURES.items()
        if costs["litert"][key] is not None and costs["tensorflow"][key] is not None
    ]


def _compiled(export: Path, folder: Path) -> Any:
    """The part of the report on runtimes."""
    subprocess.run(
        [_COMMAND, "compile", "--runtime=auto", export, folder],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return json.loads(folder.with_name(f"{folder.name}.compile.json").read_text())["runtime"]
