"""Several processes on the same ports: `lambda-serving serve --workers`."""

import gzip
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx
import numpy as np
import psutil
import pytest

from lambda_serving import protos
from lambda_serving.dtypes import DType
from support.rpc_client import arrays, call, free_port, predict_request
from support.server_process import COMMAND, MNIST, running, until

_SECONDS = 300
_BODY = b'{"instances": [2.0]}'
_MEMORY = "memfd:lambda-serving-"
_ANSWER = b'{"predictions":[3.0]}'
_RUNTIMES = re.compile(r"/lib[^/\n]*?(tensorflow|litert)[^/\n]*$", re.MULTILINE)


class _Served:
    """A server of model `m`, half plus two, by two workers."""

    def __init__(self, url: str, process: "subprocess.Popen[str]", said: list[str]) -> None:
        self.url, self.process, self.said = url, process, said
        self.port = urlsplit(url).port or 0
        self.rpc_port, self.library = 0, ""

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def times_said(self, words: str) -> int:
        return sum(words in line for line in self.said)

    def ask(self) -> bytes:
        """Sends a request over a new connection."""
        with _connected(self.port) as connection:
            return _asked(connection)


@contextmanager
def _serving(base_path: Path | str, *flags: str, workers: int = 2) -> Iterator[_Served]:
    flags = ("--model_name=m", f"--model_base_path={base_path}", f"--workers={workers}", *flags)
    with running(*flags) as (url, process):
        said: list[str] = []
        assert process.stderr
        reader = threading.Thread(target=said.extend, args=(process.stderr,))
        reader.start()
        served = _Served(url, process, said)
        try:
            yield served
        finally:
            workers_left = served.workers() if process.poll() is None else []
            process.kill()
            psutil.wait_procs(workers_left, _SECONDS)
            reader.join()


@contextmanager
def _shared(models: Path, library: str, paths: pytest.TempPathFactory) -> Iterator[_Served]:
    """Whatever became of its workers, it stops in good order."""
    config, port = paths.mktemp("workers") / "monitoring.config", free_port()
    config.write_text("prometheus_config { enable: true }")
    flags = (f"--port={port}", f"--monitoring_config_file={config}")
    with _serving(models / "half_plus_two", *flags) as served:
        served.rpc_port, served.library = port, library
        yield served
        served.process.terminate()
        assert served.process.wait(_SECONDS) == 0


@pytest.fixture(scope="module")
def shared(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Served]:
    with _shared(models_dir, "tensorflow", tmp_path_factory) as served:
        yield served


@pytest.fixture(scope="module")
def shared_litert(litert_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Served]:
    with _shared(litert_dir, "litert", tmp_path_factory) as served:
        yield served


@pytest.fixture
def served(request: pytest.FixtureRequest) -> _Served:
    """A server that tests share. It has two workers that answer, and has said nothing yet."""
    served: _Served = request.getfixturevalue(getattr(request, "param", "shared"))
    until(lambda: _of_each(served))
    served.said.clear()
    return served


_of_each_runtime = pytest.mark.parametrize("served", ["shared", "shared_litert"], indirect=True)


@contextmanager
def _connected(port: int) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        yield connection
    finally:
        connection.close()


def _asked(connection: HTTPConnection) -> bytes:
    connection.request("POST", "/v1/models/m:predict", _BODY)
    return connection.getresponse().read()


def _of_port(worker: psutil.Process, port: int) -> int:
    """The connections to that port that a worker has accepted."""
    return sum(
        each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port
        for each in worker.net_connections("tcp")
    )


@pytest.fixture
def half(models_dir: Path, tmp_path: Path) -> Path:
    """The base path of a model that answers 3.0 to 2.0."""
    shutil.copytree(models_dir / "two_versions" / "1", tmp_path / "m" / "1")
    return tmp_path / "m"


