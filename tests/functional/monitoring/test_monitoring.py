"""Metrics, access log and logged requests of a server, asked by REST, gRPC and gRPC-Web."""

import json
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lambda_serving import protos
from lambda_serving.protos import tfrecord
from lambda_serving.servables import saved_model
from lambda_serving.servables.warmup import WARMUP_FILE, warm_up
from support.rpc_client import call, example_request, free_port, message, path_of, predict_request
from support.server_process import COMMAND, MNIST, running, until

_PAGE = "/monitoring/prometheus/metrics"
_SECONDS = 300
_AGE_20 = {"age": {"int64List": {"value": [20]}}}
_HALF = "/v1/models/half_plus_two"


@dataclass
class _Server:
    url: str
    channel: grpc.Channel
    process: subprocess.Popen[str]
    folder: Path

    def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(f"{self.url}{path}", json=body, headers=named)

    def samples(self, name: str) -> dict[tuple[str, ...], float]:
        """Values of a metric by its labels' values."""
        page = httpx.get(self.url + _PAGE)
        assert page.status_code == 200
        return {
            tuple(sample.labels.values()): sample.value
            for family in text_string_to_metric_families(page.text)
            for sample in family.samples
            if sample.name.removesuffix("_total") == name.removesuffix("_total")
        }

    def said(self) -> list[dict[str, Any]]:
        """The lines of the access log, once the server has ended."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(_SECONDS) == 0
        assert self.process.stderr
        lines = self.process.stderr.read().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def logged(self, prefix: str) -> list[Any]:
        log = protos.message("tensorflow.serving.PredictionLog")
        return [
            log.FromString(record)
            for path in self.folder.glob(f"{prefix}-*.tfrecord")
            for record in _records(path)
        ]


def _records(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return list(tfrecord.records(file, 2**26))


def _config(folder: Path, models_dir: Path, rates: Mapping[str, float]) -> str:
    """A config of these models, logged at these rates."""
    config = protos.message("tensorflow.serving.ModelServerConfig")()
    for name, rate in rates.items():
        model = config.model_config_list.config.add(
            name=name, base_path=str(models_dir / name), model_platform="tensorflow"
        )
        if rate:
            model.logging_config.log_collector_config.filename_prefix = str(folder / name)
            model.logging_config.sampling_config.sampling_rate = rate
    return str(config)


@contextmanager
def _serving(
    tmp_path: Path, models_dir: Path, rates: Mapping[str, float], *flags: str
) -> Iterator[_Server]:
    models, monitoring = tmp_path / "models.config", tmp_path / "monitoring.config"
    models.write_text(_config(tmp_path, models_dir, rates))
    monitoring.write_text("prometheus_config { enable: true }")
    port = free_port()
    given = (
        f"--port={port}",
        f"--model_config_file={models}",
        f"--monitoring_config_file={monitoring}",
        "--access_log",
    )
    with (
        running(*given, *flags) as (url, process),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield _Server(url, channel, process, tmp_path)


_MODELS = {"half_plus_two": 0.0, "examples": 0.0}


@pytest.mark.parametrize("flag", ["--enable_batching=false", "--enable_batching"])
def test_calls_are_counted_by_model_status_and_way(
    tmp_path: Path, models_dir: Path, flag: str
) -> None:
    with _serving(tmp_path, models_dir, _MODELS, flag) as server:
        for _ in range(2):
            answer = server.post(f"{_HALF}:predict", {"instances": [1.0, 2.0]})
            assert answer.json() == {"predictions": [2.5, 3.0]}
        assert server.post(f"{_HALF}:predict", {"instances": ["x"]}).status_code == 400
        regress = {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}, {"x": 2.0}]}
        assert server.post(f"{_HALF}:regress", regress).status_code == 200
        assert httpx.get(server.url + _HALF).status_code == 200
        assert httpx.get(f"{server.url}/v1/nonsense").status_code == 400
        assert server.post("/v1/models/nobody:predict", {}).status_code == 404
        call(server.channel, "Predict", predict_request("half_plus_two", {"x": [1]}))
        request = example_request("ClassificationRequest", {"name": "examples"}, _AGE_20)
        call(server.channel, "Classify", request)
        with pytest.raises(grpc.RpcError):
            call(server.channel, "Predict", predict_request("somebody", {"x": [1]}))
        assert server.samples(":tensorflow:serving:request_count") == {
            ("half_plus_two", "OK"): 5,
            ("half_plus_two", "INVALID_ARGUMENT"): 1,
            ("examples", "OK"): 1,
            ("", "INVALID_ARGUMENT"): 1,
            ("", "NOT_FOUND"): 2,
        }
        assert server.samples(":tensorflow:serving:request_latency_count") == {
            ("half_plus_two", "predict", "REST"): 2,
            ("half_plus_two", "regress", "REST"): 1,
            ("half_plus_two", "", "REST"): 1,
            ("half_plus_two", "Predict", "GRPC"): 1,
            ("examples", "Classify", "GRPC"): 1,
        }
        assert server.samples(":tensorflow:serving:runtime_latency_count") == {
            ("half_plus_two", "Predict", "TF1"): 3,
            ("half_plus_two", "Regress", "TF1"): 1,
            ("examples", "Classify", "TF1"): 1,
        }
        assert server.samples(":tensorflow:serving:request_example_count_total") == {
            ("half_plus_two",): 2,
            ("examples",): 1,
        }
        latencies = ":tensorflow:serving:request_latency"
        buckets = server.samples(f"{latencies}_bucket")
        rest = {key[3]: value for key, value in buckets.items() if key[1:3] == ("predict", "REST")}
        assert list(rest)[:2] == ["10", "18"]
        assert rest["+Inf"] == 2
        assert rest["10"] == 0
        total = server.samples(f"{latencies}_sum")["half_plus_two", "predict", "REST"]
        run = server.samples(":tensorflow:serving:runtime_latency_sum")
        assert 10 < run["half_plus_two", "Predict", "TF1"] < 1e7
        assert 20 < total < 1e7
        ours = ":lambda_serving"
        assert server.samples(f"{ours}:json_decode_latency_count")["half_plus_two", "predict"] == 2
        assert server.samples(f"{ours}:queue_latency_count")["half_plus_two", "predict"] == 3
        loads = server.samples(":tensorflow:cc:saved_model:load_attempt_count")
        assert loads == {
            (str(models_dir / "half_plus_two/123"), "success"): 1,
            (str(models_dir / "examples/1"), "success"): 1,
        }
        batches = server.samples(":tensorflow:serving:batching_session:wrapped_run_count")
        assert bool(batches) is (flag == "--enable_batching")


def test_warm_up_is_counted(tmp_path: Path, models_dir: Path) -> None:
    with _serving(tmp_path, models_dir, {"warmed": 0.0}) as server:
        key = (str(models_dir / "warmed/1"), "OK")
        read = server.samples(":tensorflow:serving:model_warmup_records_read")
        assert read.keys() == {key}
        assert read[key] > 0
        took = server.samples(":tensorflow:serving:model_warmup_latency_count")
        assert took == {key: 1}


def test_reload_tells_by_how_much_counters_grew(tmp_path: Path, models_dir: Path) -> None:
    loads = "/tensorflow/cc/saved_model/load_attempt_count"
    with _serving(tmp_path, models_dir, {"examples": 0.0}) as server:
        request = message("ReloadConfigRequest", {"metricNames": [loads, "/no/such"]})
        listed = protos.message("tensorflow.serving.ModelServerConfig")()
        for name in _MODELS:
            listed.model_config_list.config.add(
                name=name, base_path=str(models_dir / name), model_platform="tensorflow"
            )
        request.config.CopyFrom(listed)
        response = call(server.channel, "HandleReloadConfigRequest", request)
        assert {each.name: each.int64_value_increase for each in response.metric} == {
            loads: 1,
            "/no/such": 0,
        }


def test_predictions_are_told_by_a_line_each(tmp_path: Path, models_dir: Path) -> None:
    with _serving(tmp_path, models_dir, _MODELS) as server:
        body = {"instances": [1.0, 2.0]}
        assert (
            server.post(f"{_HALF}:predict", body, x_request_id="mine-1").headers["x-request-id"]
            == "mine-1"
        )
        made = server.post(f"{_HALF}:predict", {"instances": ["x"]}, x_request_id="not sane")
        made_id = made.headers["x-request-id"]
        assert len(made_id) == 32
        httpx.get(server.url + _HALF)
        predict: Any = server.channel.unary_unary(path_of("Predict"))
        request = predict_request("half_plus_two", {"x": [1]}).SerializeToString()
        _, answered = predict.with_call(request, metadata=[("x-request-id", "mine-2")])
        assert dict(answered.initial_metadata())["x-request-id"] == "mine-2"
        web = httpx.post(
            server.url + path_of("Predict"),
            content=struct.pack(">BI", 0, len(request)) + request,
            headers={"content-type": "application/grpc-web", "x-request-id": "mine-3"},
        )
        assert web.headers["x-request-id"] == "mine-3"
        lines = server.said()
    for line in lines:
        assert line.pop("time").endswith("+00:00")
        assert line.pop("milliseconds") > 0
        assert line.pop("bytes_in") > 0
    half = {"model": "half_plus_two", "version": 123, "signature": "serving_default"}
    assert lines == [
        {"request_id": "mine-1", "entrypoint": "REST", "api": "predict"}
        | half
        | {"rows": 2, "status": "OK"},
        {"request_id": made_id, "entrypoint": "REST", "api": "predict"}
        | half
        | {"version": None, "signature": "", "rows": 0, "status": "INVALID_ARGUMENT"},
        {"request_id": "mine-2", "entrypoint": "GRPC", "api": "Predict"}
        | half
        | {"rows": 1, "status": "OK"},
        {"request_id": "mine-3", "entrypoint": "GRPC-WEB", "api": "Predict"}
        | half
        | {"rows": 1, "status": "OK"},
    ]


def test_server_without_flags_tells_nothing(models_dir: Path) -> None:
    flags = ("--model_name=m", f"--model_base_path={models_dir / 'half_plus_two'}")
    with running(*flags) as (url, process):
        answer = httpx.post(
            f"{url}/v1/models/m:predict",
            json={"instances": [1.0]},
            headers={"x-request-id": "mine"},
        )
        assert "x-request-id" not in answer.headers
        assert httpx.get(url + _PAGE).status_code == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(_SECONDS) == 0
        assert process.stderr
        assert "mine" not in process.stderr.read()


def test_wrong_monitoring_config_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "monitoring.config").write_text("prometheus_config {\n  enabled: true\n}")
    flag = f"--monitoring_config_file={tmp_path / 'monitoring.config'}"
    base_path = f"--model_base_path={MNIST / 'saved'}"
    ended = subprocess.run(
        [COMMAND, "serve", "--port=0", base_path, flag],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert f"The config file {tmp_path}/monitoring.config is not valid: 2:3" in ended.stderr
    assert 'no field named "enabled"' in ended.stderr


def test_logged_requests_warm_a_model_up(tmp_path: Path, models_dir: Path) -> None:
    rates = {"half_plus_two": 1.0, "examples": 1.0}
    with _serving(tmp_path, models_dir, rates) as server:
        server.post(f"{_HALF}:predict", {"instances": [1.0, 2.0]})
        server.post(f"{_HALF}:predict", {"instances": ["wrong"]})
        call(server.channel, "Predict", predict_request("half_plus_two", {"x": [5]}))
        body = {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}]}
        server.post(f"{_HALF}:regress", body)
        request = example_request("ClassificationRequest", {"name": "examples"}, _AGE_20)
        call(server.channel, "Classify", request)
        counted = ":tensorflow:serving:request_log_count"
        until(lambda: sum(server.samples(counted).values()) == 4)
        assert server.samples(counted) == {("half_plus_two", "OK"): 3, ("examples", "OK"): 1}
        server.said()
    kinds = [log.WhichOneof("log_type") for log in server.logged("half_plus_two")]
    assert kinds == ["predict_log", "predict_log", "regress_log"]
    first, *_, regress = server.logged("half_plus_two")
    assert list(first.predict_log.response.outputs["y"].float_val) == [2.5, 3.0]
    assert [each.value for each in regress.regress_log.response.result.regressions] == [2.5]
    [classify] = server.logged("examples")
    [row] = classify.classify_log.response.result.classifications
    assert [each.label for each in row.classes] == ["car", "bike", "bus"]
    for name, version, records in (("half_plus_two", "123", 3), ("examples", "1", 1)):
        export = tmp_path / "copies" / name
        shutil.copytree(models_dir / name / version, export)
        [file] = tmp_path.glob(f"{name}-*.tfrecord")
        (export / WARMUP_FILE).parent.mkdir(exist_ok=True)
        shutil.copy(file, export / WARMUP_FILE)
        with saved_model.load(export) as servable:
            assert warm_up(servable, export) == records


def test_litert_is_counted_told_and_logged_as_tensorflow_is(
    tmp_path: Path, litert_dir: Path
) -> None:
    """TensorFlow Serving's label of the runtime is that of its sessions, whatever runs in them."""
    with _serving(tmp_path, litert_dir, {"half_plus_two": 1.0}) as server:
        answer = server.post(f"{_HALF}:predict", {"instances": [1.0, 2.0]}, x_request_id="mine")
        assert answer.json() == {"predictions": [2.5, 3.0]}
        refused = server.post(f"{_HALF}:predict", {"instances": [[1.0]]})
        assert refused.status_code == 400
        call(server.channel, "Predict", predict_request("half_plus_two", {"x": [5]}))
        runtime = server.samples(":tensorflow:serving:runtime_latency_count")
        assert runtime == {("half_plus_two", "Predict", "TF1"): 2}
        assert server.samples(":tensorflow:serving:request_count") == {
            ("half_plus_two", "OK"): 2,
            ("half_plus_two", "INVALID_ARGUMENT"): 1,
        }
        loads = server.samples(":tensorflow:cc:saved_model:load_attempt_count")
        assert loads == {(str(litert_dir / "half_plus_two/123"), "success"): 1}
        until(lambda: sum(server.samples(":tensorflow:serving:request_log_count").values()) == 2)
        lines = server.said()
    assert [(each["status"], each["rows"], each["version"]) for each in lines] == [
        ("OK", 2, 123),
        ("INVALID_ARGUMENT", 1, 123),
        ("OK", 1, 123),
    ]
    logs = server.logged("half_plus_two")
    given = [list(each.predict_log.response.outputs["y"].float_val) for each in logs]
    assert given == [[2.5, 3.0], [4.5]]
    export = tmp_path / "copy"
    shutil.copytree(litert_dir / "half_plus_two/123", export)
    [file] = tmp_path.glob("half_plus_two-*.tfrecord")
    shutil.copy(file, export / WARMUP_FILE)
    with saved_model.load(export) as servable:
        assert warm_up(servable, export) == 2


def test_new_config_has_requests_logged_that_nobody_observed_before(
    tmp_path: Path, models_dir: Path
) -> None:
    models = tmp_path / "models.config"
    models.write_text(_config(tmp_path, models_dir, {"half_plus_two": 0.0}))
    port = free_port()
    flags = (f"--port={port}", f"--model_config_file={models}")
    with (
        running(*flags, "--model_config_file_poll_wait_seconds=1") as (url, process),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        server = _Server(url, channel, process, tmp_path)
        call(channel, "Predict", predict_request("half_plus_two", {"x": [1]}))
        models.write_text(_config(tmp_path, models_dir, {"half_plus_two": 1.0}))

        def logged() -> bool:
            server.post(f"{_HALF}:predict", {"instances": [2.0]})
            return any(tmp_path.glob("half_plus_two-*"))

        until(logged)
        call(channel, "Predict", predict_request("half_plus_two", {"x": [3]}))
        server.said()
    logs = server.logged("half_plus_two")
    assert {log.predict_log.request.inputs["x"].float_val[0] for log in logs} == {2.0, 3.0}
