"""A model as a Lambda function: it takes events and returns answers."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp  # noqa: TID251 - see `start`
from typing import TYPE_CHECKING

from lambda_serving.config.server_flags import Settings
from lambda_serving.errors import InvalidArgument

if TYPE_CHECKING:
    from lambda_serving.function.handler import Handler

__all__ = ["start"]


def start(settings: Settings, stack: str = "none", base_path: str = "") -> "Handler":
    """The handler of Lambda's events for the model of `settings`, loaded and warmed.

    `stack` is a dimension of its metrics; paths of events may begin with `base_path`. Raises what
    loading raises: Lambda logs it, with the sentence that says what to fix, and tries again at the
    next request.
    """
    from lambda_serving.core.startup import open_manager

    if not (models := settings.models()):  # no model can be added later
        raise InvalidArgument(f"The config file {settings.model_config_file} has no models")
    downloads = Path(mkdtemp())
    # nothing can change the files of an image, as the function cannot write them
    manager = open_manager(settings, models, downloads, files_stay=True)
    with ThreadPoolExecutor(1, "load") as loader:
        loading = loader.submit(manager.serve, models)
        # this takes as long as loading, so both run at once
        from lambda_serving.function.handler import Handler

        loading.result()
    return Handler(manager, settings, stack, base_path)
