"""PredictionService and ModelService: from a request's bytes to the answer's, on any transport."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from lambda_serving import protos
from lambda_serving.bodies import Held, Room
from lambda_serving.call_record import OK, CallRecord, Observers
from lambda_serving.errors import (
    NO_MEMORY,
    Code,
    InvalidArgument,
    ResourceExhausted,
    ServingError,
    Unimplemented,
)
from lambda_serving.inference import Run
from lambda_serving.manager import Loaded, Manager
from lambda_serving.model_config import ModelConfig
from lambda_serving.model_spec import ModelSpec
from lambda_serving.rpc import errors, examples, models, predict
from lambda_serving.settings import Settings

__all__ = ["Counters", "Reload", "Reply", "RpcOptions", "Services", "no_reload", "timeout_ms"]

_log = logging.getLogger(__name__)
_ALL_MESSAGES = 256 * 2**20  # bytes of all at once,
_LARGEST_MESSAGES = 4  # or of so many of the largest
_FEW_ELEMENTS = 64 * 1024  # of inputs, which a small message may repeat
_NO_DEADLINE_SECONDS = 365 * 24 * 3600

Counters = Callable[[], Mapping[str, int]]
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
    request_ids: bool = False
    """Whether predictions are answered with `x-request-id`."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            max_message=settings.grpc_max_message_bytes,
            as_content=settings.enable_serialization_as_tensor_content,
            request_ids=settings.access_log,
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
    perform: Callable[[Any, int, CallRecord | None], Any]
    api: str = ""
    """Its name if it is a prediction, of which observers are told."""

    def parse(self, body: bytes) -> Any:
        from google.protobuf.message import DecodeError

        try:
            return protos.message(f"tensorflow.serving.{self.request}").FromString(body)
        except DecodeError as error:
            raise InvalidArgument(f"The request is not a {self.request}") from error


