"""From settings to a manager, for servers and functions alike."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager
from lambda_serving.servables.saved_model import LiteRT, load
from lambda_serving.servables.servable import Servable
from lambda_serving.servables.warmup import WarmUp
from lambda_serving.store import open_store

if TYPE_CHECKING:
    from lambda_serving.servables.tensorflow_c.shared_memory import Shared

__all__ = ["LoadMetrics", "open_manager"]


class LoadMetrics(Protocol):
    """Counts loads, by wrapping the function that loads, and warm-ups."""

    def counting(self, load: Callable[[Path], Servable]) -> Callable[[Path], Servable]: ...

    def warmed_up(self, warm_up: WarmUp) -> None: ...


def open_manager(
    settings: Settings,
    models: Sequence[ModelConfig],
    downloads: Path,
    wrap: Callable[[Servable, Path], Servable] | None = None,
    metrics: LoadMetrics | None = None,
    *,
    files_stay: bool = False,
    shared: "Shared | None" = None,
) -> Manager:
    """A manager that has loaded nothing yet; versions from buckets are downloaded to `downloads`.

    `models` gives the base paths. `wrap`, `files_stay` and `shared` are those of
    `saved_model.load`; `metrics` counts loads and warm-ups.
    Raises what the settings' own checks and `open_store` raise.
    """
    if settings.op_libraries:
        from lambda_serving.servables.tensorflow_c import op_libraries  # few settings need it

        for path in filter(None, settings.op_libraries.split(",")):
            op_libraries.load_op_library(path)
    loading = partial(
        load,
        tags=settings.saved_model_tags.split(","),
        session_config=settings.session_config(),
        warm_up=settings.enable_model_warmup,
        warm_up_iterations=settings.num_request_iterations_for_warmup or 1,
        cache=Path(settings.cache_dir) if settings.cache_dir else None,
        wrap=wrap,
        warmed_up=metrics.warmed_up if metrics else None,
        files_stay=files_stay,
        shared=shared,
        litert=_litert(settings),
    )
    store = open_store({model.name: model.base_path for model in models}, downloads)
    return Manager(store, metrics.counting(loading) if metrics else loading)


def _litert(settings: Settings) -> LiteRT:
    threads = settings.tensorflow_session_parallelism or settings.tensorflow_intra_op_parallelism
    return LiteRT(settings.prefer_tflite_model, settings.tflite_interpreters, threads or 1)
