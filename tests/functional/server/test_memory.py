"""A server's memory does not grow with requests that fail."""

import json
import subprocess

import httpx
import psutil

from support.server_process import MNIST, running

_ROUNDS = 30
_BOUND_MB = 10
_BROKEN: list[tuple[str, bytes]] = [
    ("MLP:predict", b'{"instances": ' + json.dumps([[0.5] * 784] * 20).encode()),  # cut off
    ("MLP:predict", json.dumps({"instances": [[0.5] * 783] * 20}).encode()),  # another shape
    ("MLP:predict", json.dumps({"instances": ["x" * 100_000]}).encode()),
    ("MLP:predict", b'{"instances": ' + b"[" * 100_000),
    ("MLP:predict", b'{"inputs": [' + b"NaN," * 20_000 + b"nan]}"),
    ("MLP:predict", b" " * 7_000_000),
    ("MLP:classify", json.dumps({"examples": [{"x": ["a"] * 10_000 + [1]}]}).encode()),
    ("other:predict", json.dumps({"instances": [[0.5] * 7840]}).encode()),
]


def test_memory_stays_after_hundreds_of_failing_requests() -> None:
    flags = ("--model_name=MLP", f"--model_base_path={MNIST / 'saved'}")
    with running(*flags) as (url, process), httpx.Client(base_url=url) as client:
        _fail(client, rounds=_ROUNDS // 3)  # allocators and caches fill
        before = _megabytes(process)
        _fail(client, rounds=_ROUNDS)
        assert _megabytes(process) - before < _BOUND_MB
        body = (MNIST / "request.json").read_bytes()
        assert client.post("/v1/models/MLP:predict", content=body).status_code == 200


def _fail(client: httpx.Client, rounds: int) -> None:
    for _ in range(rounds):
        statuses = [
            client.post(f"/v1/models/{path}", content=body).status_code for path, body in _BROKEN
        ]
        assert set(statuses) <= {400, 404, 413}, statuses


def _megabytes(process: "subprocess.Popen[str]") -> float:
    resident: int = psutil.Process(process.pid).memory_info().rss
    return resident / 2**20
