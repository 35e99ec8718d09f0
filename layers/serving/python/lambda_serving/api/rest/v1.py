"""The ASGI application behind `/v1/`: from a request's bytes to the answer's."""

import asyncio
import gzip
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Self, TypeVar

from starlette.types import Receive, Scope, Send

from lambda_serving.api import bodies, codec
from lambda_serving.api.dispatch import Prediction
from lambda_serving.api.prediction_threads import Deadline, Threads
from lambda_serving.api.rest import http_status, status_and_metadata, urls
from lambda_serving.api.rest.urls import Call, Verb
from lambda_serving.call_record import CallRecord, Observers, request_id
from lambda_serving.config.settings import Settings
from lambda_serving.core.basic_manager import Loaded, Manager
from lambda_serving.errors import NO_MEMORY, Code, ResourceExhausted, ServingError
from lambda_serving.servables import inference
from lambda_serving.servables.inference import Run

__all__ = ["RestOptions", "Serving"]

_log = logging.getLogger(__name__)
_METHODS = {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"}
_WORTH_ZIPPING = 1024
_SMALL_BODY = 32 * 1024
_SMALL_EXAMPLES = 8 * 1024  # bytes of a body whose context may be repeated for each example
_REQUEST_ID = b"x-request-id"
_JSON = (b"content-type", b"application/json")
_HTML = (b"content-type", b"text/html")
_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, GET"),
    (b"access-control-allow-headers", b"Content-Type"),
)

Header = tuple[bytes, bytes]
_Result = TypeVar("_Result")
_Hold = Callable[[int], None]
_Prediction = tuple[Loaded, Run[bytes]]


@dataclass(frozen=True, slots=True)
class RestOptions:
    """What an operator may set; sizes in bytes."""

    timeout_ms: int = 30_000
    """Bound of one run of a graph, with `batching` of waiting for it too; 0 or less is none."""
    cors: bool = False
    batching: bool = False
    """Whether servables may join requests: then no thread waits for a run."""
    max_body: int = 6 * 2**20
    max_unzipped: int = 32 * 2**20
    max_nesting: int = 10_000
    request_ids: bool = False
    """Whether calls are answered with `x-request-id`."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            timeout_ms=settings.rest_api_timeout_in_ms,
            cors=settings.rest_api_enable_cors_support,
            batching=settings.enable_batching,
            max_body=settings.rest_api_max_body_bytes,
            max_unzipped=settings.rest_api_max_unzipped_bytes,
            max_nesting=settings.rest_api_max_nesting,
            request_ids=settings.access_log,
        )


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes = b""
    content_type: Header = _JSON


class Serving:
    """Every request that no other route takes, by TensorFlow Serving's grammar.

    Predictions are answered as `predictions` says, in `threads`, or without them (a function that
    has one request at a time) in the caller's.
    `observers` are told of every call but preflights.
    """

    def __init__(
        self,
        manager: Manager,
        options: RestOptions,
        threads: Threads | None,
        observers: Observers,
    ) -> None:
        self._manager = manager
        self._options = options
        self._threads = threads
        self._observers = observers
        self._headers = _CORS if options.cors else ()
        self._collector = codec.Collector()
        self._predictions: dict[Verb, Callable[[Call, bytes, codec.Limits], _Prediction]] = {
            Verb.PREDICT: self._predict,
            Verb.CLASSIFY: self._classify,
            Verb.REGRESS: self._regress,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, target = scope["method"], _target(scope)
        if method not in _METHODS:
            await _send(_page(HTTPStatus.NOT_IMPLEMENTED), scope, send)
        elif not target.lower().startswith("/v1/"):
            await _send(_page(HTTPStatus.NOT_FOUND), scope, send)
        elif method == "OPTIONS":
            await _send(_preflight(scope), scope, send, self._headers)
        else:
            record = self._record(scope)
            answer = await self._process(method, target, scope, receive, record)
            self._observers.tell(record)
            headers = self._headers
            if record.request_id:
                headers = (*headers, (_REQUEST_ID, record.request_id.encode()))
            await _send(answer, scope, send, headers, in_thread=self._threads is not None)

    def _record(self, scope: Scope) -> CallRecord:
        if not self._options.request_ids:
            return self._observers.record("REST")
        given = _header(scope, _REQUEST_ID).decode("latin-1")
        return self._observers.record("REST", request_id(given))

    async def _process(
        self, method: str, target: str, scope: Scope, receive: Receive, record: CallRecord
    ) -> _Answer:
        try:
            call = urls.parse(method, target)
            record.api = call.verb.value if call.verb in self._predictions else ""
            record.model = call.spec.name
            body = await bodies.read(receive, scope["headers"], self._options.max_body)
            record.received(len(body))
            return _Answer(HTTPStatus.OK, await self._answer(call, body, scope, receive, record))
        except ServingError as error:
            record.status = error.code.name
            return _Answer(http_status.status_of(error), http_status.body(str(error)))
        except MemoryError:
            record.status = Code.RESOURCE_EXHAUSTED.name
            status = http_status.status_of(ResourceExhausted(NO_MEMORY))
            return _Answer(status, http_status.body(NO_MEMORY))
        except Exception:  # noqa: BLE001 - the one place for what nobody foresaw
            record.status = Code.INTERNAL.name
            _log.exception("%s %s failed", method, target)
            return _Answer(
                HTTPStatus.INTERNAL_SERVER_ERROR, http_status.body(http_status.UNEXPECTED)
            )

    async def _answer(
        self, call: Call, body: bytes, scope: Scope, receive: Receive, record: CallRecord
    ) -> bytes:
        deadline = Deadline.after(self._options.timeout_ms, scope.get("timeout_ms", 0))
        if call.verb is Verb.STATUS:
            return self._status(call)
        if call.verb is Verb.METADATA:
            loaded = self._manager.get(call.spec)
            return await self._in_thread(
                call, partial(status_and_metadata.metadata, loaded), deadline
            )
        zipped = b"gzip" in _header(scope, b"content-encoding")
        hold = scope.get("hold", _no_bound)
        most = _SMALL_BODY if call.verb is Verb.PREDICT else _SMALL_EXAMPLES
        return await Prediction(
            call.spec.name,
            partial(self._prepare, call, body, record, hold, zipped=zipped),
            deadline,
            record,
            self._threads,
            small=len(body) < most and not zipped,
            joins=self._options.batching,
            gone=partial(bodies.abandoned, receive),
        ).answer()

    async def _in_thread(
        self, call: Call, work: Callable[[], _Result], deadline: Deadline
    ) -> _Result:
        if self._threads is None:
            return work()
        return await self._threads.call(call.spec.name, work, deadline)

    def _prepare(
        self, call: Call, body: bytes, record: CallRecord, hold: _Hold, *, zipped: bool
    ) -> _Prediction:
        """What a prediction's body asks of which version; the body is read first."""
        record.begun()
        if zipped:
            body = bodies.unzip(body, self._options.max_unzipped, hold)
        limits = codec.Limits(self._options.max_nesting, hold=hold)
        with self._collector.rests_for(body):
            loaded, run = self._predictions[call.verb](call, body, limits)
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
        """What is to run of the examples in a body, all of which is read first."""
        request = codec.parse_examples(body, limits)
        loaded = self._manager.get(call.spec)
        return loaded, infer(loaded.servable, request.signature_name, request.examples)

    def _status(self, call: Call) -> bytes:
        """A label plays no part here (servables/tensorflow/get_model_status_impl.cc)."""
        return status_and_metadata.status(self._manager.statuses(call.spec.name, call.spec.version))


