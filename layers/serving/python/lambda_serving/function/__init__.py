"""A model as a Lambda function: events in, answers out."""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from lambda_serving.settings import ServerSettings

if TYPE_CHECKING:
    from lambda_serving.function.handler import Handler

__all__ = ["start"]


def start(settings: ServerSettings) -> "Handler":
    """The handler of Lambda's events over the model of `settings`, loaded and warmed.

    Raises what loading raises: Lambda logs it, with the sentence that says what to fix, and
    tries again with the next request.
    """
    from lambda_serving.startup import open_manager

    manager = open_manager(settings)
    with ThreadPoolExecutor(1, "load") as loader:
        loading = loader.submit(manager.serve, settings.models())
        from lambda_serving.function.handler import Handler  # brings FastAPI: side by side

        loading.result()
    return Handler(manager, settings)
