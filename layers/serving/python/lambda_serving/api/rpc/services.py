"""PredictionService and ModelService on any transport: from a request's bytes to the answer's."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lambda_serving import protos
from lambda_serving.api.inline_or_thread import Place, Prediction, failure, is_small
from lambda_serving.api.prediction_threads import Deadline, Gone, Threads
from lambda_serving.api.request_memory import Held, Room
from lambda_serving.api.rpc import examples, grpc_status, large_requests, model_service, predict
from lambda_serving.api.rpc.grpc_status import Reply, refusal
from lambda_serving.api.rpc.large_answers import serialized
from lambda_serving.call_record import OK, UNRECORDED, CallRecord, Observers
from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Loaded, Manager
from lambda_serving.errors import Code, InvalidArgument, ResourceExhausted, Unimplemented
from lambda_serving.model_spec import ModelSpec
from lambda_serving.servables.inference import Run

__all__ = ["Circumstances", "Counters", "Reload", "Services", "no_reload", "timeout_ms"]

_ALL_MESSAGES = 256 * 2**20  # bytes of all messages at once,
_LARGEST_MESSAGES = 4  # or so many of the largest, if that is more
_FEW_ELEMENTS = 64 * 1024  # of inputs: a small message may stand for large ones
_NO_DEADLINE_SECONDS = 365 * 24 * 3600
_NO_MODEL = ""  # for threads that reload models, or read messages whose model is not yet known

Counters = Callable[[], Mapping[str, int]]
Reload = Callable[[Sequence[ModelConfig]], None]
"""Makes these the models that are served; raises a ServingError if it cannot."""


def no_reload(_: Sequence[ModelConfig]) -> None:
    """Raises Unimplemented: the models of this server cannot be replaced."""
    raise Unimplemented("The models served here cannot be replaced by a call")


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What is known of a call besides its method and its message.

    `timeouts_ms` are the limits set by its client and by whoever passed it on, 0 for none. `model`
    is the one in its address: the message must not ask for another. `gone` returns when the client
    has gone away.
    """

    timeouts_ms: Sequence[int] = ()
    model: ModelSpec | None = None
    entrypoint: str = "GRPC"
    request_id: str = ""
    gone: Gone | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """A call whose message has been read."""

    request: Any
    small: bool
    """Whether its message is small, though what it stands for may be large."""
    place: Place
    record: CallRecord


@dataclass(frozen=True, slots=True)
class _Method:
    """A method: the name of its request, and a function that returns its serialized response."""

    request: str
    perform: Callable[[_Call], Awaitable[bytes]]
    api: str = ""
    """Its name if it is a prediction: observers are told of those."""

    def read(self, body: bytes, hold: Callable[[int], None] | None) -> Any:
        """The message in a body; with `hold`, read in pieces as `large_requests` does.

        Raises InvalidArgument for a body that is no such message, and what `hold` raises.
        """
        from google.protobuf.message import DecodeError

        request = protos.message(f"tensorflow.serving.{self.request}")()
        if hold:
            large_requests.read(request, body, hold)
            return request
        try:
            request.MergeFromString(body)
        except DecodeError as error:
            raise InvalidArgument(f"The request is not a {self.request}") from error
        return request


_PLAIN = Circumstances()


