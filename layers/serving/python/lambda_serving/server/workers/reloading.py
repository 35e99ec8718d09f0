"""Other models for all workers, whichever of them was asked."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from lambda_serving import protos
from lambda_serving.config import model_config
from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.settings import Settings
from lambda_serving.core.server_core import ServerCore
from lambda_serving.errors import ServingError, Unknown, of_code

if TYPE_CHECKING:
    from lambda_serving.api.rpc.services import Reload
    from lambda_serving.server.workers.worker import Worker

__all__ = ["models", "reloading"]

_CHECK, _RELOAD = "check", "reload"
_OK = b"\0"


def models(worker: "Worker", settings: Settings) -> list[ModelConfig]:
    """The models to begin with: those of the last reload, if a worker had to be replaced since.

    A config file that is read again and again has the last word in each process anyway.
    """
    kept = worker.kept.get(_RELOAD)
    if kept is None or (
        settings.model_config_file and settings.model_config_file_poll_wait_seconds
    ):
        return settings.models()
    return _parsed(kept)


def reloading(worker: "Worker", core: ServerCore) -> "Reload":
    """What does `core.reload` in every worker.

    First each looks whether it could: if one refuses, nothing changes anywhere. After that only
    loading can fail, which is tried again in each as it is in a single process. Raises the first
    error of all workers.
    """
    worker.answer(_CHECK, partial(_told, core.check))
    worker.answer(_RELOAD, partial(_told, core.reload))

    def reload(models: Sequence[ModelConfig]) -> None:
        payload = model_config.to_message(models).SerializeToString()
        _raise_first(worker.gather(_CHECK, payload))
        _raise_first(worker.gather(_RELOAD, payload, keep=True))

    return reload


def _told(use: Callable[[Sequence[ModelConfig]], None], payload: bytes) -> bytes:
    """An error as its code, a byte, and its message."""
    try:
        use(_parsed(payload))
    except ServingError as error:
        return bytes([error.code]) + str(error).encode()
    return _OK


def _raise_first(answers: Sequence[bytes]) -> None:
    for answer in answers:
        if not answer:
            raise Unknown("A worker failed to reload; its log says why")
        if answer != _OK:
            raise of_code(answer[0], answer[1:].decode())


def _parsed(payload: bytes) -> list[ModelConfig]:
    message = protos.message("tensorflow.serving.ModelServerConfig")
    return model_config.of_message(message.FromString(payload), "the request")