@_of_each_runtime
def test_connections_are_spread_over_workers_which_alone_open_the_runtime(served: _Served) -> None:
    with ExitStack() as connections:
        opened = [connections.enter_context(_connected(served.port)) for _ in range(32)]
        assert {_asked(each) for each in opened} == {_ANSWER}
        accepted = [_of_port(worker, served.port) for worker in served.workers()]
        assert sum(accepted) == 32
        assert min(accepted) > 3  # by chance once in 100,000 times
        parent, *workers = [served.process.pid, *(each.pid for each in served.workers())]
        maps = [Path(f"/proc/{pid}/maps").read_text() for pid in (parent, *workers)]
        opened_libraries = [set(_RUNTIMES.findall(each)) for each in maps]
        assert opened_libraries == [set(), {served.library}, {served.library}]


@_of_each_runtime
def test_grpc_is_answered_on_one_port_by_all(served: _Served) -> None:
    rpc_port = served.rpc_port
    address, options = f"127.0.0.1:{rpc_port}", [("grpc.use_local_subchannel_pool", 1)]
    with ExitStack() as channels:
        for _ in range(32):
            channel = channels.enter_context(grpc.insecure_channel(address, options))
            response = call(
                channel, "Predict", predict_request("m", {"x": np.asarray([2], np.float32)})
            )
            assert [each.tolist() for each in arrays(response).values()] == [[3.0]]
        assert all(_of_port(worker, rpc_port) for worker in served.workers())


