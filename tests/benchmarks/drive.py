"""Sends requests to one side in this process: `python drive.py SIDE BODY_FILE [BASE_PATH]`.

SIDE is an ASGI application, `ours`, `ours-threads` or `peer`, or a Lambda handler, `ours-handler`
or `peer-handler`. Ours serves the model of BASE_PATH, by default the sample model's export. Each
line of standard input is a number of requests; the answer is a line of JSON: the seconds of each
request, the last predictions and the most memory so far. Both sides are called as a server or
Lambda calls them, without a client library, which would cost more than either side. For the same
reason this imports nothing of the other benchmarks.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import redirect_stdout
from pathlib import Path
from time import perf_counter
from typing import Any

_Message = MutableMapping[str, Any]
_App = Callable[..., Awaitable[None]]
_Handler = Callable[[Any, Any], Any]

_PATH = "/v1/models/MLP:predict"
_EVENT = Path(__file__).parents[1] / "data/events/predict.json"
_SAVED = Path(__file__).parents[2] / "examples/mnist/saved"


def main(side: str, body: bytes, base_path: str) -> None:
    out = sys.stdout
    with asyncio.Runner() as runner, redirect_stdout(Path(os.devnull).open("w")):  # metrics
        if side.endswith("-handler"):
            handler = _handler(side, base_path)
            for line in sys.stdin:
                _say(_events(handler, body, int(line)), out)
        else:
            app = _app(side, base_path)
            for line in sys.stdin:
                _say(runner.run(_requests(app, body, int(line))), out)


def _say(report: dict[str, Any], out: Any) -> None:
    out.write(json.dumps(report) + "\n")
    out.flush()


def _app(name: str, base_path: str) -> _App:
    """Imports only the side that is measured."""
    if name == "peer":
        from benchmarks import peer

        return peer.app
    from benchmarks import ours

    return ours.create(base_path, threads=name == "ours-threads")


def _handler(name: str, base_path: str) -> _Handler:
    if name == "peer-handler":
        from benchmarks.naive.handler import handler

        return handler
    from lambda_serving import function
    from lambda_serving.config.server_flags import Settings

    return function.start(Settings(model_name="MLP", model_base_path=base_path))


def _events(handler: _Handler, body: bytes, count: int) -> dict[str, Any]:
    event = json.loads(_EVENT.read_text()) | {"body": body.decode()}
    seconds, returned = [], {"body": ""}
    for _ in range(count):
        start = perf_counter()
        returned = handler(event, None)
        seconds.append(perf_counter() - start)
    return _report(seconds, returned["body"])


async def _requests(app: _App, body: bytes, count: int) -> dict[str, Any]:
    seconds, answer = [], b""
    for _ in range(count):
        start = perf_counter()
        answer = await _request(app, body)
        seconds.append(perf_counter() - start)
    return _report(seconds, answer)


def _report(seconds: list[float], answer: str | bytes) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "predictions": json.loads(answer)["predictions"],
        "peak_kib": _peak_kib(),
    }


def _peak_kib() -> int:
    """The kernel's high-water mark of resident memory; `getrusage` counts the parent's too."""
    lines = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
    return next(int(value.split()[0]) for name, _, value in lines if name == "VmHWM")


async def _request(app: _App, body: bytes) -> bytes:
    """The body of the answer, whose status must be 200."""
    waiting: list[_Message] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[_Message] = []

    async def receive() -> _Message:
        return waiting.pop() if waiting else await asyncio.Future[_Message]()  # the client stays

    async def send(message: _Message) -> None:
        sent.append(message)

    await app(_scope(len(body)), receive, send)
    answer = b"".join(message.get("body", b"") for message in sent)
    if sent[0]["status"] != 200:
        sys.exit(f"The application answered {sent[0]['status']}: {answer.decode()}")
    return answer


def _scope(length: int) -> dict[str, Any]:
    """The scope that uvicorn makes for a POST from a small client."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": _PATH,
        "raw_path": _PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"127.0.0.1:8501"),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % length),
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8501),
        "state": {},
    }


if __name__ == "__main__":
    served = sys.argv[3] if len(sys.argv) > 3 else str(_SAVED)
    main(sys.argv[1], Path(sys.argv[2]).read_bytes(), served)
