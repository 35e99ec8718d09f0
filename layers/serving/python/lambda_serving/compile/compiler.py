"""Turns a SavedModel into a compiled servable, complete and checked, or leaves nothing."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

from lambda_serving.compile import NotCompilable
from lambda_serving.compile.attempts import Export, compile_best
from lambda_serving.compile.folders import copy_all, copy_beside_graph, size_of, written_whole
from lambda_serving.compile.freezer import Freezer
from lambda_serving.compile.report import Report, Side, report_path
from lambda_serving.compile.runtimes import AUTO, LITERT, TENSORFLOW
from lambda_serving.compile.stages import Progress, Stages
from lambda_serving.compile.timing import USUAL_RACE, Race
from lambda_serving.compile.to_litert import compile_for_litert, litert_if_better
from lambda_serving.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from lambda_serving.installation import mending
from lambda_serving.servables import compiled_folder, saved_model
from lambda_serving.servables.tensorflow_c import library
from lambda_serving.servables.tensorflow_c.op_libraries import load_op_library

__all__ = ["compile_saved_model"]


def compile_saved_model(
    source: Path,
    destination: Path,
    *,
    tags: Sequence[str] = ("serve",),
    op_libraries: Sequence[str] = (),
    cache: Path | None = None,
    progress: Progress = lambda _: None,
    race: Race = USUAL_RACE,
    freezer: Freezer | None = None,
    runtime: str = TENSORFLOW,
) -> Report:
    """Compiles the SavedModel in `source` into the new folder `destination`.

    The folder appears once everything is done and checked, with the report beside it
    (`report_path`). The export is copied as it is, and the report says why, if it cannot be
    compiled, if its answers would change, or if it would be slower by the rules of `race`.
    `tags` choose the meta graph, `op_libraries` are paths of custom ops, `cache` is that of
    `saved_model.load`. To compile several models, pass one `freezer` for all of them. `runtime` is
    one of `runtimes.CHOICES`: with LITERT the model is converted for LiteRT, with AUTO too if it
    answers as the export does and `runtimes.choose` finds it better.

    Raises AlreadyExists when `destination` exists, InvalidArgument when `source` is compiled
    already, FailedPrecondition without Python TensorFlow and for LITERT if LiteRT cannot serve the
    model as it is, ResourceExhausted when the disk is full, and what loading `source` raises.
    Long, because all options are told here.
    """
    _check_paths(source, destination)
    for path in op_libraries:
        load_op_library(path)
    library.library()  # opened first, so that its time does not count as loading a model
    stages = Stages(progress)
    load = partial(saved_model.load, source, tags=tags, warm_up=False, cache=cache)
    own = Freezer() if freezer is None else nullcontext(freezer)  # a given one goes on running
    with written_whole(destination) as made, own as lent:
        stages.begin("loading the export")
        start = perf_counter()
        with load() as servable:
            before = Side(size_of(source), round(1000 * (perf_counter() - start), 3))
            export = Export(source, servable, tags, load, lent)
            report = _compiled(export, made, before, stages, race, runtime)
        report = replace(report, seconds=stages.end())
        report.write(report_path(destination))
    return report


def _compiled(
    export: Export, made: Path, before: Side, stages: Stages, race: Race, runtime: str
) -> Report:
    if runtime == LITERT:
        return compile_for_litert(export, made, before, stages, race)
    report = _compile_or_copy(export, made, before, stages, race)
    return litert_if_better(export, made, report, stages, race) if runtime == AUTO else report


def _compile_or_copy(
    export: Export, made: Path, before: Side, stages: Stages, race: Race
) -> Report:
    try:
        return compile_best(export, made, before, stages, race)
    except NotCompilable as refusal:
        stages.begin("copying the export")
        copy_all(export.servable.restored_from, made)
        copy_beside_graph(export.source, made)
        reason, details = str(refusal), refusal.details or None
        return Report(str(export.source), library.version(), before, reason=reason, details=details)


def _check_paths(source: Path, destination: Path) -> None:
    if destination.exists():
        raise AlreadyExists(f"{destination} exists already. Remove it, or choose another folder")
    if compiled_folder.is_compiled(source):
        raise InvalidArgument(f"{source} is compiled already. Compile its export instead")
    if not any((source / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        raise NotFound(f"{source} holds no SavedModel: there is no saved_model.pb in it")
    if not library.has_python():
        raise FailedPrecondition(
            "Compiling needs Python TensorFlow, and only its libraries are installed here. Install"
            f" it: {mending('tensorflow')}"
        )
