"""Versions and models that come and go while a server answers, and its end."""

import json
import shutil
import signal
import socket
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit
from uuid import uuid4

import grpc
import httpx
import numpy as np
import psutil
import pytest
from google.protobuf import text_format

from lambda_serving import protos
from lambda_serving.config import proto_text
from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.model_server_config import to_message
from lambda_serving.core.basic_manager import Manager
from lambda_serving.model_spec import ModelSpec, ServableId
from lambda_serving.servables import saved_model
from lambda_serving.servables.litert.load import load_tflite
from lambda_serving.servables.servable import Servable
from lambda_serving.servables.tensorflow_c import memory
from lambda_serving.store import LocalStore
from lambda_serving.store.manifest import MANIFEST, PUSH, Manifest
from support.rpc_client import call, free_port
from support.server_process import MNIST, running, until

_ENDLESS = {"instances": [2**63 - 1]}  # of model while_loop: no power of two is that large
_BOUND_MB = 5  # ten versions that stayed would be 20


class _Client:
    """Asks one server about its models, by one connection."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def ask(self, model: str = "m") -> httpx.Response:
        return self._http.post(f"/v1/models/{model}:predict", json={"instances": [2.0]})

    def states(self, model: str = "m") -> dict[int, str]:
        answer = self._http.get(f"/v1/models/{model}").json()
        return {int(each["version"]): each["state"] for each in answer["model_version_status"]}

    def error(self, version: int) -> tuple[str, str]:
        answer = self._http.get(f"/v1/models/m/versions/{version}").json()
        [status] = answer["model_version_status"]
        return status["status"]["error_code"], status["status"]["error_message"]

    def ready(self) -> int:
        return self._http.get("/readyz").status_code

    def alive(self) -> int:
        return self._http.get("/healthz").status_code


@contextmanager
def _client(url: str) -> Iterator[_Client]:
    with httpx.Client(base_url=url, timeout=300) as http:
        yield _Client(http)


@contextmanager
def _serving(base_path: Path, *flags: str) -> Iterator[_Client]:
    """A server of model `m`."""
    with (
        running("--model_name=m", f"--model_base_path={base_path}", *flags) as (url, process),
        _read(process),
        _client(url) as client,
    ):
        yield client


@contextmanager
def _read(process: "subprocess.Popen[str]") -> Iterator[list[str]]:
    """The server's output, read so that it never blocks; complete when the block ends."""
    said: list[str] = []
    assert process.stderr
    reader = Thread(target=said.extend, args=(process.stderr,))
    reader.start()
    try:
        yield said
    finally:
        process.kill()
        reader.join()


def _put(source: Path, target: Path) -> None:
    """As versions should come: copied beside, then renamed."""
    target.parent.mkdir(exist_ok=True)
    beside = target.parent / f"tmp-{uuid4()}"
    shutil.copytree(source, beside)
    beside.rename(target)


def _take(version: Path, to: Path) -> None:
    version.rename(to / str(uuid4()))


@pytest.fixture
def versions(models_dir: Path) -> Path:
    """Two versions: for 2.0, version 1 answers 3.0 and version 2 answers 4.0."""
    return models_dir / "two_versions"


@pytest.fixture
def base_path(tmp_path: Path, versions: Path) -> Path:
    """The base path of a model that has version 1."""
    _put(versions / "1", tmp_path / "m" / "1")
    return tmp_path / "m"


