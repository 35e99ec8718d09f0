"""gRPC of `lambda-serving serve`, asked by TensorFlow Serving's stubs, unchanged."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc

from lambda_serving import proto_text, protos
from rpc_client import arrays, call, free_port, predict_request
from server_process import COMMAND, MNIST, running

_STUBS_CLIENT = Path(__file__).parents[1] / "stubs_client.py"
_SECONDS = 60


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


def test_busy_port_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = (f"--port={port}", "--rest_api_port=0", f"--model_base_path={MNIST / 'saved'}")
        ended = subprocess.run(
            [COMMAND, "serve", *flags], capture_output=True, text=True, check=False
        )
    assert ended.returncode != 0
    assert ended.stderr.endswith(
        f"Error: Could not listen on 127.0.0.1:{port} ([Errno 98] Address already in use)."
        " Choose another port with --port, 0 for no gRPC\n"
    )
