"""A SavedModel in, a compiled servable out: complete and checked, or not there."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Self

from lambda_serving import protos
from lambda_serving.compile import samples, verify
from lambda_serving.compile.folders import (
    copy_all,
    copy_beside_graph,
    keep_only,
    lend,
    size_of,
    written_whole,
)
from lambda_serving.compile.freezer import Freezer, Frozen, Stays
from lambda_serving.compile.report import Report, Side, report_path
from lambda_serving.compile.timing import ENOUGH, Rounds, Timing, is_slower, measure
from lambda_serving.compile.variants import (
    MAPPED,
    ONEDNN,
    Attempt,
    Variant,
    best,
    next_variant,
)
from lambda_serving.dtypes import Array
from lambda_serving.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
)
from lambda_serving.servables import compiled, saved_model
from lambda_serving.servables.servable import DEFAULT_SIGNATURE, Servable
from lambda_serving.servables.tensorflow_c import library, op_packages
from lambda_serving.servables.warmup import recorded

__all__ = ["Progress", "Slower", "compile_saved_model"]

Progress = Callable[[str], None]
"""Is told of each stage when it begins."""
Slower = Callable[[Timing], bool]
"""Tells from their times whether a compiled graph is slower than its export."""


def compile_saved_model(
    source: Path,
    destination: Path,
    *,
    tags: Sequence[str] = ("serve",),
    op_libraries: Sequence[str] = (),
    cache: Path | None = None,
    progress: Progress = lambda _: None,
    rounds: Rounds = ENOUGH,
    slower: Slower = is_slower,
    freezer: Freezer | None = None,
) -> Report:
    """Compiles the SavedModel in `source` into the new folder `destination`.

    The folder is there when all is done and checked, with the report beside it under the name
    that `report_path` gives, or not at all. A model that cannot be compiled, or that would
    answer otherwise or, by `slower` after so many `rounds`, more slowly, is copied as it is, and
    the report says why.
    `tags` choose the meta graph, `op_libraries` are paths of custom ops, `cache` is that of
    `saved_model.load`; who compiles several models lends all of them one `freezer`.

    Raises AlreadyExists when `destination` exists, InvalidArgument when `source` is compiled
    already, FailedPrecondition without Python TensorFlow, ResourceExhausted when the disk is full,
    and what loading `source` raises.
    """
    _check_paths(source, destination)
    for path in op_libraries:
        library.load_op_library(path)
    library.library()  # opening it is no part of loading a model
    clock = _Clock(progress)
    with written_whole(destination) as made, _lent(freezer) as lent:
        clock.stage("loading the export")
        start = perf_counter()
        with saved_model.load(source, tags=tags, warm_up=False, cache=cache) as original:
            before = Side(size_of(source), _milliseconds_since(start))
            try:
                again = partial(saved_model.load, source, tags=tags, warm_up=False, cache=cache)
                export = _Export(source, original, tags, again, lent)
                report = _compile(export, made, before, clock, _Race(rounds, slower))
            except Stays as stays:
                clock.stage("copying the export")
                copy_all(original.restored_from, made)
                copy_beside_graph(source, made)
                report = Report(
                    str(source),
                    library.version(),
                    before,
                    reason=str(stays),
                    details=stays.details or None,
                )
        report = replace(report, seconds=clock.end())
        report.write(report_path(destination))
    return report


def _lent(freezer: Freezer | None) -> AbstractContextManager[Freezer]:
    """The one that is lent, which goes on, or one of our own."""
    return Freezer() if freezer is None else nullcontext(freezer)


class _Clock:
    """Tells of stages, and remembers how many seconds each took."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._seconds: dict[str, float] = {}
        self._stage, self._start = "", perf_counter()

    def stage(self, name: str) -> None:
        """Ends the stage before and begins this one."""
        self.end()
        self._stage = name
        self._progress(name)

    def end(self) -> dict[str, float]:
        """Ends the last stage; the seconds of all."""
        now = perf_counter()
        if self._stage:
            before = self._seconds.get(self._stage, 0.0)
            self._seconds[self._stage] = round(before + now - self._start, 3)
        self._stage, self._start = "", now
        return self._seconds