def test_no_request_fails_while_versions_and_models_come_and_go(
    base_path: Path, versions: Path, litert_dir: Path, tmp_path: Path
) -> None:
    """One of the versions, and the other model, are LiteRT's."""
    one = f'config {{ name: "m" base_path: "{base_path}" model_platform: "tensorflow" }}'
    other = one.replace('"m"', '"half"').replace(str(base_path), str(litert_dir / "half_plus_two"))
    config = tmp_path / "models.config"
    config.write_text(f"model_config_list {{ {one} }}")
    flags = ("--model_config_file_poll_wait_seconds=1", f"--model_config_file={config}")
    with (
        running(*flags) as (url, process),
        _read(process),
        _client(url) as client,
        ThreadPoolExecutor() as pool,
    ):
        stop = Event()
        asking = [pool.submit(_ask_until, stop, url) for _ in range(3)]
        try:
            _put(versions / "2", base_path / "2")
            until(lambda: client.states() == {2: "AVAILABLE", 1: "END"})
            config.write_text(f"model_config_list {{ {one} {other} }}")
            until(lambda: client.ask("half").status_code == 200)
            _put(litert_dir / "two_versions/1", base_path / "3")
            until(lambda: client.states() == {3: "AVAILABLE", 2: "END", 1: "END"})
            _take(base_path / "3", tmp_path)
            until(lambda: client.states() == {3: "END", 2: "AVAILABLE", 1: "END"})
            _take(base_path / "2", tmp_path)
            until(lambda: client.states() == {3: "END", 2: "END", 1: "AVAILABLE"})
            config.write_text(f"model_config_list {{ {one} }}")
            until(lambda: client.states("half") == {123: "END"})
        finally:
            stop.set()
        answers = sum((each.result() for each in asking), Counter[str]())
    assert answers.keys() == {'{"predictions":[3.0]}', '{"predictions":[4.0]}'}


def _ask_until(stop: Event, url: str) -> Counter[str]:
    answers = Counter[str]()
    with _client(url) as client:
        while not stop.is_set():
            answers[client.ask().text] += 1
    return answers


def test_request_in_flight_finishes_on_the_version_it_began_with(
    models_dir: Path, tmp_path: Path
) -> None:
    _put(models_dir / "while_loop" / "1", tmp_path / "m" / "1")
    flags = (f"--model_base_path={tmp_path / 'm'}", "--rest_api_timeout_in_ms=0")
    with (
        running("--model_name=m", *flags) as (url, process),
        _read(process),
        _client(url) as client,
    ):
        with _endless(url):
            _until_busy(process)
            _put(models_dir / "while_loop" / "1", tmp_path / "m" / "2")
            until(lambda: client.states() == {2: "AVAILABLE", 1: "UNLOADING"})
            for _ in range(50):
                assert client.states()[1] == "UNLOADING"
        until(lambda: client.states() == {2: "AVAILABLE", 1: "END"})


@contextmanager
def _endless(url: str) -> Iterator[None]:
    """A request whose run ends when its client goes away, at the end of the block."""
    address, body = urlsplit(url), json.dumps(_ENDLESS).encode()
    head = f"POST /v1/models/m:predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((address.hostname, address.port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        client.sendall(head.encode() + body)
        yield


def _until_busy(process: "subprocess.Popen[str]") -> None:
    """Until something in the server has computed for a while."""
    server = psutil.Process(process.pid)
    start = server.cpu_times().user
    until(lambda: server.cpu_times().user > start + 0.5)


def test_version_that_does_not_load_leaves_the_old_one_serving(base_path: Path) -> None:
    flags = ("--max_num_load_retries=1", "--load_retry_interval_micros=0")
    with _serving(base_path, *flags) as client:
        (base_path / "tmp").mkdir()
        (base_path / "tmp/saved_model.pb").write_bytes(b"\x00not a model")
        (base_path / "tmp").rename(base_path / "2")
        until(lambda: client.states() == {2: "END", 1: "AVAILABLE"})
        code, message = client.error(2)
        assert code != "OK"
        assert "Can't parse" in message
        assert client.ask().json() == {"predictions": [3.0]}
        assert client.ready() == 200


def test_copied_version_is_taken_when_it_is_complete(base_path: Path, versions: Path) -> None:
    with _serving(base_path) as client:
        (base_path / "2").mkdir()
        until(lambda: client.states() == {2: "START", 1: "AVAILABLE"})
        until(lambda: "saved_model.pb is missing" in client.error(2)[1])
        shutil.copytree(versions / "2", base_path / "2", dirs_exist_ok=True)
        until(lambda: client.states() == {2: "AVAILABLE", 1: "END"})
        assert client.ask().json() == {"predictions": [4.0]}