def _largest(worker: psutil.Process) -> int:
    """The most bytes of memory that a worker has used since `_forget`."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{worker.pid}/status").read_text())
    assert found
    return 1024 * int(found[1])


def _forget(worker: psutil.Process) -> None:
    Path(f"/proc/{worker.pid}/clear_refs").write_text("5")


@_of_each_runtime
def test_small_messages_that_stand_for_large_ones_are_refused_by_all(served: _Served) -> None:
    rpc_port = served.rpc_port
    workers = served.workers()
    before = [worker.memory_info().rss for worker in workers]
    for worker in workers:
        _forget(worker)
    strings = b'{"instances":[%b]}' % b",".join([b'"%b"' % (b"x" * 1000)] * 100_000)
    zipped = gzip.compress(strings, 1)
    address, options = f"127.0.0.1:{rpc_port}", [("grpc.use_local_subchannel_pool", 1)]
    for fields in ({"float_val": [1.0]}, {"dtype": DType.STRING, "string_val": [b"x" * 50_000]}):
        request = predict_request("m", {})
        proto = request.inputs["x"]
        proto.MergeFrom(type(proto)(**{"dtype": DType.FLOAT, **fields}))
        proto.tensor_shape.dim.add(size=2**30)
        with ExitStack() as channels:
            for _ in range(8):
                channel = channels.enter_context(grpc.insecure_channel(address, options))
                with pytest.raises(grpc.RpcError) as refused:
                    call(channel, "Predict", request)
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    for _ in range(8):
        answer = httpx.post(
            f"{served.url}/v1/models/m:predict",
            content=zipped,
            headers={"content-encoding": "gzip"},
            timeout=_SECONDS,
        )
        assert answer.status_code == 413
    assert served.workers() == workers
    grown = [_largest(worker) - rss for worker, rss in zip(workers, before, strict=True)]
    assert max(grown) < 256 * 2**20


@_of_each_runtime
def test_killed_worker_loses_only_its_connections_and_is_replaced(served: _Served) -> None:
    with ThreadPoolExecutor() as pool:
        stop = threading.Event()
        fresh = [pool.submit(_ask_until, stop, served.ask) for _ in range(2)]
        kept = [pool.submit(_keep_asking, stop, served.port) for _ in range(6)]
        try:
            killed, other = served.workers()
            until(lambda: _of_port(killed, served.port) and _of_port(other, served.port))
            killed.kill()
            until(lambda: served.times_said("was ended by SIGKILL"))
            _, replaced = _two_workers(served)
            until(lambda: _of_port(replaced, served.port))
        finally:
            stop.set()
        assert sum(each.result() for each in fresh) <= 2  # that were just being answered
        assert sum(each.result() for each in kept) <= 6
        assert served.times_said("Exporting HTTP/REST") == 0  # once, before


def _two_workers(served: _Served) -> list[psutil.Process]:
    until(lambda: len(served.workers()) == 2)
    return served.workers()


def _ask_until(stop: threading.Event, ask: Callable[[], bytes]) -> int:
    """Sends requests until `stop`; returns how many failed."""
    failed = 0
    while not stop.is_set():
        try:
            assert ask() == _ANSWER
        except (OSError, HTTPException):
            failed += 1
    return failed


def _keep_asking(stop: threading.Event, port: int) -> int:
    """Sends requests over one connection, and over a new one when it breaks."""
    failed = 0
    while not stop.is_set():
        with _connected(port) as connection:
            try:
                while not stop.is_set():
                    assert _asked(connection) == _ANSWER
            except (OSError, HTTPException):
                failed += 1
    return failed


def test_worker_that_hangs_is_replaced(served: _Served) -> None:
    hung, _ = served.workers()
    hung.suspend()
    until(lambda: served.times_said("has not answered for 10 s. It is killed"))
    assert {served.ask() for _ in range(20)} == {_ANSWER}
    until(lambda: hung not in served.workers() and _of_each(served))
    assert served.times_said("was ended by SIGKILL. It is replaced")


def _of_each(served: _Served) -> bool:
    """Whether there are two workers and both accept connections."""
    with ExitStack() as connections:
        for _ in range(16):
            assert _asked(connections.enter_context(_connected(served.port))) == _ANSWER
        workers = served.workers()
        return len(workers) == 2 and all(_of_port(each, served.port) for each in workers)


def test_worker_that_can_not_load_a_model_serves_the_others(half: Path, tmp_path: Path) -> None:
    shutil.copytree(half, tmp_path / "n")
    config = tmp_path / "models.config"
    entry = 'config {{ name: "{0}" base_path: "{1}" model_platform: "tensorflow" }}'
    entries = [entry.format(name, tmp_path / name) for name in ("n", "m")]
    config.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    graph = tmp_path / "n/1/saved_model.pb"
    whole = graph.read_bytes()
    with _serving("", f"--model_config_file={config}") as served:
        os.truncate(graph, 100)
        killed, other = served.workers()
        killed.kill()
        until(lambda: served.times_said("The models that did load are served") == 1)
        assert _statuses(served, "n") == {200}  # by the one that still has it
        other.kill()
        until(lambda: served.times_said("The models that did load are served") == 2)
        until(lambda: _of_each(served))
        assert _statuses(served, "n") == {404}
        assert {served.ask() for _ in range(20)} == {_ANSWER}
        graph.write_bytes(whole)
        until(lambda: _statuses(served, "n") == {200})
        assert served.times_said("is replaced") == 2


def test_weights_are_there_once_until_no_worker_needs_them(
    compiled_dir: Path, half: Path, tmp_path: Path
) -> None:
    base_path = tmp_path / "weights"
    shutil.copytree(compiled_dir / "shared_weights/1", base_path / "1")
    flags = ("--file_system_poll_wait_seconds=1", "--max_num_load_retries=0")
    with _serving(base_path, *flags) as served:
        (first,) = _memory(served.workers()[0])
        assert _of_all(served) == [{first}, {first}]
        for path in (base_path / "1/weights").iterdir():
            os.truncate(path, 0)
        assert _doubled(served)
        served.workers()[0].kill()
        until(lambda: served.times_said("is replaced"))
        until(lambda: _of_all(served) == [{first}, {first}])  # it has what the other one holds
        assert _doubled(served)
        (half / "1").rename(base_path / "2")
        until(lambda: _of_all(served) == [set(), set()])
        assert {served.ask() for _ in range(16)} == {_ANSWER}
        shutil.copytree(base_path / "1", half / "1")
        (half / "1").rename(base_path / "3")
        status = f"{served.url}/v1/models/m/versions/3"
        until(lambda: "has 0 bytes, its tensor 65536" in httpx.get(status).text)
        assert {served.ask() for _ in range(16)} == {_ANSWER}
        until(lambda: _of_all(served) == [set(), set()])
    assert served.times_said("is replaced") == 1


def _of_all(served: _Served) -> list[set[int]]:
    return [_memory(worker) for worker in served.workers()]


def _memory(worker: psutil.Process) -> set[int]:
    """The memory that a worker maps or has open, the register aside, by inode."""
    maps = (line.split() for line in Path(f"/proc/{worker.pid}/maps").read_text().splitlines())
    found = {int(line[4]) for line in maps if len(line) > 5 and _MEMORY in line[5]}
    for path in Path(f"/proc/{worker.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            link = str(path.readlink())
            if _MEMORY in link and "register" not in link:
                found.add(path.stat().st_ino)
    return found


def _doubled(served: _Served) -> bool:
    """Whether enough connections to reach each worker get the right answers."""
    body = {"instances": [[1.0] * 128]}
    url = f"{served.url}/v1/models/m:predict"
    answers = [httpx.post(url, json=body).json() for _ in range(16)]
    return all(each == {"predictions": [[2.0] * 128]} for each in answers)


def test_connections_to_a_worker_that_is_gone_are_taken_by_the_other(half: Path) -> None:
    with _serving(half, "--file_system_poll_wait_seconds=0") as served:
        killed, _ = served.workers()
        shutil.move(half / "1", half.parent / "1")  # so that no replacement can load
        killed.kill()
        until(lambda: served.times_said("No versions of servable m found"))
        assert {served.ask() for _ in range(20)} == {_ANSWER}
        shutil.move(half.parent / "1", half / "1")
        _two_workers(served)


@pytest.mark.parametrize("workers", [1, 2])
def test_client_that_connected_before_the_stop_is_answered(half: Path, workers: int) -> None:
    with _serving(half, workers=workers) as served, ExitStack() as sockets:
        servers = served.workers() if workers > 1 else [psutil.Process(served.process.pid)]
        for server in servers:
            server.suspend()
        clients = [
            sockets.enter_context(socket.create_connection(("127.0.0.1", served.port)))
            for _ in range(20)
        ]
        head = "POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: "
        for client in clients:
            client.sendall(f"{head}{len(_BODY)}\r\n\r\n".encode() + _BODY)
        for server in servers:
            server.send_signal(signal.SIGTERM)
        for server in servers:
            server.resume()
        assert [_received(client).endswith(_ANSWER) for client in clients] == [True] * 20
        assert workers > 1 or served.process.wait(_SECONDS) == 0


def _received(client: socket.socket) -> bytes:
    with client.makefile("rb") as file:
        return file.read()


def test_stopping_drains_all_workers(models_dir: Path) -> None:
    endless = {"instances": [2**63 - 1]}  # of model while_loop: no power of two is that large
    flags = ("--rest_api_timeout_in_ms=3000",)
    with _serving(models_dir / "while_loop", *flags) as served, ThreadPoolExecutor() as pool:
        post = partial(httpx.post, f"{served.url}/v1/models/m:predict", json=endless, timeout=300)
        asked = [pool.submit(post) for _ in range(6)]
        until(lambda: sum(_of_port(each, served.port) for each in served.workers()) == 6)
        workers = served.workers()
        until(lambda: all(each.cpu_times().user for each in workers))
        served.process.send_signal(signal.SIGTERM)
        assert [each.result().status_code for each in asked] == [504] * 6  # by their own timeout
        assert served.process.wait(_SECONDS) == 0
        assert not any(each.is_running() for each in workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_terminal_that_closes_drains(half: Path, workers: int) -> None:
    with _serving(half, workers=workers) as served:
        assert served.ask() == _ANSWER
        served.process.send_signal(signal.SIGHUP)
        assert served.process.wait(_SECONDS) == 0
        assert served.times_said("Requests in flight have") == workers


def test_server_under_nohup_survives_a_closing_terminal(half: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which child processes inherit
    try:
        with _serving(half, workers=1) as served:
            served.process.send_signal(signal.SIGHUP)
            assert served.ask() == _ANSWER
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(_SECONDS) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_second_signal_ends_what_does_not_end(models_dir: Path) -> None:
    endless = {"instances": [2**63 - 1]}
    flags = ("--rest_api_timeout_in_ms=0",)
    with _serving(models_dir / "while_loop", *flags) as served, ThreadPoolExecutor() as pool:
        post = partial(httpx.post, f"{served.url}/v1/models/m:predict", json=endless, timeout=300)
        asked = pool.submit(post)
        until(lambda: sum(_of_port(each, served.port) for each in served.workers()) == 1)
        served.process.send_signal(signal.SIGTERM)
        until(lambda: served.times_said("Requests in flight have"))
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(_SECONDS) == 1
        with pytest.raises(httpx.TransportError):
            asked.result()


def test_workers_end_with_a_parent_that_is_killed(half: Path) -> None:
    with _serving(half) as served:
        workers = served.workers()
        served.process.kill()
        _, left = psutil.wait_procs(workers, _SECONDS)
        assert not left


def test_parent_that_can_start_no_process_for_a_while_goes_on(served: _Served) -> None:
    parent = psutil.Process(served.process.pid)
    before = parent.rlimit(psutil.RLIMIT_NOFILE)
    parent.rlimit(psutil.RLIMIT_NOFILE, (3, before[1]))  # no more files: no socket to a child
    first = {worker.pid for worker in served.workers()}
    served.workers()[0].kill()
    until(lambda: served.times_said("could not be run ("))
    assert served.ask() == _ANSWER
    parent.rlimit(psutil.RLIMIT_NOFILE, before)
    until(lambda: len({worker.pid for worker in served.workers()} - first) == 1)
    until(lambda: served.times_said("Started server process") >= 1)
    assert served.ask() == _ANSWER


@_of_each_runtime
def test_metrics_are_those_of_all_workers(served: _Served) -> None:
    before = _answered(served)
    for _ in range(20):
        served.ask()
    assert _answered(served) == before + 20


def _answered(served: _Served) -> int:
    page = httpx.get(f"{served.url}/monitoring/prometheus/metrics").text
    count = r':tensorflow:serving:request_count{model_name="m",status="OK"} (\d+)'
    return sum(map(int, re.findall(count, page)))


def test_worker_that_does_not_answer_holds_up_neither_metrics_nor_the_end(
    half: Path, tmp_path: Path
) -> None:
    config = tmp_path / "monitoring.config"
    config.write_text("prometheus_config { enable: true }")
    with _serving(half, f"--monitoring_config_file={config}") as served:
        with _connected(served.port) as connection:
            assert _asked(connection) == _ANSWER
            [answering] = [each for each in served.workers() if _of_port(each, served.port)]
            [frozen] = [each for each in served.workers() if each != answering]
            frozen.suspend()
            try:
                connection.request("GET", "/monitoring/prometheus/metrics")
                page = connection.getresponse().read().decode()
            finally:
                frozen.resume()
        assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 1' in page
        assert served.times_said("has not answered metrics in 5 s")
        served.process.terminate()
        assert served.process.wait(_SECONDS) == 0


def test_no_reload_begins_while_a_worker_does_not_answer(served: _Served, models_dir: Path) -> None:
    rpc_port = served.rpc_port
    with grpc.insecure_channel(f"127.0.0.1:{rpc_port}") as channel:
        same = _reload_request({"m": models_dir / "half_plus_two"})
        assert call(channel, "HandleReloadConfigRequest", same).status.error_code == 0
        [frozen] = [each for each in served.workers() if not _of_port(each, rpc_port)]
        frozen.suspend()
        try:
            other = _reload_request({"n": models_dir / "half_plus_two"})
            with pytest.raises(grpc.RpcError, match="A worker failed to reload"):
                call(channel, "HandleReloadConfigRequest", other)
        finally:
            frozen.resume()
        assert served.times_said("has not answered check in 5 s")
        assert _statuses(served, "n") == {404}
        assert _statuses(served, "m") == {200}


def test_reload_reaches_every_worker_and_those_that_come_later(
    half: Path, models_dir: Path
) -> None:
    port = free_port()
    with _serving(half, f"--port={port}") as served:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            wrong = _reload_request({"n": half}, labels={"canary": 7})
            with pytest.raises(grpc.RpcError, match="not currently available"):
                call(channel, "HandleReloadConfigRequest", wrong)
            assert {served.ask() for _ in range(16)} == {_ANSWER}
            models = {"n": models_dir / "half_plus_two"}
            response = call(channel, "HandleReloadConfigRequest", _reload_request(models))
            assert response.status.error_code == 0
        assert _statuses(served, "n") == {200}
        until(lambda: _statuses(served, "m") == {404})
        served.workers()[0].kill()
        until(lambda: served.times_said("is replaced"))
        until(lambda: served.times_said("Started server process") >= 1)
        assert _statuses(served, "n") == {200}
        assert _statuses(served, "m") == {404}


def _reload_request(models: dict[str, Path], labels: dict[str, int] | None = None) -> object:
    request = protos.message("tensorflow.serving.ReloadConfigRequest")()
    for name, base_path in models.items():
        request.config.model_config_list.config.add(
            name=name,
            base_path=str(base_path),
            model_platform="tensorflow",
            version_labels=labels or {},
        )
    return request


def _statuses(served: _Served, model: str) -> set[int]:
    """The statuses of predictions by connections enough to meet each worker."""
    url = f"{served.url}/v1/models/{model}:predict"
    return {httpx.post(url, json={"instances": [2.0]}).status_code for _ in range(16)}


def _refusal(*flags: str) -> str:
    command = [str(COMMAND), "serve", "--workers=2", "--model_name=m", *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("Error: ") == 1
    return ended.stderr[ended.stderr.index("Error: ") :]


def test_failing_load_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/saved_model.pb").write_bytes(b"\x00not a model")
    said = _refusal("--rest_api_port=0", "--port=0", f"--model_base_path={tmp_path}")
    assert said.startswith("Error: 1 servable(s) did not become available: {name: m version: 1}")


@pytest.mark.parametrize("flag", ["rest_api_port", "port"])
def test_busy_port_is_reported(flag: str) -> None:
    flags = {"rest_api_port": 0, "port": 0}
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as gRPC's own servers do
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        flags[flag] = taken.getsockname()[1]
        given = [f"--{name}={port}" for name, port in flags.items()]
        said = _refusal(*given, f"--model_base_path={MNIST / 'saved'}")
    assert said.startswith(f"Error: Could not listen on 127.0.0.1:{flags[flag]}")


def test_socket_path_is_for_one_process() -> None:
    said = _refusal("--grpc_socket_path=/x", f"--model_base_path={MNIST / 'saved'}")
    assert said.startswith("Error: --grpc_socket_path is for one process")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("workers", [1, 2])
def test_signal_while_loading_ends_the_process_at_once(
    tmp_path: Path, half: Path, workers: int, number: signal.Signals
) -> None:
    export = tmp_path / "slow/1"
    shutil.copytree(half / "1", export)
    blocking = export / "assets.extra/tf_serving_warmup_requests"
    blocking.parent.mkdir(exist_ok=True)
    blocking.unlink(missing_ok=True)
    os.mkfifo(blocking)
    flags = ("--rest_api_port=0", "--port=0", "--model_name=m", f"--workers={workers}")
    with subprocess.Popen(
        [COMMAND, "serve", f"--model_base_path={export.parent}", *flags],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        with _being_read(blocking):
            process.send_signal(number)
            assert process.wait(_SECONDS) == 0
        said = process.stderr.read()
    assert said.count("Stopped before every model had loaded") == 1
    assert "Traceback" not in said


@contextmanager
def _being_read(fifo: Path) -> Iterator[None]:
    """Waits for a process to open it, which then waits in vain for something to read."""
    found: list[int] = []

    def is_opened() -> bool:
        try:
            found.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody reads
            return False
        return True

    until(is_opened)
    yield
    os.close(found[0])
