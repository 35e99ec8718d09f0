"""A server over a folder of models, for work on them: it follows what is put into the folder."""

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.server_flags import Settings
from lambda_serving.core import threads
from lambda_serving.core.server_core import ServerCore
from lambda_serving.errors import ServingError
from lambda_serving.server.listeners import rest_listener
from lambda_serving.server.serve import run

if TYPE_CHECKING:
    from lambda_serving.api.rpc.services import Reload
    from lambda_serving.server.http_server import Server

__all__ = ["serve_models"]

_log = logging.getLogger(__name__)


def serve_models(
    settings: Settings,
    find: Callable[[], Sequence[ModelConfig]],
    opened: Callable[[str], None],
    exit_code: Callable[[int], int],
) -> int:
    """Serves the models that `find` returns, at each poll of the file system anew.

    A model that does not load is logged; the others are served, and it is loaded once its files
    have changed. `opened` is called with the address. Returns the exit code for the signal that
    ended the server. Raises what `serve` raises, except for models.
    """
    models = find()
    with rest_listener(settings) as listener:
        process = _Following(settings, listener, find, models, opened)
        return run(settings, models, listener, process, exit_code=exit_code)


class _Following:
    """A serving process, alone, that gives the server other models when there are others."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        find: Callable[[], Sequence[ModelConfig]],
        models: Sequence[ModelConfig],
        opened: Callable[[str], None],
    ) -> None:
        self._seconds = settings.file_system_poll_wait_seconds
        self._listener = listener
        self._find = find
        self._models = list(models)
        self._opened = opened
        self._closing = threading.Event()
        self._said = ""

    def gatherer(self, _: str, answer: Callable[[bytes], bytes]) -> Callable[[bytes], list[bytes]]:
        return lambda payload: [answer(payload)]

    def failed_to_load(self, error: ServingError) -> None:
        _log.error("%s", error)

    def loaded(self, core: ServerCore) -> "Reload":
        threads.start("models", lambda: self._look(core), daemon=True)
        return core.reload

    def opened(self, _: "Server") -> None:
        host, port = self._listener.getsockname()[:2]
        self._opened(f"http://{host}:{port}")

    def closing(self) -> None:
        self._closing.set()

    def _look(self, core: ServerCore) -> bool:
        """Waits for the next poll, then serves the models that there are; False at the end."""
        if self._closing.wait(self._seconds):
            return False
        try:
            models = list(self._find())
            if models != self._models:
                self._models = models
                core.reload(models)
        except ServingError as error:
            if str(error) != self._said:
                _log.error("%s", error)
            self._said = str(error)
        else:
            self._said = ""
        return True
