"""A server that prefers LiteRT models: TensorFlow Serving's own tests, and a bad file as an update.

Source: testPredictOnTfLite and testPredictWithSignatureDefOnTfLite in
tensorflow_model_server_test.py, on models like theirs.
"""

from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import psutil
import pytest

from lambda_serving.servables.litert.compiled_folder import mark
from support.rpc_client import arrays, call, free_port, predict_request
from support.server_process import running, until
from support.tflite_files import edited, with_metadata, without_operations, without_signatures

_X, _Y = "serving_default_x:0", "StatefulPartitionedCall_4:0"


def _renamed(model: Any) -> None:
    """Calls the tensors x and y, which then are the names of the input and the output."""
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].name, graph.tensors[graph.outputs[0]].name = "x", "y"


def _put(version: Path, content: bytes) -> None:
    version.mkdir(parents=True)
    (version / "model.tflite").write_bytes(content)


def test_lite_models_are_served_and_a_bad_update_is_refused(
    tflite_dir: Path, tmp_path: Path
) -> None:
    half = (tflite_dir / "half_plus_two/123/model.tflite").read_bytes()
    signature = with_metadata({"x": _X}, {"y": _Y})
    _put(tmp_path / "plain/00000123", edited(half, without_signatures, _renamed))
    _put(tmp_path / "signed/00000123", edited(half, without_signatures, signature))
    models = "".join(
        f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" }}'
        for name in ("plain", "signed")
    )
    config, port = tmp_path / "models.config", free_port()
    config.write_text(f"model_config_list {{ {models} }}")
    flags = ("--prefer_tflite_model", "--num_tflite_pools=2", f"--model_config_file={config}")
    with (
        running(*flags, f"--port={port}", "--max_num_load_retries=0") as (url, process),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        httpx.Client(base_url=url) as http,
    ):
        for name in ("plain", "signed"):
            request = predict_request(name, {"x": np.array([2], np.float32)})
            response = call(channel, "Predict", request)
            assert arrays(response)["y"].tolist() == [3]
            assert (response.model_spec.name, response.model_spec.version.value) == (name, 123)
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        assert ("litert" in maps, "libtensorflow" in maps) == (True, False)

        _put(tmp_path / "plain/124", edited(half, without_operations))
        until(lambda: _state(http, 124)["state"] == "END")
        told = _state(http, 124)["status"]["error_message"]
        assert "ended the process that tried it (signal 11)" in told
        answer = http.post("/v1/models/plain:predict", json={"instances": [2.0, 4.0]})
        assert answer.json() == {"predictions": [3.0, 4.0]}


@pytest.mark.parametrize("flags", [(), ("--workers=2",)])
def test_compiled_lite_model_is_served_without_tensorflow(
    tflite_dir: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    version = tmp_path / "half/1"
    _put(version, (tflite_dir / "half_plus_two/123/model.tflite").read_bytes())
    mark(version, "2.3.0")
    with running(*flags, "--model_name=half", f"--model_base_path={tmp_path}/half") as served:
        url, process = served
        answer = httpx.post(f"{url}/v1/models/half:predict", json={"instances": [2.0]})
        assert answer.json() == {"predictions": [3.0]}
        parent = psutil.Process(process.pid)
        maps = [Path(f"/proc/{each.pid}/maps").read_text() for each in [parent, *parent.children()]]
    assert any("litert" in each for each in maps)
    assert not any("libtensorflow" in each for each in maps)


def _state(http: httpx.Client, version: int) -> Any:
    answer = http.get("/v1/models/plain").json()
    found = {int(each["version"]): each for each in answer["model_version_status"]}
    return found.get(version, {"state": "UNKNOWN"})
