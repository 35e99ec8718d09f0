"""Reloads models in all workers, whichever of them received the request."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from lambda_serving import protos
from lambda_serving.config import model_server_config
from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.server_core import ServerCore
from lambda_serving.errors import ServingError, Unknown, of_code

if TYPE_CHECKING:
    from lambda_serving.api.rpc.services import Reload

__all__ = ["first_models", "reloading"]

_CHECK, _RELOAD = "check", "reload"
_OK = b"\0"


class Workers(Protocol):
    """All workers, as one of them reaches the others (see `worker.Worker`)."""

    def answer(self, topic: str, give: Callable[[bytes], bytes]) -> None: ...

    def gather(self, topic: str, payload: bytes, *, keep: bool = False) -> list[bytes]: ...


def first_models(kept: Mapping[str, bytes], settings: Settings) -> list[ModelConfig]:
    """The models to load first: for a replaced worker, those of the last reload.

    A config file that is polled overrides them, as it does in each process.
    """
    kept_models = kept.get(_RELOAD)
    if kept_models is None or (
        settings.model_config_file and settings.model_config_file_poll_wait_seconds
    ):
        return settings.models()
    return _parsed(kept_models)


def reloading(workers: Workers, core: ServerCore) -> "Reload":
    """A function that does `core.reload` in every worker.

    Every worker checks the models first: if one refuses them, nothing changes anywhere. After that
    only loading can fail, and each worker retries it as a single process does. The function raises
    the first error of all workers.
    """
    workers.answer(_CHECK, partial(_answer, core.check))
    workers.answer(_RELOAD, partial(_answer, core.reload))

    def reload(models: Sequence[ModelConfig]) -> None:
        payload = model_server_config.to_message(models).SerializeToString()
        _raise_first(workers.gather(_CHECK, payload))
        _raise_first(workers.gather(_RELOAD, payload, keep=True))

    return reload


def _answer(use: Callable[[Sequence[ModelConfig]], None], payload: bytes) -> bytes:
    """Zero for success; an error as its code, one byte, and its message."""
    try:
        use(_parsed(payload))
    except ServingError as error:
        return bytes([error.code]) + str(error).encode()
    return _OK


def _raise_first(answers: Sequence[bytes]) -> None:
    for answer in answers:
        if not answer:
            raise Unknown("A worker failed to reload. See the log for the reason")
        if answer != _OK:
            raise of_code(answer[0], answer[1:].decode())


def _parsed(payload: bytes) -> list[ModelConfig]:
    message = protos.message("tensorflow.serving.ModelServerConfig")
    return model_server_config.of_message(message.FromString(payload), "the request")
