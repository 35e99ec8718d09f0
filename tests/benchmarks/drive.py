"""Sends requests to one side in this process: `python drive.py SIDE BODY_FILE`.

SIDE is an ASGI application, `ours`, `ours-threads` or `peer`, or a Lambda handler, `ours-handler`
or `peer-handler`. Each line of standard input is a number of requests; the answer is a line of
JSON: the seconds of each request, the last predictions and the peak memory. Both sides are called
as a server or Lambda calls them, without a client library, which would cost more than either side.
"""

import asyncio
import json
import os
import resource
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import redirect_stdout
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.children import MNIST

_Message = MutableMapping[str, Any]
_App = Callable[..., Awaitable[None]]
_Handler = Callable[[Any, Any], Any]

_PATH = "/v1/models/MLP:predict"
_EVENT = Path(__file__).parents[1] / "data/events/predict.json"


def main(side: str, body: bytes) -> None:
    out = sys.stdout
    with asyncio.Runner() as runner, redirect_stdout(Path(os.devnull).open("w")):  # metrics
        if side.endswith("-handler"):
            handler = _handler(side)
            for line in sys.stdin:
                _say(_events(handler, body, int(line)), out)
        else:
            app = _app(side)
            for line in sys.stdin:
                _say(runner.run(_requests(app, body, int(line))), out)


def _say(report: dict[str, Any], out: Any) -> None:
    out.write(json.dumps(report) + "\n")
    out.flush()


def _app(name: str) -> _App:
    """Imports only the side that is measured."""
    if name == "peer":
        from benchmarks import peer

        return peer.app
    from benchmarks import ours

    return ours.create(threads=name == "ours-threads")


def _handler(name: str) -> _Handler:
    if name == "peer-handler":
        from benchmarks.naive.handler import handler

        return handler
    from lambda_serving import function
    from lambda_serving.config.server_flags import Settings

    return function.start(Settings(model_name="MLP", model_base_path=str(MNIST / "saved")))


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
        "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


async def _request(app: _App, body: bytes) -> bytes:
    """The body of the answer, whose status must be 200."""
    waiting: list[_Message] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[_Message] = []

    async def receive() -> _Message:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

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
    main(sys.argv[1], Path(sys.argv[2]).read_bytes())