async def _send(
    answer: _Answer,
    scope: Scope,
    send: Send,
    extra: Sequence[Header] = (),
    *,
    in_thread: bool = False,
) -> None:
    """`in_thread` says that others wait meanwhile, so that large bodies are zipped elsewhere."""
    body, headers = answer.body, [answer.content_type, *extra]
    if len(body) >= _WORTH_ZIPPING and b"gzip" in _header(scope, b"accept-encoding"):
        zipping = partial(gzip.compress, body, 1, mtime=0)
        elsewhere = in_thread and len(body) > _SMALL_BODY
        body = await asyncio.to_thread(zipping) if elsewhere else zipping()
        headers += [(b"content-encoding", b"gzip"), (b"vary", b"Accept-Encoding")]
    headers.append((b"content-length", b"%d" % len(body)))
    status = int(answer.status)  # no enum: Mangum hands it on to others
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _no_bound(_: int) -> None:
    """Where one request at a time is answered."""


def _target(scope: Scope) -> str:
    """Path and query as sent."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


def _header(scope: Scope, name: bytes) -> bytes:
    return b",".join(value for key, value in scope["headers"] if key == name)


def _preflight(scope: Scope) -> _Answer:
    """`OPTIONS` anywhere below `/v1/`, whether CORS is on or not (http_server.cc)."""
    origin = _header(scope, b"origin")
    allowed = b"http://" in origin or b"https://" in origin
    return _Answer(HTTPStatus.OK if allowed else HTTPStatus.BAD_REQUEST, content_type=_HTML)


def _page(status: HTTPStatus) -> _Answer:
    """What libevent answers before TensorFlow Serving is asked."""
    title = f"{status.value} {status.phrase}"
    page = (
        f"<HTML><HEAD>\n<TITLE>{title}</TITLE>\n</HEAD><BODY>\n<H1>{status.phrase}</H1>\n"
        "</BODY></HTML>\n"
    )
    return _Answer(status, page.encode(), _HTML)
