"""An ASGI application driven in process: `python drive.py APP BODY_FILE`.

APP is `ours`, `ours-threads` or `peer`. Each line of standard input is a number of requests; the
answer is a line of JSON: the seconds that each took, the last predictions, the peak of memory.
The application is called as a server calls it, without a client library: that would cost more
than either side.
"""

import asyncio
import json
import resource
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from time import perf_counter
from typing import Any

_Message = MutableMapping[str, Any]
_App = Callable[..., Awaitable[None]]

_PATH = "/v1/models/MLP:predict"


def main(name: str, body: bytes) -> None:
    app = _app(name)
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            report = runner.run(_requests(app, body, int(line)))
            sys.stdout.write(json.dumps(report) + "\n")
            sys.stdout.flush()


def _app(name: str) -> _App:
    """Only the side that is measured is imported."""
    if name == "peer":
        from benchmarks import peer

        return peer.app
    from benchmarks import ours

    return ours.create(threads=name == "ours-threads")


async def _requests(app: _App, body: bytes, count: int) -> dict[str, Any]:
    seconds, answer = [], b""
    for _ in range(count):
        start = perf_counter()
        answer = await _request(app, body)
        seconds.append(perf_counter() - start)
    return {
        "seconds": seconds,
        "predictions": json.loads(answer)["predictions"],
        "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


async def _request(app: _App, body: bytes) -> bytes:
    """The body of the answer, which must be a 200."""
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
    """What uvicorn makes of a POST by a small client."""
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
