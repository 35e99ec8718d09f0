"""PredictionService and ModelService: from a request's bytes to the answer's, on any transport."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lambda_serving import protos
from lambda_serving.errors import InvalidArgument, ServingError, Unimplemented
from lambda_serving.manager import Manager
from lambda_serving.model_config import ModelConfig
from lambda_serving.rpc import errors, examples, models, predict
from lambda_serving.settings import Settings

__all__ = ["Reload", "Reply", "RpcOptions", "Services", "no_reload", "timeout_ms"]

_log = logging.getLogger(__name__)
_NO_DEADLINE_SECONDS = 365 * 24 * 3600

Reload = Callable[[Sequence[ModelConfig]], None]
"""Makes these the models that are served; raises a ServingError when it cannot."""


def no_reload(_: Sequence[ModelConfig]) -> None:
    """Of a server whose models stay; raises Unimplemented."""
    raise Unimplemented("The models served here cannot be replaced by a call")


@dataclass(frozen=True, slots=True)
class RpcOptions:
    """What an operator may set."""

    max_message: int = 256 * 2**20
    """Bytes of the largest request, and of the largest array that one may stand for."""
    as_content: bool = False
    """Predict answers by `tensor_content`, not by values."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            max_message=settings.grpc_max_message_bytes,
            as_content=settings.enable_serialization_as_tensor_content,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A serialized answer, or a status that is not OK and its message."""

    code: int
    message: str
    body: bytes


@dataclass(frozen=True, slots=True)
class _Method:
    """A method: the name of its request, and what makes its response in so many milliseconds."""

    request: str
    perform: Callable[[Any, int], Any]

    def parse(self, body: bytes) -> Any:
        from google.protobuf.message import DecodeError

        try:
            return protos.message(f"tensorflow.serving.{self.request}").FromString(body)
        except DecodeError as error:
            raise InvalidArgument(f"The request is not a {self.request}") from error


class Services:
    """Every method of both services over the versions that `manager` holds."""

    def __init__(self, manager: Manager, options: RpcOptions, reload: Reload = no_reload) -> None:
        self._manager = manager
        self._options = options
        self._reload = reload
        self.max_message = options.max_message
        prediction, model = (
            f"/tensorflow.serving.{name}Service" for name in ("Prediction", "Model")
        )
        self.methods: Mapping[str, _Method] = {
            f"{prediction}/Predict": _Method("PredictRequest", self._predict),
            f"{prediction}/Classify": _Method("ClassificationRequest", self._classify),
            f"{prediction}/Regress": _Method("RegressionRequest", self._regress),
            f"{prediction}/MultiInference": _Method("MultiInferenceRequest", self._multi_inference),
            f"{prediction}/GetModelMetadata": _Method("GetModelMetadataRequest", self._metadata),
            f"{model}/GetModelStatus": _Method("GetModelStatusRequest", self._status),
            f"{model}/HandleReloadConfigRequest": _Method("ReloadConfigRequest", self._replace),
        }
        """Every method by its path."""

    def answer(self, path: str, body: bytes, timeout_ms: int) -> Reply:
        """The reply to a call of one of `methods`; `timeout_ms` bounds its runs, 0 is no bound."""
        try:
            method = self.methods[path]
            response = method.perform(method.parse(body), timeout_ms)
            return Reply(errors.OK, "", response.SerializeToString())
        except ServingError as error:
            return Reply(errors.code_of(error), errors.message(error), b"")
        except Exception:  # noqa: BLE001 - the one place for what nobody foresaw
            _log.exception("%s failed", path)
            return Reply(errors.INTERNAL, errors.UNEXPECTED, b"")

    def is_quick(self, path: str, body: bytes) -> bool:
        """Whether a call takes less time than handing it to another thread would."""
        try:
            request = self.methods[path].parse(body)
            if not hasattr(request, "model_spec"):
                return False
            return models.loaded(self._manager, request).servable.is_quick
        except Exception:  # noqa: BLE001 - `answer` comes upon it, too, and tells
            return True

    def _predict(self, request: Any, timeout_ms: int) -> Any:
        return predict.predict(
            models.loaded(self._manager, request),
            request,
            timeout_ms,
            max_bytes=self._options.max_message,
            as_content=self._options.as_content,
        )

    def _classify(self, request: Any, timeout_ms: int) -> Any:
        return examples.classify(models.loaded(self._manager, request), request, timeout_ms)

    def _regress(self, request: Any, timeout_ms: int) -> Any:
        return examples.regress(models.loaded(self._manager, request), request, timeout_ms)

    def _multi_inference(self, request: Any, timeout_ms: int) -> Any:
        return examples.multi_inference(self._manager, request, timeout_ms)

    def _metadata(self, request: Any, _: int) -> Any:
        return models.metadata(self._manager, request)

    def _status(self, request: Any, _: int) -> Any:
        return models.status(self._manager, request)

    def _replace(self, request: Any, _: int) -> Any:
        return models.replace(self._reload, request)


def timeout_ms(seconds: float | None) -> int:
    """The timeout of a run for what a client's deadline leaves; 0, no bound, where it has none.

    gRPC's own word for no deadline is one in some centuries.
    """
    if seconds is None or seconds > _NO_DEADLINE_SECONDS:
        return 0
    return max(1, int(1000 * seconds))