class Services:
    """Every method of both services over the versions that `manager` holds.

    Calls run in `threads`, or without them in the caller's thread. `observers` are told of
    predictions; `counters` returns the values of counters by name.
    """

    def __init__(
        self,
        manager: Manager,
        settings: Settings,
        threads: Threads | None = None,
        reload: Reload = no_reload,
        *,
        observers: Observers | None = None,
        counters: Counters | None = None,
    ) -> None:
        self._manager = manager
        self._settings = settings
        self._threads = threads
        self._reload = reload
        self._observers = Observers() if observers is None else observers
        self._counters = counters
        self.max_message = settings.grpc_max_message_bytes
        self.room = Room(max(_ALL_MESSAGES, _LARGEST_MESSAGES * self.max_message), _too_many)
        """Bounds the messages of all calls, and the inputs that they stand for."""
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

    async def answer(self, path: str, body: bytes, how: Circumstances = _PLAIN) -> Reply:
        """The reply to a call of one of `methods`."""
        method = self.methods[path]
        record = UNRECORDED
        if method.api:
            record = self._observers.record(how.entrypoint, how.request_id, method.api)
        record.received(len(body))
        reply = await self._answer(path, method, body, how, record)
        record.status = OK if reply.code == grpc_status.OK else Code(reply.code).name
        self._observers.tell(record)
        return reply

    def wants_id(self, path: str) -> bool:
        """Whether calls of this method are answered with `x-request-id`."""
        observed = bool(self._observers and self.methods[path].api)
        return observed and self._settings.access_log

    async def _answer(
        self, path: str, method: _Method, body: bytes, how: Circumstances, record: CallRecord
    ) -> Reply:
        deadline = Deadline.after(self._settings.grpc_timeout_in_ms, *how.timeouts_ms)
        place = Place(self._threads, _NO_MODEL, deadline, how.gone)
        try:
            with Held(self.room) as message, Held(self.room) as held:
                small = is_small(len(body))
                if not small:
                    message.add(len(body))  # so that its fields cannot take the whole room

                def read() -> Any:
                    request = method.read(body, None if small else held.add)
                    if how.model:
                        model_service.narrow(request, how.model)
                    return request

                request = await place.do(read, here=small)
                record.model = name = _model(request)
                place = Place(self._threads, name, deadline, how.gone)
                call = _Call(request, small, place, record)
                return Reply(await method.perform(call))
        except Exception as error:  # noqa: BLE001 - `failure` logs what nobody foresaw
            return refusal(failure(error, path))

    async def _predict(self, call: _Call) -> bytes:
        def run_of(loaded: Loaded, admit: Callable[[int], None]) -> Run[bytes]:
            as_content = self._settings.enable_serialization_as_tensor_content
            return predict.prediction(loaded, call.request, admit=admit, as_content=as_content)

        few = call.small and predict.elements(call.request) <= _FEW_ELEMENTS
        return await self._run(call, run_of, small=few)

    async def _classify(self, call: _Call) -> bytes:
        return await self._infer(call, examples.classification)

    async def _regress(self, call: _Call) -> bytes:
        return await self._infer(call, examples.regression)

    async def _infer(
        self, call: _Call, infer: Callable[[Loaded, Any, Callable[[int], None]], Run[Any]]
    ) -> bytes:
        """A context may be repeated for each of many examples, so such a message is not small."""

        def run_of(loaded: Loaded, admit: Callable[[int], None]) -> Run[bytes]:
            return infer(loaded, call.request, admit).then(serialized)

        few = call.small and not call.request.input.example_list_with_context.HasField("context")
        return await self._run(call, run_of, small=few)

    async def _run(
        self,
        call: _Call,
        run_of: Callable[[Loaded, Callable[[int], None]], Run[bytes]],
        *,
        small: bool,
    ) -> bytes:
        with Held(self.room) as held:

            def prepare() -> tuple[Loaded, Run[bytes]]:
                loaded = model_service.loaded(self._manager, call.request)
                run = run_of(loaded, partial(self._admit, held))
                call.record.decoded(loaded.id.version, run.signature.name, run.inputs)
                return loaded, run

            return await Prediction(
                call.place, prepare, call.record, small, self._settings.enable_batching
            ).answer()

    async def _multi_inference(self, call: _Call) -> bytes:
        with Held(self.room) as held:

            def perform() -> Any:
                admit = partial(self._admit, held)
                return examples.multi_inference(
                    self._manager, call.request, admit, call.place.deadline, call.record
                )

            return await self._in_thread(call, perform)

    async def _metadata(self, call: _Call) -> bytes:
        return await self._in_thread(
            call, partial(model_service.metadata, self._manager, call.request)
        )

    async def _status(self, call: _Call) -> bytes:
        return serialized(model_service.status(self._manager, call.request))

    async def _replace(self, call: _Call) -> bytes:
        """Goes on even if the client goes away, and for as long as loading takes."""
        use = partial(model_service.replace, self._reload, call.request, self._counters)
        place = Place(self._threads, _NO_MODEL, Deadline(None))
        return await place.do(lambda: serialized(use()))

    async def _in_thread(self, call: _Call, work: Callable[[], Any]) -> bytes:
        return await call.place.do(lambda: serialized(work()))

    def _admit(self, held: Held, size: int) -> None:
        """Raises if the inputs of a request take too much, alone or beside those of others."""
        if size > self.max_message:
            raise InvalidArgument(
                f"The inputs take {size} bytes together, over the limit of {self.max_message}"
                " (--grpc_max_message_bytes). Send fewer rows in a request, or raise the limit."
            )
        held.add(size)


def _too_many(limit: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"The messages of all calls at once are over {limit} bytes. Try again later"
    )


def _model(request: Any) -> str:
    """The name of the model that is asked for, empty for none."""
    asked = request.tasks[:1] if hasattr(request, "tasks") else [request]
    name: str = asked[0].model_spec.name if asked and hasattr(asked[0], "model_spec") else ""
    return name


def timeout_ms(seconds: float | None) -> int:
    """The milliseconds that a client's deadline leaves; 0, no bound, if it has none.

    gRPC represents no deadline as one that is centuries away.
    """
    if seconds is None or seconds > _NO_DEADLINE_SECONDS:
        return 0
    return max(1, int(1000 * seconds))