@pytest.mark.parametrize(
    ("folder", "name", "retries"),
    [
        ("models_dir", "saved_model.pb", 0),
        ("models_dir", "saved_model.pb", 5),
        ("litert_dir", "model.tflite", 5),
    ],
)
def test_version_that_failed_is_taken_when_its_files_are_mended(
    request: pytest.FixtureRequest, tmp_path: Path, folder: str, name: str, retries: int
) -> None:
    versions: Path = request.getfixturevalue(folder) / "two_versions"
    base_path = tmp_path / "m"
    _put(versions / "1", base_path / "1")
    hours = "--load_retry_interval_micros=36000000000"
    with _serving(base_path, hours, f"--max_num_load_retries={retries}") as client:
        _put(versions / "2", base_path / "half")
        model = base_path / "half" / name
        whole = model.read_bytes()
        model.write_bytes(whole[: len(whole) // 2])
        (base_path / "half").rename(base_path / "2")
        until(lambda: client.states().get(2) and client.error(2)[1])
        assert client.states() == {2: "LOADING" if retries else "END", 1: "AVAILABLE"}
        (base_path / "2" / name).write_bytes(whole)
        until(lambda: client.states() == {2: "AVAILABLE", 1: "END"})


def test_links_to_versions_are_versions_and_are_loaded_once(
    base_path: Path, versions: Path, tmp_path: Path
) -> None:
    """As git-sync and Kubernetes put them; a number stands for one content, as there."""
    hours = "--load_retry_interval_micros=36000000000"
    with _serving(base_path, hours) as client:
        (base_path / "2").symlink_to("../store/2")
        until(lambda: client.states().get(2) and "find SavedModel" in client.error(2)[1])
        _put(versions / "2", tmp_path / "store" / "2")
        until(lambda: client.states() == {2: "AVAILABLE", 1: "END"})
        (base_path / "swapped").symlink_to(versions / "1")
        (base_path / "swapped").rename(base_path / "2")
        _put(versions / "1", base_path / "3")
        until(lambda: client.states() == {3: "AVAILABLE", 2: "END", 1: "END"})
        _take(base_path / "3", tmp_path)
        until(lambda: client.states() == {3: "END", 2: "AVAILABLE", 1: "END"})
        assert client.ask().json() == {"predictions": [3.0]}


def test_base_path_that_is_a_link_may_be_swapped(versions: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        _put(versions / str(number), tmp_path / f"tree-{number}" / str(number))
    base_path = tmp_path / "current"
    base_path.symlink_to(tmp_path / "tree-1")
    with _serving(base_path) as client:
        assert client.ask().json() == {"predictions": [3.0]}
        (tmp_path / "next").symlink_to(tmp_path / "tree-2")
        (tmp_path / "next").rename(base_path)
        until(lambda: client.states() == {2: "AVAILABLE", 1: "END"})
        assert client.ask().json() == {"predictions": [4.0]}


@pytest.mark.parametrize("by", ["file", "call"])
def test_dropping_a_model_that_failed_to_load_stops_no_later_change(
    by: str, models_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad" / "1").mkdir(parents=True)
    (tmp_path / "bad" / "1" / "saved_model.pb").write_bytes(b"\x00not a model")
    config, port = tmp_path / "models.config", free_port()

    def text(names: str) -> str:
        base_paths = dict.fromkeys(names, models_dir / "half_plus_two")
        if "b" in names:
            base_paths["b"] = tmp_path / "bad"
        models = [ModelConfig(name, str(path)) for name, path in base_paths.items()]
        return proto_text.written(to_message(models))

    def serves(client: _Client, names: str) -> bool:
        return all((client.ask(name).status_code == 200) == (name in names) for name in "mznk")

    config.write_text(text("m"))
    flags = (
        f"--model_config_file={config}",
        f"--model_config_file_poll_wait_seconds={by == 'file':d}",
    )
    with (
        running(f"--port={port}", *flags) as (url, process),
        _read(process) as said,
        _client(url) as client,
        grpc.insecure_channel(f"localhost:{port}") as channel,
    ):

        def become(names: str) -> str:
            """What the server says of these models."""
            if by == "file":
                config.write_text(text(names))
                return ""
            request = protos.message("tensorflow.serving.ReloadConfigRequest")()
            text_format.Parse(text(names), request.config)
            try:
                call(channel, "HandleReloadConfigRequest", request)
            except grpc.RpcError as error:
                return f"{error.code().name}: {error.details()}"
            return "OK"

        told = [become("mzb")]
        until(lambda: serves(client, "mz") and client.states("b") == {1: "LOADING"})
        told.append(become("mn"))
        until(lambda: serves(client, "mn") and client.states("b") == {1: "END"})
        told.append(become("mk"))
        until(lambda: serves(client, "mk"))
    assert "Traceback" not in "".join(said)
    if by == "call":
        assert told[0].startswith("UNKNOWN: 1 model(s) did not become available: ")
        assert told[1:] == ["OK", "OK"]


@pytest.mark.parametrize(("text", "workers"), [("", 1), ("model_config_list { }", 2)])
def test_server_without_models_waits_for_a_reload(
    text: str, workers: int, models_dir: Path, tmp_path: Path
) -> None:
    config, port = tmp_path / "models.config", free_port()
    config.write_text(text)
    model = ModelConfig("m", str(models_dir / "half_plus_two"))
    with (
        running(f"--port={port}", f"--model_config_file={config}", f"--workers={workers}") as (
            url,
            process,
        ),
        _read(process),
        _client(url) as client,
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        assert (client.alive(), client.ready(), client.ask().status_code) == (200, 503, 404)
        for models, status in (([model], 200), ([], 503), ([model], 200)):
            request = protos.message("tensorflow.serving.ReloadConfigRequest")(
                config=to_message(models)
            )
            call(channel, "HandleReloadConfigRequest", request)
            until(lambda status=status: client.ready() == status)  # type: ignore[misc] # a default
            assert client.ask().status_code == (200 if models else 404)


def test_largest_of_very_many_versions_is_served(base_path: Path, versions: Path) -> None:
    for number in range(2, 200):
        (base_path / str(number)).symlink_to(versions / "1")
    with _serving(base_path) as client:
        assert client.states() == {199: "AVAILABLE"}
        _put(versions / "2", base_path / "200")
        until(lambda: client.states() == {200: "AVAILABLE", 199: "END"})


def test_labels_move_and_a_broken_config_changes_nothing(versions: Path, tmp_path: Path) -> None:
    """Two models of one base path, one of them with labels."""

    def text(stable: int) -> str:
        common = f'base_path: "{versions}" model_platform: "tensorflow"'
        labels = f'version_labels {{ key: "stable" value: {stable} }}'
        policy = "model_version_policy { all {} }"
        return f"""model_config_list {{
            config {{ name: "m" {common} {policy} {labels} }} config {{ name: "n" {common} }}
        }}"""

    config = tmp_path / "models.config"
    config.write_text(text(1))
    flags = (f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1")
    with running(*flags) as (url, process), _read(process) as said, _client(url) as client:

        def stable() -> str:
            return client.ask("m/labels/stable").text

        assert stable() == '{"predictions":[3.0]}'
        config.write_text(text(2))
        until(lambda: stable() == '{"predictions":[4.0]}')
        for broken in (b"model_config_list {", b"\xff\xfe\x00", b"", text(7).encode()):
            count = len(said)
            config.write_bytes(broken)
            until(lambda count=count: "ERROR" in "".join(said[count:]))  # type: ignore[misc] # a default
            assert stable() == '{"predictions":[4.0]}'
        config.write_text(text(1))
        until(lambda: stable() == '{"predictions":[3.0]}')
        assert client.ask("n").json() == {"predictions": [4.0]}


def test_pushed_version_is_taken_with_its_manifest(base_path: Path, versions: Path) -> None:
    manifest = Manifest.of(versions / "2").to_json()
    _put(versions / "2", base_path / "push")
    (base_path / "push" / PUSH).write_bytes(manifest)
    with _serving(base_path) as client:
        (base_path / "push").rename(base_path / "2")
        until(lambda: client.states().get(2) == "START" and client.error(2)[0] == "UNAVAILABLE")
        assert client.ask().json() == {"predictions": [3.0]}
        (base_path / "2" / MANIFEST).write_bytes(manifest)
        until(lambda: client.states() == {2: "AVAILABLE", 1: "END"})


def test_base_path_that_vanishes_changes_nothing_and_an_empty_one_unloads(
    base_path: Path, versions: Path, tmp_path: Path
) -> None:
    with (
        running("--model_name=m", f"--model_base_path={base_path}") as (url, process),
        _read(process) as said,
        _client(url) as client,
    ):
        gone = tmp_path / "gone"
        base_path.rename(gone)
        until(lambda: any("Could not read the base path" in line for line in said))
        assert client.states() == {1: "AVAILABLE"}
        gone.rename(base_path)
        _take(base_path / "1", tmp_path)
        until(lambda: client.states() == {1: "END"})
        assert (client.ready(), client.ask().status_code) == (503, 404)
        _put(versions / "2", base_path / "2")
        until(lambda: client.ready() == 200)
        assert client.ask().json() == {"predictions": [4.0]}


def test_nothing_is_looked_for_without_a_wait(base_path: Path, versions: Path) -> None:
    with _serving(base_path, "--file_system_poll_wait_seconds=0") as client:
        _put(versions / "2", base_path / "2")
        for _ in range(50):
            assert client.states() == {1: "AVAILABLE"}


def test_stopping_is_not_ready_at_once_and_waits_for_what_was_asked(models_dir: Path) -> None:
    flags = (f"--model_base_path={models_dir / 'while_loop'}", "--rest_api_timeout_in_ms=0")
    with (
        running("--model_name=m", *flags, "--drain_seconds=300") as (url, process),
        _read(process),
        _client(url) as client,
    ):
        with _endless(url):
            _until_busy(process)
            assert client.ready() == 200
            process.send_signal(signal.SIGTERM)
            until(lambda: client.ready() == 503)  # on the connection that there was
            assert process.poll() is None
        assert process.wait(300) == 0


def test_stopping_ends_even_if_a_request_does_not(models_dir: Path) -> None:
    base_path = f"--model_base_path={models_dir / 'while_loop'}"
    flags = (base_path, "--rest_api_timeout_in_ms=0", "--drain_seconds=1")
    with (
        running("--model_name=m", *flags) as (url, process),
        _read(process) as said,
        ThreadPoolExecutor() as pool,
    ):
        endless = pool.submit(httpx.post, f"{url}/v1/models/m:predict", json=_ENDLESS, timeout=300)
        _until_busy(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 1
        with pytest.raises(httpx.TransportError):
            endless.result()
    assert "Requests are still running after --drain_seconds=1: they are cut off" in said[-1]


@pytest.mark.parametrize("by_litert", [False, True])
def test_memory_of_unloaded_versions_is_given_back(tflite_dir: Path, *, by_litert: bool) -> None:
    base_path, process = str(tflite_dir / "MLP" if by_litert else MNIST / "saved"), psutil.Process()
    load = _load_without_trial if by_litert else saved_model.load
    manager = Manager(LocalStore({"m": base_path}), load)
    manager.serve([ModelConfig("m", base_path)])
    sizes = []
    for _ in range(15):
        manager.unload(ServableId("m", 1), lambda end: end())
        manager.load(ServableId("m", 1), manager.fetch(ServableId("m", 1)))
        _run(manager)
        sizes.append(process.memory_info().rss / 2**20)
    manager.close()
    assert sizes[-1] - sizes[4] < _BOUND_MB, sizes


def _run(manager: Manager) -> None:
    servable = manager.get(ModelSpec("m")).servable
    (name,) = servable.signature("").inputs
    assert servable.run("", {name: np.zeros((8, 28, 28, 1), np.float32)})


def _load_without_trial(folder: Path) -> Servable:
    """By LiteRT; a trial would take longer than all else of a load."""
    return load_tflite(folder, 2, 1, memory.trim, trusted=True)