class Services:
    """Every method of both services over the versions that `manager` holds.

    `observers` are told of predictions; `counters` gives the values of counters by name.
    """

    def __init__(
        self,
        manager: Manager,
        options: RpcOptions,
        reload: Reload = no_reload,
        *,
        observers: Observers | None = None,
        counters: Counters | None = None,
    ) -> None:
        self._manager = manager
        self._options = options
        self._reload = reload
        self._observers = Observers() if observers is None else observers
        self._counters = counters
        self.max_message = options.max_message
        self.room = Room(max(_ALL_MESSAGES, _LARGEST_MESSAGES * options.max_message), _too_many)
        """Of messages, and of the inputs that they stand for."""
        prediction, model = (
            f"/tensorflow.serving.{name}Service" for name in ("Prediction", "Model")
        )
        self.methods: Mapping[str, _Method] = {
            f"{prediction}/Predict": _Method("PredictRequest", self._predict, "Predict"),
            f"{prediction}/Classify": _Method("ClassificationRequest", self._classify, "Classify"),
            f"{prediction}/Regress": _Method("RegressionRequest", self._regress, "Regress"),
            f"{prediction}/MultiInference": _Method(
                "MultiInferenceRequest", self._multi_inference, "MultiInference"
            ),
            f"{prediction}/GetModelMetadata": _Method("GetModelMetadataRequest", self._metadata),
            f"{model}/GetModelStatus": _Method("GetModelStatusRequest", self._status),
            f"{model}/HandleReloadConfigRequest": _Method("ReloadConfigRequest", self._replace),
        }
        """Every method by its path."""

    def answer(
        self,
        path: str,
        body: bytes,
        timeout_ms: int,
        *,
        model: ModelSpec | None = None,
        entrypoint: str = "GRPC",
        request_id: str = "",
    ) -> Reply:
        """The reply to a call of one of `methods`; `timeout_ms` bounds its runs, 0 is no bound.

        `model` is what the call's address names: no other one may be asked for.
        """
        method = self.methods[path]
        if not (self._observers and method.api):
            return self._answer(path, method, body, timeout_ms, model)
        record = CallRecord(entrypoint, request_id, method.api)
        record.received(len(body))
        reply = self._answer(path, method, body, timeout_ms, model, record)
        record.status = OK if reply.code == errors.OK else Code(reply.code).name
        self._observers.tell(record)
        return reply

    def wants_id(self, path: str) -> bool:
        """Whether calls of this method are answered with `x-request-id`."""
        observed = bool(self._observers and self.methods[path].api)
        return observed and self._options.request_ids

    def _answer(
        self,
        path: str,
        method: _Method,
        body: bytes,
        timeout_ms: int,
        model: ModelSpec | None,
        record: CallRecord | None = None,
    ) -> Reply:
        try:
            request = method.parse(body)
            if record:
                record.model = _model(request)
            if model:
                models.narrow(request, model)
            response = method.perform(request, timeout_ms, record)
            return Reply(errors.OK, "", _serialized(response))
        except ServingError as error:
            return Reply(errors.code_of(error), errors.message(error), b"")
        except MemoryError:
            return Reply(errors.code_of(ResourceExhausted(NO_MEMORY)), NO_MEMORY, b"")
        except Exception:  # noqa: BLE001 - the one place for what nobody foresaw
            _log.exception("%s failed", path)
            return Reply(errors.INTERNAL, errors.UNEXPECTED, b"")

    def is_quick(self, path: str, body: bytes, model: ModelSpec | None = None) -> bool:
        """Whether a call takes less time than handing it to another thread would."""
        try:
            request = self.methods[path].parse(body)
            if not hasattr(request, "model_spec"):
                return False
            if model:
                models.narrow(request, model)
            if hasattr(request, "inputs") and predict.elements(request) > _FEW_ELEMENTS:
                return False
            return models.loaded(self._manager, request).servable.is_quick
        except Exception:  # noqa: BLE001 - `answer` comes upon it, too, and tells
            return True

    def _predict(self, request: Any, timeout_ms: int, record: CallRecord | None) -> Any:
        loaded = models.loaded(self._manager, request)
        with Held(self.room) as held:
            run = predict.prediction(
                loaded,
                request,
                admit=partial(self._admit, held),
                as_content=self._options.as_content,
            )
            return _perform(loaded, run, timeout_ms, record)

    def _classify(self, request: Any, timeout_ms: int, record: CallRecord | None) -> Any:
        loaded = models.loaded(self._manager, request)
        with Held(self.room) as held:
            run = examples.classification(loaded, request, partial(self._admit, held))
            return _perform(loaded, run, timeout_ms, record)

    def _regress(self, request: Any, timeout_ms: int, record: CallRecord | None) -> Any:
        loaded = models.loaded(self._manager, request)
        with Held(self.room) as held:
            run = examples.regression(loaded, request, partial(self._admit, held))
            return _perform(loaded, run, timeout_ms, record)

    def _multi_inference(self, request: Any, timeout_ms: int, record: CallRecord | None) -> Any:
        with Held(self.room) as held:
            admit = partial(self._admit, held)
            return examples.multi_inference(self._manager, request, admit, timeout_ms, record)

    def _admit(self, held: Held, size: int) -> None:
        """Raises where the inputs of a request take too much, alone or beside those of others."""
        if size > self.max_message:
            raise InvalidArgument(
                f"The inputs take {size} bytes together, over the limit of {self.max_message}"
                " (--grpc_max_message_bytes). Send fewer rows in a request, or raise the limit."
            )
        held.add(size)

    def _metadata(self, request: Any, _: int, __: CallRecord | None) -> Any:
        return models.metadata(self._manager, request)

    def _status(self, request: Any, _: int, __: CallRecord | None) -> Any:
        return models.status(self._manager, request)

    def _replace(self, request: Any, _: int, __: CallRecord | None) -> Any:
        return models.replace(self._reload, request, self._counters)


def _serialized(response: Any) -> bytes:
    from google.protobuf.message import EncodeError

    try:
        body: bytes = response.SerializeToString()
    except EncodeError as error:
        raise ResourceExhausted(
            "There is no memory for the answer, or it is over 2 GiB. Send less in a request"
        ) from error
    return body


def _too_many(limit: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"The messages of all calls at once are over {limit} bytes. Try again later"
    )


def _perform(loaded: Loaded, run: Run[Any], timeout_ms: int, record: CallRecord | None) -> Any:
    if record:
        record.decoded(loaded.id.version, run.signature.name, run.inputs)
    return run.perform(loaded.servable, timeout_ms, record)


def _model(request: Any) -> str:
    """The name of the model that a prediction asks for."""
    asked = request.tasks[:1] if hasattr(request, "tasks") else [request]
    name: str = asked[0].model_spec.name if asked else ""
    return name


def timeout_ms(seconds: float | None) -> int:
    """The timeout of a run for what a client's deadline leaves; 0, no bound, where it has none.

    gRPC's own word for no deadline is one in some centuries.
    """
    if seconds is None or seconds > _NO_DEADLINE_SECONDS:
        return 0
    return max(1, int(1000 * seconds))
