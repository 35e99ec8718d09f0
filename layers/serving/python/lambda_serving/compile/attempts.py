"""Compiles an export in several ways, and keeps the quickest that answers as the export does."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lambda_serving.compile import NotCompilable, verify
from lambda_serving.compile.expected_answers import Questions
from lambda_serving.compile.folders import copy_beside_graph, keep_only, lend, size_of
from lambda_serving.compile.freezer import Freezer, Frozen
from lambda_serving.compile.report import Report, Side
from lambda_serving.compile.stages import Stages
from lambda_serving.compile.timing import Race, measure
from lambda_serving.compile.variants import MAPPED, ONEDNN, Attempt, Variant, best, next_variant
from lambda_serving.errors import ServingError
from lambda_serving.servables import compiled_folder, saved_model
from lambda_serving.servables.graph_defs import meta_graphs
from lambda_serving.servables.servable import Servable
from lambda_serving.servables.tensorflow_c import library, op_packages
from lambda_serving.servables.tensorflow_c.op_libraries import loaded_op_libraries

__all__ = ["Export", "compile_best"]


@dataclass(frozen=True, slots=True)
class Export:
    """What is compiled: its folder, its servable, and how to load and compile it again."""

    source: Path
    servable: Servable
    tags: Sequence[str]
    load: Callable[[], Servable]
    freezer: Freezer


def compile_best(export: Export, made: Path, before: Side, stages: Stages, race: Race) -> Report:
    """Compiles into `made`; raises NotCompilable if no variant is as good as the export."""
    tried: dict[Attempt, tuple[Path, Frozen | None, Mapping[str, verify.Check]]] = {}
    questions = None
    while variant := next_variant(list(tried)):
        folder = made.with_name(f"{variant.kernels}-{variant.weights}")
        folder.mkdir()
        if so_far := best(list(tried)):
            lend(tried[so_far][0] / compiled_folder.WEIGHTS, folder / compiled_folder.WEIGHTS)
        try:
            frozen = _write(export, variant, folder, stages)
        except NotCompilable as refusal:
            if not tried:
                raise
            tried[Attempt(variant, str(refusal))] = folder, None, {}
            continue
        stages.begin("comparing answers")
        graph = _graph(folder)
        questions = questions or Questions.of(export.servable, export.source, graph, export.load)
        attempt, checks = _attempt(export, questions, variant, folder, stages, race)
        tried[attempt] = folder, frozen, checks
        for each in tried.keys() - {best(list(tried))}:  # no later attempt makes it the best
            shutil.rmtree(tried[each][0], ignore_errors=True)
    chosen = best(list(tried))
    if chosen is None:
        raise NotCompilable("; ".join(dict.fromkeys(attempt.problem for attempt in tried)))
    folder, found, checks = tried[chosen]
    made.rmdir()
    folder.rename(made)
    return Report(
        str(export.source),
        library.version(),
        _timed(before, chosen, "before"),
        after=_timed(Side(size_of(made)), chosen, "after"),
        frozen=found,
        checks=checks,
        chosen=str(chosen),
        variants=list(tried),
    )


def _write(export: Export, variant: Variant, folder: Path, stages: Stages) -> Frozen:
    """Makes `folder` the compiled servable of a variant, not yet checked."""
    restored_from = export.servable.restored_from
    frozen = export.freezer.freeze(
        restored_from,
        folder,
        export.tags,
        loaded_op_libraries(),
        stages.begin,
        onednn=variant.kernels == ONEDNN,
        mapped=variant.weights == MAPPED,
    )
    variables = [node.name for node in _graph(folder).node if node.op == "VarHandleOp"]
    used = {name.removeprefix(compiled_folder.WEIGHTS) for name in variables}
    keep_only(folder / compiled_folder.WEIGHTS, used)
    copy_beside_graph(restored_from, folder)
    copy_beside_graph(export.source, folder)
    compiled_folder.mark(folder, library.version(), op_packages.loaded_names())
    return frozen


def _attempt(
    export: Export, questions: Questions, variant: Variant, folder: Path, stages: Stages, race: Race
) -> tuple[Attempt, Mapping[str, verify.Check]]:
    """Compares the compiled graph in `folder` with the export, and times both."""
    has_onednn = any(node.op.startswith("_Mkl") for node in _graph(folder).node)
    has_files = (folder / compiled_folder.WEIGHTS).exists()
    attempt = Attempt(variant, has_onednn=has_onednn, has_files=has_files)

    def load() -> Servable:
        return _loaded(folder, export.tags)

    try:
        with load() as other:
            checks = _checked(export, questions, other)
            if questions.timed is None:
                return attempt, checks
            stages.begin("measuring")
            sides = (export.load, load), (export.servable, other)
            timing = measure(*sides, *questions.timed, race)
    except NotCompilable as refusal:
        return replace(attempt, problem=str(refusal)), {}
    except ServingError:  # the graph answers only some of the time
        return attempt, checks
    if not race.slower(timing):
        return replace(attempt, timing=timing), checks
    problem = (
        f"it would be slower ({attempt}): start {timing.start.after:.3g} ms instead of"
        f" {timing.start.before:.3g}, warm answer {timing.warm.after:.3g} ms instead of"
        f" {timing.warm.before:.3g}"
    )
    return replace(attempt, timing=timing, problem=problem, is_slower=True), checks


def _loaded(made: Path, tags: Sequence[str]) -> Servable:
    try:
        return saved_model.load(made, tags=tags, warm_up=False)
    except ServingError as error:
        reason, *_ = str(error.__cause__ or error).splitlines()  # drops the temporary path
        raise NotCompilable(f"the compiled graph does not load: {reason}") from error


def _checked(export: Export, questions: Questions, other: Servable) -> Mapping[str, verify.Check]:
    """The results of comparing answers; raises NotCompilable if any would change."""
    ends = [
        {name: (each.inputs, each.outputs, each.method_name) for name, each in side.items()}
        for side in (export.servable.signatures, other.signatures)
    ]
    if ends[0] != ends[1]:
        raise NotCompilable("the compiled graph has other signatures")
    try:
        return questions.check(verify.answers(other, questions.inputs), export.load)
    except verify.Differs as difference:
        raise NotCompilable(f"answers would change: {difference}") from difference


def _graph(folder: Path) -> Any:
    [meta_graph] = meta_graphs(folder) or ()
    return meta_graph.graph_def


def _timed(side: Side, attempt: Attempt, which: str) -> Side:
    """The side with the medians of the attempt, those `before` or `after`, if it was timed."""
    timing = attempt.timing
    if timing is None:
        return side
    load, first, warm = (getattr(pair, which) for pair in (timing.load, timing.first, timing.warm))
    return replace(side, load=load, first=first, warm=warm)
