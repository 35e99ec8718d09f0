"""`lambda-serving compile`: makes a SavedModel start faster."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import stages
from lambda_serving.cli.layout import show_rows, show_text
from lambda_serving.cli.options import Loading, loading_saved_models

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.compile.report import Report
    from lambda_serving.compile.runtimes import Runtime

__all__ = ["compile_command"]

_SAME_SPEED = 1.1


@click.command("compile")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--runtime",
    type=click.Choice(("auto", "tensorflow", "litert")),  # of compile.runtimes
    default="auto",
    show_default=True,
    help="What serves the compiled model. auto: LiteRT if it gives the same answers and is worse"
    " in nothing (start, warm answers, memory) and better in something",
)
@loading_saved_models
def compile_command(source: Path, destination: Path, runtime: str, loading: Loading) -> None:
    """Compile the SavedModel in SOURCE into a new folder, DESTINATION.

    SOURCE is a version's folder (with saved_model.pb) or a base path; each version of a base path
    is compiled into a folder with its number below DESTINATION. The compiled model is kept only if
    it gives the same answers; a model that cannot be compiled is left as it is, and copied. A
    report is written to DESTINATION.compile.json.
    """
    from lambda_serving.cli.exports import exports
    from lambda_serving.compile.compiler import compile_saved_model
    from lambda_serving.compile.freezer import Freezer

    with Freezer() as freezer:
        for export_dir in exports(source):
            target = destination if export_dir == source else destination / export_dir.name
            with stages(f"{export_dir} -> {target}") as progress:
                report = compile_saved_model(
                    export_dir,
                    target,
                    tags=loading.tags,
                    op_libraries=loading.op_libraries,
                    cache=loading.cache,
                    progress=progress,
                    freezer=freezer,
                    runtime=runtime,
                )
            _show(target, report)
            if runtime != "tensorflow":
                _show_runtimes(report.runtime)


def _show(target: Path, report: "Report") -> None:
    seconds = sum(report.seconds.values())
    if report.reason is not None:
        _warn(f"{target}: left as it is, because {report.reason}")
    else:
        show_text(f"{target}: compiled in {seconds:.1f} s ({report.chosen})")
        show_rows(("", "before", "after", "speed"), _rows(report))
    for name, check in report.checks.items():
        if not check.compared:
            _warn(
                f"The answers of signature {name} were not compared: it failed on all"
                f" {check.refused} inputs that were tried. Add warm-up requests to the export: they"
                f" are tried too. Its first error: {check.refusal or 'none'}"
            )


def _warn(text: str) -> None:
    show_text(text, color="yellow")


def _rows(report: "Report") -> Iterator[Sequence[str]]:
    before, after, frozen = report.before, report.after, report.frozen
    assert after is not None
    yield "size", _megabytes(before.bytes), _megabytes(after.bytes), ""
    if frozen is not None:
        yield "nodes", str(frozen.nodes_before), str(frozen.nodes_after), ""
    for title, old, new in (
        ("load", before.load, after.load),
        ("first answer", before.first, after.first),
        ("warm answer", before.warm, after.warm),
    ):
        if old is not None and new is not None:
            yield title, f"{old:.3g} ms", f"{new:.3g} ms", _speed(old, new)
    largest = max((check.largest_error for check in report.checks.values()), default=0.0)
    yield "largest error, relative to the largest value", "", f"{largest:.1g}", ""


def _show_runtimes(runtime: "Runtime") -> None:
    from lambda_serving.compile.runtimes import MEASURES

    show_text(f"Runtime: {runtime.name}, because {runtime.reason}")
    if runtime.plain_for_nan:
        show_text("Inputs that hold NaN are run without XNNPACK, to be answered as the export does")
    if runtime.costs:
        sides = list(runtime.costs)
        rows = (
            (measure.title, *(measure.told(runtime.costs[side]) for side in sides))
            for measure in MEASURES
        )
        show_rows(("", *sides), rows)


def _speed(old: float, new: float) -> str:
    """How much faster or slower, in words; a small difference is noise."""
    times = old / new
    if times >= _SAME_SPEED:
        return f"{times:.1f}x faster"
    if times > 1 / _SAME_SPEED:
        return "the same"
    return f"{1 / times:.1f}x slower"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
