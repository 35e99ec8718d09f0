"""The ASGI application behind `/v1/`: from the bytes of a request to those of its answer."""

import gzip
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from starlette.types import Receive, Scope, Send

from lambda_serving.api import codec, http
from lambda_serving.api.http import Answer, Header
from lambda_serving.api.inline_or_thread import Place, Prediction, convert, failure, is_small
from lambda_serving.api.prediction_threads import Deadline, Threads
from lambda_serving.api.rest import http_status, status_and_metadata, urls
from lambda_serving.api.rest.urls import Call, Verb
from lambda_serving.call_record import CallRecord, Observers
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Loaded, Manager
from lambda_serving.servables import inference
from lambda_serving.servables.inference import Run

__all__ = ["Serving"]

_METHODS = {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"}
_WORTH_ZIPPING = 1024  # bytes
_JSON = (b"content-type", b"application/json")
_HTML = (b"content-type", b"text/html")
_CORS = http.cors(b"POST, GET", b"Content-Type")

_Result = TypeVar("_Result")
_Hold = Callable[[int], None]
_Prediction = tuple[Loaded, Run[bytes]]


class Serving:
    """Every request that no other route takes, by TensorFlow Serving's grammar.

    Predictions run in `threads`, or without them in the caller's thread: a function has one request
    at a time. `observers` are told of every call but preflights.
    """

    def __init__(
        self, manager: Manager, settings: Settings, threads: Threads | None, observers: Observers
    ) -> None:
        self._manager = manager
        self._settings = settings
        self._threads = threads
        self._observers = observers
        self._headers = _CORS if settings.rest_api_enable_cors_support else ()
        self._limits = codec.Limits(settings.rest_api_max_nesting)
        self._collector = codec.Collector()
        self._predictions: dict[Verb, Callable[[Call, bytes, codec.Limits], _Prediction]] = {
            Verb.PREDICT: self._predict,
            Verb.CLASSIFY: self._classify,
            Verb.REGRESS: self._regress,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, target = scope["method"], _target(scope)
        if method not in _METHODS:
            answer = _page(HTTPStatus.NOT_IMPLEMENTED)
        elif not target.lower().startswith("/v1/"):
            answer = _page(HTTPStatus.NOT_FOUND)
        elif method == "OPTIONS":
            answer = _preflight(scope, self._headers)
        else:
            known_as = http.request_id_of(scope) if self._settings.access_log else ""
            record = self._observers.record("REST", known_as)
            status, body = await self._process(method, target, scope, receive, record)
            self._observers.tell(record)
            headers = [_JSON, *self._headers]
            if record.request_id:
                headers.append(http.id_header(record.request_id))
            answer = Answer(status, await self._zipped(body, scope, headers), headers)
        await answer.send(send)

    async def _process(
        self, method: str, target: str, scope: Scope, receive: Receive, record: CallRecord
    ) -> tuple[int, bytes]:
        try:
            call = urls.parse(method, target)
            record.api = call.verb.value if call.verb in self._predictions else ""
            record.model = call.spec.name
            body = await http.read_body(scope, receive, self._settings.rest_api_max_body_bytes)
            record.received(len(body))
            return HTTPStatus.OK, await self._answer(call, body, scope, receive, record)
        except Exception as error:  # noqa: BLE001 - `failure` logs what nobody foresaw
            told = failure(error, f"{method} {target}")
            record.status = told.code.name
            return http_status.status_of(told), http_status.body(str(told))

    async def _answer(
        self, call: Call, body: bytes, scope: Scope, receive: Receive, record: CallRecord
    ) -> bytes:
        if call.verb is Verb.STATUS:
            return self._status(call)
        place = Place(
            self._threads,
            call.spec.name,
            Deadline.after(self._settings.rest_api_timeout_in_ms, scope.get("timeout_ms", 0)),
            partial(http.wait_for_disconnect, receive),
        )
        if call.verb is Verb.METADATA:
            loaded = self._manager.get(call.spec)
            return await place.do(partial(status_and_metadata.metadata, loaded))
        zipped = b"gzip" in http.header(scope, b"content-encoding")
        hold = scope.get("hold", _no_bound)
        return await Prediction(
            place,
            partial(self._prepare, call, body, record, hold, zipped=zipped),
            record,
            small=is_small(len(body), repeats=call.verb is not Verb.PREDICT) and not zipped,
            joins=self._settings.enable_batching,
        ).answer()

    def _prepare(
        self, call: Call, body: bytes, record: CallRecord, hold: _Hold, *, zipped: bool
    ) -> _Prediction:
        """The version and the run that a body asks for; the body is read first."""
        record.begun()
        if zipped:
            body = http.unzip(body, self._settings.rest_api_max_unzipped_bytes, hold)
        read = self._predictions[call.verb]
        if len(body) <= codec.LARGE:
            loaded, run = read(call, body, self._limits)
        else:
            with self._collector.off(), codec.Growth() as growth:
                limits = self._limits._replace(hold=hold, growth=growth)
                loaded, run = read(call, body, limits)
        record.decoded(loaded.id.version, run.signature.name, run.inputs)
        return loaded, run

    def _predict(self, call: Call, body: bytes, limits: codec.Limits) -> _Prediction:
        document = codec.parse(body, limits)
        loaded = self._manager.get(call.spec)
        signature = loaded.servable.signature(document.signature_name)
        form, inputs = codec.decode(document, signature)
        return loaded, Run(signature, inputs, lambda outputs: codec.encode(outputs, form))

    def _classify(self, call: Call, body: bytes, limits: codec.Limits) -> _Prediction:
        loaded, run = self._infer(inference.classification, call, body, limits)
        return loaded, run.then(lambda of: codec.encode_classifications(of.classes, of.scores))

    def _regress(self, call: Call, body: bytes, limits: codec.Limits) -> _Prediction:
        loaded, run = self._infer(inference.regression, call, body, limits)
        return loaded, run.then(codec.encode_regressions)

    def _infer(
        self, infer: Callable[..., Run[_Result]], call: Call, body: bytes, limits: codec.Limits
    ) -> tuple[Loaded, Run[_Result]]:
        """The run for the examples in a body; all of the body is read first."""
        request = codec.parse_examples(body, limits)
        loaded = self._manager.get(call.spec)
        return loaded, infer(loaded.servable, request.signature_name, request.examples)

    def _status(self, call: Call) -> bytes:
        """A label is ignored here (servables/tensorflow/get_model_status_impl.cc)."""
        return status_and_metadata.status(
            self._manager.states.of(call.spec.name, call.spec.version)
        )

    async def _zipped(self, body: bytes, scope: Scope, headers: list[Header]) -> bytes:
        """The body, compressed if it is large and the client accepts gzip; `headers` say so."""
        if len(body) < _WORTH_ZIPPING or b"gzip" not in http.header(scope, b"accept-encoding"):
            return body
        headers += [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
        zipping = partial(gzip.compress, body, 1, mtime=0)
        return await convert(self._threads, zipping, len(body))


def _no_bound(_: int) -> None:
    """Holds nothing: one request at a time needs no bound."""


def _target(scope: Scope) -> str:
    """Path and query as sent."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


def _preflight(scope: Scope, headers: Sequence[Header]) -> Answer:
    """The answer to `OPTIONS` anywhere below `/v1/`, with or without CORS (http_server.cc)."""
    origin = http.header(scope, b"origin")
    allowed = b"http://" in origin or b"https://" in origin
    status = HTTPStatus.OK if allowed else HTTPStatus.BAD_REQUEST
    return Answer(status, headers=(_HTML, *headers))


def _page(status: HTTPStatus) -> Answer:
    """The page that libevent answers with, before TensorFlow Serving sees the request."""
    title = f"{status.value} {status.phrase}"
    page = (
        f"<HTML><HEAD>\n<TITLE>{title}</TITLE>\n</HEAD><BODY>\n<H1>{status.phrase}</H1>\n"
        "</BODY></HTML>\n"
    )
    return Answer(status, page.encode(), (_HTML,))
