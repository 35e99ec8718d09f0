"""A model as a Lambda function: events in, answers out."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp  # noqa: TID251 - see `start`
from typing import TYPE_CHECKING

from lambda_serving.config.settings import Settings
from lambda_serving.errors import InvalidArgument

if TYPE_CHECKING:
    from lambda_serving.function.handler import Handler

__all__ = ["start"]


def start(settings: Settings, stack: str = "none", base_path: str = "") -> "Handler":
    """The handler of Lambda's events over the model of `settings`, loaded and warmed.

    `stack` names the stack that its metrics are counted for; `base_path` may come before paths.
    Raises what loading raises: Lambda logs it, with the sentence that says what to fix, and
    tries again with the next request.
    """
    from lambda_serving.core.startup import open_manager

    if not (models := settings.models()):  # nobody could name any later
        raise InvalidArgument(f"The config file {settings.model_config_file} has no models")
    downloads = Path(mkdtemp())
    # the files of an image are its own: what the function cannot write, nobody writes
    manager = open_manager(settings, models, downloads, files_stay=True)
    with ThreadPoolExecutor(1, "load") as loader:
        loading = loader.submit(manager.serve, models)
        from lambda_serving.function.handler import Handler  # takes as long: side by side

        loading.result()
    return Handler(manager, settings, stack, base_path)
