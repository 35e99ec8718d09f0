"""gRPC of `lambda-serving serve`, asked by TensorFlow Serving's stubs, unchanged."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from lambda_serving import protos
from lambda_serving.config import proto_text
from support.rpc_client import arrays, call, free_port, path_of, predict_request
from support.server_process import COMMAND, MNIST, running

_STUBS_CLIENT = Path(__file__).parents[2] / "support/stubs_client.py"
_SECONDS = 300


def test_tensorflow_servings_own_stubs_are_answered(tmp_path: Path, models_dir: Path) -> None:
    config = protos.message("tensorflow.serving.ModelServerConfig")()
    for name in ("half_plus_two", "examples"):
        config.model_config_list.config.add(
            name=name, base_path=str(models_dir / name), model_platform="tensorflow"
        )
    (tmp_path / "models.config").write_text(proto_text.written(config))
    port = free_port()
    with running(f"--port={port}", f"--model_config_file={tmp_path / 'models.config'}"):
        subprocess.run([sys.executable, _STUBS_CLIENT, f"localhost:{port}"], check=True)


def test_serves_on_a_socket_until_told_to_stop(tmp_path: Path, models_dir: Path) -> None:
    path = tmp_path / "socket"
    flags = ("--model_name=m", f"--model_base_path={models_dir / 'half_plus_two'}")
    with running(f"--grpc_socket_path={path}", *flags) as (_, process):
        with grpc.insecure_channel(f"unix:{path}") as channel:
            response = call(channel, "Predict", predict_request("m", {"x": [1]}))
        assert arrays(response)["y"].tolist() == [2.5]
        process.send_signal(signal.SIGTERM)
        assert process.wait(_SECONDS) == 0


def test_busy_port_is_reported_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = (f"--port={port}", "--rest_api_port=0", f"--model_base_path={MNIST / 'saved'}")
        ended = subprocess.run(
            [COMMAND, "serve", *flags], capture_output=True, text=True, check=False
        )
    assert ended.returncode != 0
    assert ended.stderr.endswith(
        f"Error: Could not listen on 127.0.0.1:{port} ([Errno 98] Address already in use)."
        " Choose another port with --port, or use 0 to turn gRPC off\n"
    )


def test_clients_that_stall_keep_nobody_from_being_answered_and_are_cut_off(
    models_dir: Path,
) -> None:
    port = free_port()
    flags = ("--model_name=m", f"--model_base_path={models_dir / 'half_plus_two'}")
    bounds = ("--client_timeout_seconds=1", "--grpc_max_message_bytes=1000", "--grpc_max_threads=1")
    with (
        running(f"--port={port}", *flags, *bounds),
        grpc.insecure_channel(f"localhost:{port}") as channel,
        _stalled(channel, 100) as stalled,
    ):
        assert call(channel, "Predict", predict_request("m", {"x": [1]})).outputs
        said = {(each.code(), each.details()) for each in stalled}
    assert said == {(grpc.StatusCode.DEADLINE_EXCEEDED, "The request did not arrive in time")}


def test_call_that_stalls_does_not_hinder_the_end(models_dir: Path) -> None:
    port = free_port()
    flags = ("--model_name=m", f"--model_base_path={models_dir / 'half_plus_two'}")
    with (
        running(f"--port={port}", *flags) as (_, process),
        grpc.insecure_channel(f"localhost:{port}") as channel,
        _stalled(channel, 1),
    ):
        assert call(channel, "Predict", predict_request("m", {"x": [1]})).outputs
        process.send_signal(signal.SIGTERM)
        assert process.wait(_SECONDS) == 0


@contextmanager
def _stalled(channel: grpc.Channel, count: int) -> Iterator[Sequence[Any]]:
    """Calls that have begun and send no message as long as the block lasts."""
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait()
        yield from ()

    method: Any = channel.stream_unary(path_of("Predict"))
    try:
        yield [method.future(nothing()) for _ in range(count)]
    finally:
        over.set()


def test_message_over_the_default_limit_is_refused(models_dir: Path) -> None:
    port = free_port()
    flags = ("--model_name=m", f"--model_base_path={models_dir / 'half_plus_two'}")
    with (
        running(f"--port={port}", *flags),
        grpc.insecure_channel(f"localhost:{port}") as channel,
    ):
        with pytest.raises(grpc.RpcError) as raised:
            call(channel, "Predict", bytes(256 * 2**20 + 1))
        error: Any = raised.value
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert call(channel, "Predict", predict_request("m", {"x": [1]})).outputs


def _refusal(*flags: str) -> str:
    ended = subprocess.run(
        [COMMAND, "serve", f"--model_base_path={MNIST / 'saved'}", "--rest_api_port=0", *flags],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    return ended.stderr[ended.stderr.index("Error: ") :].strip()


def test_one_port_for_both_is_reported() -> None:
    port = free_port()
    assert _refusal(f"--port={port}", f"--rest_api_port={port}") == (
        f"Error: --port and --rest_api_port are both {port}. Give each a port of its own"
    )


def test_socket_path_that_is_of_no_use_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    said = [_refusal("--port=0", f"--grpc_socket_path={path}") for path in (file, file / "x")]
    assert said == [
        f"Error: --grpc_socket_path {file} exists and is not a socket. Choose another path",
        f"Error: The folder of --grpc_socket_path {file / 'x'} does not exist. Create it",
    ]
    long = tmp_path / ("s" * 108)
    assert "bytes; a socket's address has room for 107" in _refusal(
        "--port=0", f"--grpc_socket_path={long}"
    )
    assert list(tmp_path.iterdir()) == [file]
    assert file.is_file()


def test_socket_is_taken_over_from_a_server_that_runs_and_stays_when_that_one_stops(
    tmp_path: Path, models_dir: Path
) -> None:
    path = tmp_path / "socket"
    flags = (f"--grpc_socket_path={path}", f"--model_base_path={models_dir / 'half_plus_two'}")
    with running(*flags) as (_, old), _connected(path) as early:
        assert _predicted(early)
        with running(*flags) as (_, new):
            assert _predicted(early)  # by the old one still
            old.send_signal(signal.SIGTERM)
            assert old.wait(_SECONDS) == 0
            with _connected(path) as late:
                assert _predicted(late)
            assert [each.name for each in tmp_path.iterdir()] == ["socket"]
            new.send_signal(signal.SIGTERM)
            assert new.wait(_SECONDS) == 0
    assert list(tmp_path.iterdir()) == []


def test_socket_is_taken_over_from_a_server_that_was_killed(
    tmp_path: Path, models_dir: Path
) -> None:
    path = tmp_path / ("s" * (107 - len(f"{tmp_path}/")))  # the longest that there can be
    flags = (f"--grpc_socket_path={path}", f"--model_base_path={models_dir / 'half_plus_two'}")
    for _ in range(2):
        with running(*flags), _connected(path) as channel:
            assert _predicted(channel)
        assert path.is_socket()


@contextmanager
def _connected(path: Path) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"unix:{path}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


def _predicted(channel: grpc.Channel) -> bool:
    return bool(call(channel, "Predict", predict_request("default", {"x": [1]})).outputs)
