"""Converts an export for LiteRT, and keeps the result if it answers as the export does."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from lambda_serving import protos
from lambda_serving.compile import NotCompilable, verify
from lambda_serving.compile.apart import Apart, Served
from lambda_serving.compile.attempts import Export
from lambda_serving.compile.costs import measure_costs
from lambda_serving.compile.expected_answers import Questions
from lambda_serving.compile.folders import copy_extra, size_of
from lambda_serving.compile.merged_signatures import aliases
from lambda_serving.compile.report import Report, Side
from lambda_serving.compile.runtimes import LITERT, TENSORFLOW, Cost, Runtime, choose
from lambda_serving.compile.stages import Stages
from lambda_serving.compile.timing import Race
from lambda_serving.errors import FailedPrecondition, ServingError
from lambda_serving.installation import mending
from lambda_serving.servables import signature_defs
from lambda_serving.servables.graph_defs import meta_graphs
from lambda_serving.servables.litert import compiled_folder
from lambda_serving.servables.litert.model_file import read
from lambda_serving.servables.servable import Signature
from lambda_serving.servables.tensorflow_c import library
from lambda_serving.servables.tensorflow_c.op_libraries import loaded_op_libraries

__all__ = ["compile_for_litert", "litert_if_better"]


def compile_for_litert(
    export: Export, made: Path, before: Side, stages: Stages, race: Race
) -> Report:
    """Compiles into `made`; raises FailedPrecondition if LiteRT cannot serve the export as it is.

    The report compares LiteRT with TensorFlow serving the export.
    """
    try:
        converted = _convert(export, made, stages)
        there = _served(export, export.servable.restored_from)
        costs = _costs(export, converted, there, stages, race)
    except NotCompilable as refusal:
        raise FailedPrecondition(
            f"{export.source} cannot be compiled for LiteRT, because {refusal}. Compile it with"
            " --runtime=tensorflow, or with auto"
        ) from refusal
    report = Report(str(export.source), library.version(), before)
    return _reported(report, converted, Runtime(LITERT, "it was asked for", costs))


def litert_if_better(
    export: Export, made: Path, report: Report, stages: Stages, race: Race
) -> Report:
    """Replaces what was compiled for TensorFlow in `made` if LiteRT is better (`choose`).

    Returns the report with the runtime and its reason, and with the costs of both if LiteRT can
    serve the export.
    """
    folder = made.with_name(LITERT)
    folder.mkdir()
    try:
        converted = _convert(export, folder, stages)
        costs = _costs(export, converted, _served(export, made), stages, race)
    except NotCompilable as refusal:
        return replace(report, runtime=Runtime(TENSORFLOW, str(refusal)))
    runtime = choose(costs)
    if runtime.name == TENSORFLOW:
        return replace(report, runtime=runtime)
    shutil.rmtree(made)
    folder.rename(made)
    return _reported(report, replace(converted, folder=made), runtime)


@dataclass(frozen=True, slots=True)
class _Converted:
    """A folder for LiteRT, the questions that it was asked, and how its answers compare."""

    folder: Path
    questions: Questions
    checks: Mapping[str, verify.Check]
    plain_for_nan: bool


def _convert(export: Export, folder: Path, stages: Stages) -> _Converted:
    """Makes `folder` the compiled servable; raises NotCompilable."""
    version = _version()
    if not export.servable.signatures:
        raise NotCompilable("it has no signature that can be called")
    export.freezer.convert(
        export.servable.restored_from,
        folder,
        export.tags,
        loaded_op_libraries(),
        stages.begin,
        list(export.servable.signatures),
    )
    own = _own_signatures(folder / compiled_folder.MODEL_FILE)
    stages.begin("comparing answers of LiteRT")
    with export.load() as fresh:
        graph = _graph(export)
        questions = Questions.of(fresh, export.source, graph, export.load, thorough=True)
    merged = aliases(export.servable.signatures, own, questions, export.load)
    copy_extra(export.source, folder)
    exported = compiled_folder.Exported(export.servable.definitions, merged)
    compiled_folder.mark(folder, version, exported)
    try:
        try:
            checks = _checks(questions, folder, export)
        except verify.Differs as difference:
            if not questions.hold_nan(difference):
                raise
            exported = replace(exported, plain_for_nan=True)
            compiled_folder.mark(folder, version, exported)
            checks = _checks(questions, folder, export)
    except verify.Differs as difference:
        raise NotCompilable(f"answers of LiteRT would differ: {difference}") from difference
    except ServingError as error:
        raise NotCompilable(f"LiteRT does not load it: {error}") from error
    _require_answers(checks)
    return _Converted(folder, questions, checks, exported.plain_for_nan)


def _checks(questions: Questions, folder: Path, export: Export) -> Mapping[str, verify.Check]:
    with Apart(Served(folder, LITERT)) as apart:
        return questions.check(apart.answers(questions.inputs), export.load)


def _require_answers(checks: Mapping[str, verify.Check]) -> None:
    """Raises NotCompilable for a signature that answered nothing."""
    for name, check in checks.items():
        if not check.compared:  # LiteRT may fail for another reason, and always
            raise NotCompilable(
                f"answers of its signature {name} cannot be compared: it failed on all"
                f" {check.refused} inputs that were tried. Add warm-up requests to the export: they"
                " are tried too"
            )


def _version() -> str:
    try:
        return metadata.version("ai-edge-litert")
    except metadata.PackageNotFoundError:
        raise NotCompilable(
            f"LiteRT is not installed here. Install it: {mending('ai_edge_litert')}"
        ) from None


def _own_signatures(path: Path) -> Mapping[str, Signature]:
    """The signatures of a converted file.

    Raises NotCompilable if it changes variables: interpreters, which hold them, come and go.
    """
    try:
        file = read(path.read_bytes())
    except ServingError as error:
        raise NotCompilable(f"LiteRT does not load it: {error}") from error
    if file.operations.keep_state:
        raise NotCompilable("it changes its variables as it answers, which LiteRT may forget")
    return signature_defs.signatures(file.definitions())


def _graph(export: Export) -> Any:
    """The graph of the export; an empty one if it is not in a file of its own format."""
    for meta_graph in meta_graphs(export.servable.restored_from) or ():
        if set(meta_graph.meta_info_def.tags) == set(export.tags):
            return meta_graph.graph_def
    return protos.message("tensorflow.GraphDef")()


def _served(export: Export, folder: Path) -> Served:
    return Served(folder, TENSORFLOW, export.tags, loaded_op_libraries())


def _costs(
    export: Export, converted: _Converted, there: Served, stages: Stages, race: Race
) -> dict[str, Cost]:
    """What each runtime costs, measured in turn; raises NotCompilable if one fails meanwhile."""
    assert converted.questions.timed  # some input was answered
    stages.begin("measuring both runtimes")
    name, inputs = converted.questions.timed
    signature = export.servable.signatures[name]
    sides = {TENSORFLOW: there, LITERT: Served(converted.folder, LITERT)}
    try:
        return measure_costs(sides, signature, inputs, race)
    except ServingError as error:
        raise NotCompilable(f"the runtimes cannot be compared: {error}") from error


def _reported(report: Report, converted: _Converted, runtime: Runtime) -> Report:
    """The report of what LiteRT serves; `variants` stay those tried for TensorFlow."""
    return replace(
        report,
        runtime=replace(runtime, plain_for_nan=converted.plain_for_nan),
        after=Side(size_of(converted.folder)),
        reason=None,
        details=None,
        frozen=None,
        checks=converted.checks,
        chosen="LiteRT",
    )