def _check_paths(source: Path, destination: Path) -> None:
    if destination.exists():
        raise AlreadyExists(f"{destination} exists already. Remove it, or choose another folder")
    if not any((source / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
        raise NotFound(f"{source} holds no SavedModel: there is no saved_model.pb in it")
    if compiled.is_compiled(source):
        raise InvalidArgument(f"{source} is compiled already. Compile the export that it is of")
    if not library.has_python():
        raise FailedPrecondition(
            "Compiling takes all of Python TensorFlow, and here are only its libraries. Compile"
            " where there is more: pip install 'lambda-serving[compile]'"
        )


@dataclass(frozen=True, slots=True)
class _Export:
    """What is compiled: as it lies there, as the graph restore loads it, how it loads.

    `freezer` makes its compiled graphs.
    """

    source: Path
    servable: Servable
    tags: Sequence[str]
    load: Callable[[], Servable]
    freezer: Freezer

    @property
    def restored_from(self) -> Path:
        """The folder that the graph restore loads: `source`, unless that needs its object graph."""
        return self.servable.restored_from


@dataclass(frozen=True, slots=True)
class _Race:
    """Of a compiled graph and its export."""

    rounds: Rounds
    slower: Slower


def _compile(export: _Export, made: Path, before: Side, clock: _Clock, race: _Race) -> Report:
    """Compiles into the folder `made`; raises Stays when no variant is as good as the export."""
    tried: dict[Attempt, tuple[Path, Frozen | None, Mapping[str, verify.Check]]] = {}
    asked = None
    while variant := next_variant(list(tried)):
        folder = made.with_name(f"{variant.kernels}-{variant.weights}")
        folder.mkdir()
        if so_far := best(list(tried)):
            lend(tried[so_far][0] / compiled.WEIGHTS, folder / compiled.WEIGHTS)
        try:
            frozen = _frozen(export, variant, folder, clock)
        except Stays as stays:
            if not tried:
                raise
            tried[Attempt(variant, str(stays))] = folder, None, {}
            continue
        keep_only(folder / compiled.WEIGHTS, _weights(folder))
        copy_beside_graph(export.restored_from, folder)
        copy_beside_graph(export.source, folder)
        compiled.mark(folder, library.version(), op_packages.loaded_names())
        clock.stage("comparing answers")
        asked = asked or _Asked.of(export, folder)
        attempt, checks = _attempt(export, asked, variant, folder, clock, race)
        tried[attempt] = folder, frozen, checks
        for each in tried.keys() - {best(list(tried))}:  # it stays behind whatever comes
            shutil.rmtree(tried[each][0], ignore_errors=True)
    chosen = best(list(tried))
    if chosen is None:
        raise Stays("; ".join(dict.fromkeys(attempt.problem for attempt in tried)))
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


def _frozen(export: _Export, variant: Variant, folder: Path, clock: _Clock) -> Frozen:
    return export.freezer.freeze(
        export.restored_from,
        folder,
        export.tags,
        library.op_libraries(),
        clock.stage,
        onednn=variant.kernels == ONEDNN,
        mapped=variant.weights == MAPPED,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """Inputs, what the export answers to them, and those that are timed, of one signature."""

    inputs: verify.Inputs
    wanted: verify.Answers
    timed: tuple[str, Mapping[str, Array]] | None

    @classmethod
    def of(cls, export: _Export, folder: Path) -> Self:
        """The inputs that the graph in `folder` suggests, as far as the export answers in time."""
        inputs = _inputs(export.servable, export.source, folder)
        wanted = verify.answers(export.servable, inputs)
        if verify.any_late(wanted):
            inputs = verify.in_time(inputs, wanted)
            with export.load() as servable:  # which remembers nothing of the others
                wanted = verify.answers(servable, inputs)
        by_name = sorted(inputs, key=lambda name: (name != DEFAULT_SIGNATURE, name))
        answered = (
            (name, each)
            for name in by_name
            for each, outcome in zip(inputs[name], wanted[name], strict=False)
            if not isinstance(outcome, ServingError)
        )
        return cls(inputs, wanted, next(answered, None))


def _attempt(
    export: _Export, asked: _Asked, variant: Variant, folder: Path, clock: _Clock, race: _Race
) -> tuple[Attempt, Mapping[str, verify.Check]]:
    """What comes of comparing and timing the compiled graph in `folder`."""
    attempt = Attempt(
        variant, has_onednn=_has_onednn(folder), has_files=(folder / compiled.WEIGHTS).exists()
    )
    load = partial(_loaded, folder, export.tags)
    try:
        with load() as other:
            checks = _checks(export, asked, other)
            if asked.timed is None:
                return attempt, checks
            clock.stage("measuring")
            sides = (export.load, load), (export.servable, other)
            timing = measure(*sides, *asked.timed, race.rounds)
    except Stays as stays:
        return replace(attempt, problem=str(stays)), {}
    except ServingError:  # a graph that answers now and then
        return attempt, checks
    if not race.slower(timing):
        return replace(attempt, timing=timing), checks
    problem = (
        f"it would be slower ({attempt}): start {timing.start.after:.3g} ms in place of"
        f" {timing.start.before:.3g}, warm answer {timing.warm.after:.3g} ms in place of"
        f" {timing.warm.before:.3g}"
    )
    return replace(attempt, timing=timing, problem=problem, is_slower=True), checks


def _has_onednn(folder: Path) -> bool:
    return any(node.op.startswith("_Mkl") for node in _graph(folder).node)


def _weights(folder: Path) -> set[str]:
    """The names of the files that the compiled graph in `folder` takes its weights from."""
    return {
        node.name.removeprefix(compiled.WEIGHTS)
        for node in _graph(folder).node
        if node.op == "VarHandleOp"
    }


def _graph(folder: Path) -> Any:
    model = protos.message("tensorflow.SavedModel").FromString(
        (folder / "saved_model.pb").read_bytes()
    )
    return model.meta_graphs[0].graph_def


def _timed(side: Side, attempt: Attempt, which: str) -> Side:
    if attempt.timing is None:
        return side
    load, first, warm = (
        getattr(pair, which)
        for pair in (attempt.timing.load, attempt.timing.first, attempt.timing.warm)
    )
    return replace(side, load=load, first=first, warm=warm)


def _loaded(made: Path, tags: Sequence[str]) -> Servable:
    try:
        return saved_model.load(made, tags=tags, warm_up=False)
    except ServingError as error:
        reason, *_ = str(error.__cause__ or error).splitlines()  # the folder's name will go
        raise Stays(f"the compiled graph does not load: {reason}") from error


def _inputs(original: Servable, source: Path, made: Path) -> verify.Inputs:
    """Those of the warm-up records, then some that are drawn, some with unusual values."""
    graph = _graph(made)
    vocabulary = samples.strings(source, graph)
    found: dict[str, list[Mapping[str, Array]]] = {name: [] for name in original.signatures}
    for name, inputs in recorded(original, source):
        found[name].append(inputs)
    for name, signature in original.signatures.items():
        outputs = [spec.tensor_name for spec in signature.outputs.values()]
        drawn = list(samples.draw(signature, samples.features(graph, outputs), vocabulary))
        found[name] += drawn
        found[name] += samples.unusual(drawn[0]) if drawn and not samples.rejects(graph) else ()
    return found


def _checks(export: _Export, asked: _Asked, other: Servable) -> dict[str, verify.Check]:
    ends = [
        {name: (each.inputs, each.outputs, each.method_name) for name, each in side.items()}
        for side in (export.servable.signatures, other.signatures)
    ]
    if ends[0] != ends[1]:
        raise Stays("the compiled graph has other signatures")

    def answers_again() -> verify.Answers:
        with export.load() as servable:
            return verify.answers(servable, asked.inputs)

    try:
        return verify.check(asked.wanted, verify.answers(other, asked.inputs), answers_again)
    except verify.Differs as difference:
        raise Stays(f"answers would change: {difference}") from difference


def _milliseconds_since(start: float) -> float:
    return round(1000 * (perf_counter() - start), 3)
