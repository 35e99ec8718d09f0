"""A SavedModel in, a compiled servable out: complete and checked, or not there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

from lambda_serving import compiled, protos, saved_model
from lambda_serving.compile import samples, verify
from lambda_serving.compile.folders import copy_all, copy_beside_graph, size_of, written_whole
from lambda_serving.compile.freezing import Stays, freeze
from lambda_serving.compile.report import Report, Side, report_path
from lambda_serving.dtypes import Array
from lambda_serving.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
)
from lambda_serving.servable import DEFAULT_SIGNATURE, Servable
from lambda_serving.tensorflow_c import library, op_packages
from lambda_serving.warmup import recorded

__all__ = ["Progress", "compile_saved_model"]

Progress = Callable[[str], None]
"""Is told of each stage when it begins."""

_WARM_RUNS = 9


def compile_saved_model(
    source: Path,
    destination: Path,
    *,
    tags: Sequence[str] = ("serve",),
    op_libraries: Sequence[str] = (),
    cache: Path | None = None,
    progress: Progress = lambda _: None,
) -> Report:
    """Compiles the SavedModel in `source` into the new folder `destination`.

    The folder is there when all is done and checked, with the report beside it under the name
    that `report_path` gives, or not at all. A model that cannot be compiled, or that would
    answer otherwise, is copied as it is, and the report says why. `tags` choose the meta graph,
    `op_libraries` are paths of custom ops, `cache` is that of `saved_model.load`.

    Raises AlreadyExists when `destination` exists, InvalidArgument when `source` is compiled
    already, FailedPrecondition without Python TensorFlow, ResourceExhausted when the disk is full,
    and what loading `source` raises.
    """
    _check_paths(source, destination)
    for path in op_libraries:
        library.load_op_library(path)
    library.library()  # opening it is no part of loading a model
    clock = _Clock(progress)
    with written_whole(destination) as made:
        clock.stage("loading the export")
        start = perf_counter()
        with saved_model.load(source, tags=tags, warm_up=False, cache=cache) as original:
            before = Side(size_of(source), _milliseconds_since(start))
            try:
                again = partial(saved_model.load, source, tags=tags, warm_up=False, cache=cache)
                report = _compile(original, again, source, made, tags, before, clock)
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
            self._seconds[self._stage] = round(now - self._start, 3)
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


def _compile(
    original: Servable,
    again: Callable[[], Servable],
    source: Path,
    made: Path,
    tags: Sequence[str],
    before: Side,
    clock: _Clock,
) -> Report:
    """Compiles into the folder `made`; raises Stays when that fails or changes an answer."""
    frozen = freeze(original.restored_from, made, tags, library.op_libraries(), clock.stage)
    copy_beside_graph(original.restored_from, made)
    copy_beside_graph(source, made)
    compiled.mark(made, library.version(), op_packages.loaded_names())
    clock.stage("comparing answers")
    start = perf_counter()
    with _loaded(made, tags) as other:
        after = Side(size_of(made), _milliseconds_since(start))
        inputs = _inputs(original, source, made)
        checks = _checks(original, other, again, inputs)
        before, after = _timed(before, original, inputs), _timed(after, other, inputs)
    return Report(str(source), library.version(), before, after=after, frozen=frozen, checks=checks)


def _loaded(made: Path, tags: Sequence[str]) -> Servable:
    try:
        return saved_model.load(made, tags=tags, warm_up=False)
    except ServingError as error:
        reason, *_ = str(error.__cause__ or error).splitlines()  # the folder's name will go
        raise Stays(f"the compiled graph does not load: {reason}") from error


def _inputs(original: Servable, source: Path, made: Path) -> verify.Inputs:
    """Those of the warm-up records, then some that are drawn."""
    model = protos.message("tensorflow.SavedModel").FromString(
        (made / "saved_model.pb").read_bytes()
    )
    graph = model.meta_graphs[0].graph_def
    vocabulary = samples.strings(source, graph)
    found: dict[str, list[Mapping[str, Array]]] = {name: [] for name in original.signatures}
    for name, inputs in recorded(original, source):
        found[name].append(inputs)
    for name, signature in original.signatures.items():
        outputs = [spec.tensor_name for spec in signature.outputs.values()]
        found[name] += samples.draw(signature, samples.features(graph, outputs), vocabulary)
    return found


def _checks(
    original: Servable, other: Servable, again: Callable[[], Servable], inputs: verify.Inputs
) -> dict[str, verify.Check]:
    ends = [
        {name: (each.inputs, each.outputs, each.method_name) for name, each in side.items()}
        for side in (original.signatures, other.signatures)
    ]
    if ends[0] != ends[1]:
        raise Stays("the compiled graph has other signatures")

    def answers_again() -> verify.Answers:
        with again() as servable:
            return verify.answers(servable, inputs)

    try:
        return verify.check(
            verify.answers(original, inputs), verify.answers(other, inputs), answers_again
        )
    except verify.Differs as difference:
        raise Stays(f"answers would change: {difference}") from difference


def _timed(side: Side, servable: Servable, inputs: verify.Inputs) -> Side:
    """With what the first answer and later ones take, of the default signature if there is one."""
    name = min(inputs, key=lambda name: (name != DEFAULT_SIGNATURE, name), default=None)
    if name is None or not inputs[name]:
        return side
    try:
        first, *warm = _runs(servable, name, inputs[name][0])
    except ServingError:
        return side
    return replace(side, first=first, warm=median(warm))


def _runs(servable: Servable, name: str, inputs: Mapping[str, Array]) -> Iterator[float]:
    for _ in range(1 + _WARM_RUNS):
        start = perf_counter()
        servable.run(name, inputs)
        yield _milliseconds_since(start)


def _milliseconds_since(start: float) -> float:
    return round(1000 * (perf_counter() - start), 3)
