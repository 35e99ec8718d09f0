"""Loads a version's folder as a `Servable`: its SavedModel, or the LiteRT model beside it."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lambda_serving.errors import FailedPrecondition, ServingError, Unavailable
from lambda_serving.installation import broken
from lambda_serving.servables.litert.compiled_folder import MODEL_FILE, serves
from lambda_serving.servables.servable import Servable
from lambda_serving.servables.warmup import WarmUp
from lambda_serving.servables.warmup import warm_up as run_warm_up

if TYPE_CHECKING:
    from lambda_serving.servables.tensorflow_c.shared_memory import Shared

__all__ = ["LiteRT", "load"]

_log = logging.getLogger(__name__)


class LiteRT(NamedTuple):
    """When LiteRT serves `model.tflite`, and how.

    It does if it is `preferred` to the SavedModel, and always in folders that `lambda-serving
    compile` made for it. At most so many `interpreters` run at once, each with so many `threads`.
    """

    preferred: bool = False
    interpreters: int = 1
    threads: int = 1

    def serves(self, path: Path) -> bool:
        """Whether the model in a version's folder is served by LiteRT."""
        return serves(path, preferred=self.preferred)


def load(
    path: str | Path,
    *,
    tags: Sequence[str] = ("serve",),
    session_config: bytes = b"",
    warm_up: bool = True,
    warm_up_iterations: int = 1,
    cache: Path | None = None,
    wrap: Callable[[Servable, Path], Servable] | None = None,
    warmed_up: Callable[[WarmUp], None] | None = None,
    files_stay: bool = False,
    shared: "Shared | None" = None,
    litert: LiteRT | None = None,
) -> Servable:
    """The servable of the SavedModel in `path`, restored as TensorFlow Serving restores it.

    `tags` choose the meta graph; `session_config` is a serialized `tensorflow.ConfigProto`.
    `warm_up` runs the export's warm-up requests, each `warm_up_iterations` times, and reports to
    `warmed_up`. `cache` keeps loadable copies of exports that need one (`object_graph`). `wrap`
    replaces the servable before it is warmed up. `files_stay` promises that nobody changes files
    that this process cannot write, so that compiled weights may be mapped; otherwise `shared` is
    where processes share the weights they read. `litert` says whether `model.tflite` is served
    instead. Problems that do not prevent loading are logged as warnings, with their fix.
    Long, because all options are told here.

    Raises NotFound, DataLoss, InvalidArgument or another error that TensorFlow gives for the
    export, FailedPrecondition if a package is missing that it needs, what `load_tflite` raises, and
    what a failing warm-up request raises.
    """
    path, litert = Path(path), litert or LiteRT()
    by_litert = litert.serves(path)
    with _naming(MODEL_FILE if by_litert else "the SavedModel", path), ExitStack() as on_failure:
        if by_litert:
            servable = _open_tflite(path, litert, files_stay=files_stay)
        else:
            from lambda_serving.servables.tensorflow_model import open_saved_model

            servable = open_saved_model(
                path, tags, session_config, cache, files_stay=files_stay, shared=shared
            )
        on_failure.callback(servable.close)
        if wrap:
            servable = wrap(servable, path)
        if warm_up:
            run_warm_up(servable, path, warm_up_iterations, warmed_up)
        on_failure.pop_all()
    for problem in servable.problems:
        _log.warning("%s: %s", path, problem)
    return servable


def _open_tflite(path: Path, litert: LiteRT, *, files_stay: bool) -> Servable:
    from lambda_serving.servables.litert import load as tflite  # a model needs one runtime

    trusted = files_stay and tflite.is_proven(path)
    return tflite.load_tflite(
        path, litert.interpreters, litert.threads, _trim_memory, trusted=trusted
    )


def _trim_memory() -> None:
    """Returns freed memory to the system; glibc would keep 200 MB after two ResNet-50s."""
    from lambda_serving.servables.tensorflow_c import memory  # opens no library of TensorFlow

    memory.trim()


@contextmanager
def _naming(what: str, path: Path) -> Iterator[None]:
    """Adds what could not be loaded, its path, and a hint if there is one, to errors."""
    try:
        yield
    except ServingError as error:
        from lambda_serving.servables.load_failures import hint  # only a failure needs it

        raise type(error)(f"Could not load {what} in {path}: {error}{hint(error, path)}") from error
    except ImportError as error:
        raise FailedPrecondition(f"Could not load {what} in {path}: {broken(error)}") from error
    except OSError as error:
        raise Unavailable(f"Could not load {what} in {path}: {error}") from error
