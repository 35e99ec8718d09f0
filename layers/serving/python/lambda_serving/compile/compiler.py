"""Turns a SavedModel into a compiled servable, complete and checked, or leaves nothing."""

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
from lambda_serving.compile.freezer import Freezer, Frozen
from lambda_serving.compile.graphs import NotCompilable
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
from lambda_serving.servables.tensorflow_c.op_libraries import load_op_library, loaded_op_libraries
from lambda_serving.servables.warmup import recorded

__all__ = ["Progress", "Slower", "compile_saved_model"]

Progress = Callable[[str], None]
"""Called with the name of each stage when it begins."""
Slower = Callable[[Timing], bool]
"""Decides from the times whether a compiled graph is slower than its export."""


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

    The folder appears once everything is done and checked, with the report beside it
    (`report_path`). The export is copied unchanged, and the report says why, if it cannot be
    compiled, if its answers would change, or if `slower` finds it slower after `rounds`.
    `tags` choose the meta graph, `op_libraries` are paths of custom ops, `cache` is that of
    `saved_model.load`. To compile several models, pass one `freezer` for all of them.

    Raises AlreadyExists when `destination` exists, InvalidArgument when `source` is compiled
    already, FailedPrecondition without Python TensorFlow, ResourceExhausted when the disk is full,
    and what loading `source` raises.
    """
    _check_paths(source, destination)
    for path in op_libraries:
        load_op_library(path)
    library.library()  # opened first, so that its time does not count as loading a model
    clock = _Clock(progress)
    load = partial(saved_model.load, source, tags=tags, warm_up=False, cache=cache)
    with written_whole(destination) as made, _lent(freezer) as lent:
        report = _compile_or_copy(source, made, tags, load, lent, clock, _Race(rounds, slower))
        report = replace(report, seconds=clock.end())
        report.write(report_path(destination))
    return report


def _compile_or_copy(
    source: Path,
    made: Path,
    tags: Sequence[str],
    load: Callable[[], Servable],
    freezer: Freezer,
    clock: "_Clock",
    race: "_Race",
) -> Report:
    clock.stage("loading the export")
    start = perf_counter()
    with load() as servable:
        before = Side(size_of(source), _milliseconds_since(start))
        try:
            export = _Export(source, servable, tags, load, freezer)
            return _compile(export, made, before, clock, race)
        except NotCompilable as refusal:
            clock.stage("copying the export")
            copy_all(servable.restored_from, made)
            copy_beside_graph(source, made)
            reason, details = str(refusal), refusal.details or None
            version = library.version()
            return Report(str(source), version, before, reason=reason, details=details)


def _lent(freezer: Freezer | None) -> AbstractContextManager[Freezer]:
    """The given freezer, left running at the end, or a new one."""
    return Freezer() if freezer is None else nullcontext(freezer)


class _Clock:
    """Announces stages, and measures how many seconds each takes."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._seconds: dict[str, float] = {}
        self._stage, self._start = "", perf_counter()

    def stage(self, name: str) -> None:
        """Ends the previous stage and begins this one."""
        self.end()
        self._stage = name
        self._progress(name)

    def end(self) -> dict[str, float]:
        """Ends the last stage; returns the seconds of each."""
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
        raise InvalidArgument(f"{source} is compiled already. Compile its export instead")
    if not library.has_python():
        raise FailedPrecondition(
            "Compiling needs Python TensorFlow, and only its libraries are installed here. Install"
            " it: pip install 'lambda-serving[compile]'"
        )


@dataclass(frozen=True, slots=True)
class _Export:
    """What is compiled: its folder, its servable, and how to load and compile it again."""

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
    """How a compiled graph and its export are timed, and which of them counts as slower."""

    rounds: Rounds
    slower: Slower


def _compile(export: _Export, made: Path, before: Side, clock: _Clock, race: _Race) -> Report:
    """Compiles into `made`; raises NotCompilable if no variant is as good as the export."""
    tried: dict[Attempt, tuple[Path, Frozen | None, Mapping[str, verify.Check]]] = {}
    asked = None
    while variant := next_variant(list(tried)):
        folder = made.with_name(f"{variant.kernels}-{variant.weights}")
        folder.mkdir()
        if so_far := best(list(tried)):
            lend(tried[so_far][0] / compiled.WEIGHTS, folder / compiled.WEIGHTS)
        try:
            frozen = _write(export, variant, folder, clock)
        except NotCompilable as refusal:
            if not tried:
                raise
            tried[Attempt(variant, str(refusal))] = folder, None, {}
            continue
        clock.stage("comparing answers")
        asked = asked or _Asked.of(export, folder)
        attempt, checks = _attempt(export, asked, variant, folder, clock, race)
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


def _write(export: _Export, variant: Variant, folder: Path, clock: _Clock) -> Frozen:
    """Makes `folder` the compiled servable of a variant, not yet checked."""
    frozen = export.freezer.freeze(
        export.restored_from,
        folder,
        export.tags,
        loaded_op_libraries(),
        clock.stage,
        onednn=variant.kernels == ONEDNN,
        mapped=variant.weights == MAPPED,
    )
    keep_only(folder / compiled.WEIGHTS, _weights(folder))
    copy_beside_graph(export.restored_from, folder)
    copy_beside_graph(export.source, folder)
    compiled.mark(folder, library.version(), op_packages.loaded_names())
    return frozen


@dataclass(frozen=True, slots=True)
class _Asked:
    """Inputs, the export's answers to them, and the signature and inputs that are timed."""

    inputs: verify.Inputs
    wanted: verify.Answers
    timed: tuple[str, Mapping[str, Array]] | None

    @classmethod
    def of(cls, export: _Export, folder: Path) -> Self:
        """The inputs that the graph in `folder` suggests, without those that take too long."""
        inputs = _inputs(export.servable, export.source, folder)
        wanted = verify.answers(export.servable, inputs)
        if verify.any_late(wanted):
            inputs = verify.in_time(inputs, wanted)
            with export.load() as servable:  # a fresh one, without state from those inputs
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
    """Compares the compiled graph in `folder` with the export, and times both."""
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
    except NotCompilable as refusal:
        return replace(attempt, problem=str(refusal)), {}
    except ServingError:  # the graph answers only some of the time
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
    """The names of the weight files that the compiled graph in `folder` uses."""
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
        reason, *_ = str(error.__cause__ or error).splitlines()  # drops the temporary path
        raise NotCompilable(f"the compiled graph does not load: {reason}") from error


def _inputs(original: Servable, source: Path, made: Path) -> verify.Inputs:
    """Inputs from the warm-up records, then random ones, then ones with unusual values."""
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
        raise NotCompilable("the compiled graph has other signatures")

    def answers_again() -> verify.Answers:
        with export.load() as servable:
            return verify.answers(servable, asked.inputs)

    try:
        return verify.check(asked.wanted, verify.answers(other, asked.inputs), answers_again)
    except verify.Differs as difference:
        raise NotCompilable(f"answers would change: {difference}") from difference


def _milliseconds_since(start: float) -> float:
    return round(1000 * (perf_counter() - start), 3)
