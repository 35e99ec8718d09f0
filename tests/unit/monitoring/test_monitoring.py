"""`MonitoringConfig`, the page, the access log and the files of requests."""

import errno
import json
import logging
import os
import re
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.types import Receive, Scope, Send

from lambda_serving import protos
from lambda_serving.batching import Report
from lambda_serving.call_record import UNRECORDED, CallRecord, Observers, request_id
from lambda_serving.config.model_config import Logging, ModelConfig
from lambda_serving.errors import InvalidArgument, NotFound
from lambda_serving.monitoring import request_log_files as files
from lambda_serving.monitoring.access_log import log_access
from lambda_serving.monitoring.metrics import text
from lambda_serving.monitoring.prometheus import page_path, with_page
from lambda_serving.monitoring.request_log import RequestLog
from lambda_serving.monitoring.request_log_files import LogFiles
from lambda_serving.monitoring.server_metrics import ServerMetrics
from lambda_serving.protos import tfrecord
from support.asgi import ask
from support.server_process import until

_PATH = "/monitoring/prometheus/metrics"


def _config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "monitoring.config"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('prometheus_config { enable: true path: "/metrics" }', "/metrics"),
        ("prometheus_config { enable: true }", _PATH),
        ('prometheus_config { enable: false path: "/metrics" }', None),
        ("", None),
    ],
)
def test_page_stands_where_the_config_enables_it(
    tmp_path: Path, text: str, path: str | None
) -> None:
    assert page_path(_config(tmp_path, text), ()) == path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prometheus_config {\n  enable: maybe }", "2:11.*maybe"),
        ("prometheus_config { port: 9090 }", '1:21.*no field named "port"'),
        ('prometheus_config { path: "metrics" }', "path is 'metrics'; it must begin with /"),
        ('prometheus_config { path: "/m?x=1" }', "must not contain . or #"),
        ('prometheus_config { path: "/V1/metrics" }', "that is another page"),
        ('prometheus_config { path: "/healthz" }', "that is another page"),
    ],
)
def test_wrong_config_is_reported_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said) as raised:
        page_path(_config(tmp_path, text), {"/healthz"})
    assert str(tmp_path / "monitoring.config") in str(raised.value)


def test_config_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="No such file"):
        page_path(tmp_path / "monitoring.config", ())


async def _app(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_page_is_answered_by_any_method_at_its_exact_path(method: str) -> None:
    app = with_page(_app, _PATH, lambda: "# TYPE a counter\n")
    answer = ask(app, method, _PATH)
    assert (answer.status_code, answer.headers["content-length"]) == (200, "17")
    assert answer.headers["content-type"] == "text/plain"
    refused = ask(app, method, f"{_PATH}?x=1")
    assert refused.status_code == 400
    if method != "HEAD":
        assert answer.text == "# TYPE a counter\n"
        assert refused.text == f"Unexpected path: {_PATH}?x=1. Should be {_PATH}"
    assert ask(app, method, f"{_PATH}/").status_code == 204


def test_names_that_are_not_served_count_as_one() -> None:
    metrics = ServerMetrics()
    metrics.serves = {"m"}.__contains__
    for name in ("m", "x", "y", "z"):
        metrics.call_ended(CallRecord("REST", model=name, status="NOT_FOUND"))
    points = metrics.snapshot()["/tensorflow/serving/request_count"]["points"]
    assert points == [[["m", "NOT_FOUND"], 1], [["", "NOT_FOUND"], 3]]


def test_batches_are_counted_with_waits_rows_and_padding() -> None:
    metrics = ServerMetrics()
    metrics.batch_ran(Report("pool", (0.001, 0.002), (1, 4), 8))
    lines = text([metrics.snapshot()]).splitlines()
    prefix = ":tensorflow:serving:batching_session:"
    assert {
        f'{prefix}queuing_latency_sum{{thread_pool_name="pool"}} 3000',
        f'{prefix}queuing_latency_count{{thread_pool_name="pool"}} 2',
        f"{prefix}wrapped_run_count{{}} 1",
        f"{prefix}input_batch_size_sum{{}} 5",
        f"{prefix}processed_batch_size_sum{{}} 8",
        f'{prefix}padding_size_sum{{execution_batch_size="8"}} 3',
    } <= set(lines)
    queuing = [line for line in lines if line.startswith(f"{prefix}queuing_latency_bucket")]
    assert len(queuing) == 53
    assert queuing[0].endswith('le="100"} 0')


@pytest.mark.parametrize("given", ["abc-1", "~" * 128])
def test_sane_request_id_is_kept(given: str) -> None:
    assert request_id(given) == given


@pytest.mark.parametrize("given", ["", "a b", "a\nb", "é", "a" * 129])
def test_other_request_id_is_replaced_by_a_new_one(given: str) -> None:
    first, second = request_id(given), request_id(given)
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first != second


def test_access_log_has_bounded_names_and_no_more_than_is_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "access")
    log_access(CallRecord("GRPC", "id", "Predict", model="m" * 1000, status="NOT_FOUND"))
    log_access(CallRecord("REST", "id", ""))  # a status call
    [line] = caplog.messages
    said = json.loads(line)
    del said["time"]
    assert said == {
        "request_id": "id",
        "entrypoint": "GRPC",
        "api": "Predict",
        "model": "m" * 256,
        "version": None,
        "signature": "",
        "rows": 0,
        "status": "NOT_FOUND",
        "milliseconds": 0.0,
        "bytes_in": 0,
    }


def test_observers_are_told_of_calls_that_took_time() -> None:
    told: list[CallRecord] = []
    observers = Observers()
    assert not observers
    assert observers.record("REST") is UNRECORDED
    observers.add(told.append)
    observers.tell(UNRECORDED)  # of a call that began before there were observers
    record = observers.record("REST")
    record.received(7)
    record.begun()
    record.decoded(1, "s", {"x": np.zeros((3, 2))})
    record.ran({})
    observers.tell(record)
    assert observers
    assert told == [record]
    assert record.rows == 3
    parts = (record.queue_seconds, record.decode_seconds, record.run_seconds)
    assert 0 < sum(part or 0 for part in parts) <= record.seconds


def _call(model: str = "m", status: str = "OK", value: float = 1.0) -> CallRecord:
    record = CallRecord("REST", api="predict", model=model, status=status)
    record.decoded(1, "serving_default", {"x": np.array([value], np.float32)})
    record.ran({"y": np.array([2 * value], np.float32)})
    return record


def _model(prefix: Path, rate: float = 1.0) -> ModelConfig:
    return ModelConfig("m", "/m", logging=Logging(str(prefix), rate))


def _logs(folder: Path, prefix: str = "log") -> list[Any]:
    message = protos.message("tensorflow.serving.PredictionLog")
    return [
        message.FromString(record)
        for path in sorted(folder.glob(f"{prefix}-*.tfrecord"))
        for record in _records(path)
    ]


def _records(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return list(tfrecord.records(file, files.MOST_BYTES))


def test_calls_that_succeeded_are_logged_when_the_log_ends(tmp_path: Path) -> None:
    counted: list[tuple[str, str]] = []
    with RequestLog(lambda *count: counted.append(count)) as log:
        log.configure([_model(tmp_path / "new" / "log")])
        for record in (_call(), _call(status="INTERNAL"), _call("other")):
            log(record)
    [logged] = _logs(tmp_path / "new")
    assert logged.predict_log.request.inputs["x"].float_val == [1.0]
    assert logged.predict_log.response.outputs["y"].float_val == [2.0]
    metadata = logged.log_metadata
    assert (metadata.model_spec.name, metadata.model_spec.version.value) == ("m", 1)
    assert metadata.sampling_config.sampling_rate == 1.0
    assert counted == [("m", "OK")]


def test_new_config_changes_rate_and_files(tmp_path: Path) -> None:
    with RequestLog() as log:
        for prefix, rate in (("a", 1.0), ("b", 0.0), ("c", 1.0)):
            log.configure([_model(tmp_path / prefix, rate)])
            log(_call())
        log.configure([])
        log(_call())
    assert [len(_logs(tmp_path, prefix)) for prefix in "abc"] == [1, 0, 1]


def test_part_of_the_requests_is_sampled(tmp_path: Path) -> None:
    with RequestLog() as log:
        log.configure([_model(tmp_path / "log", 0.5)])
        for _ in range(200):
            log(_call())
    assert 50 < len(_logs(tmp_path)) < 150  # beyond 7 standard deviations


def test_log_that_cannot_be_written_is_counted_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    counted: list[tuple[str, str]] = []
    with RequestLog(lambda *count: counted.append(count)) as log:
        log.configure([_model(tmp_path / "file" / "log")])
        for _ in range(3):
            log(_call())
    assert counted == [("m", "UNAVAILABLE")] * 3
    assert [line for line in caplog.messages if "Could not log requests to" in line] == [
        caplog.messages[0]
    ]


def test_two_logs_that_cannot_be_written_are_told_once_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with RequestLog() as log:
        models = [replace(_model(tmp_path / "file" / name), name=name) for name in "ab"]
        log.configure(models)
        for _ in range(3):
            for name in "ab":
                log(_call(name))
    assert len(caplog.messages) == 2


def test_end_of_trouble_is_told_when_it_lasts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    folder, now, counted = tmp_path / "folder", [0.0], list[str]()
    with RequestLog(lambda _, status: counted.append(status), lambda: now[0]) as log:
        log.configure([_model(folder / "log")])

        def logged(at: float, status: str) -> None:
            before, now[0] = len(counted), at
            log(_call())
            until(lambda: len(counted) > before)
            assert counted[-1] == status

        folder.touch()
        logged(0, "UNAVAILABLE")
        logged(1, "UNAVAILABLE")
        folder.unlink()
        logged(60, "OK")
        logged(61, "OK")
        shutil.rmtree(folder)
        folder.touch()
        logged(62, "UNAVAILABLE")
    told = [
        record.getMessage().removesuffix(". Requests are lost until this is fixed")
        for record in caplog.records
    ]
    lost = f"Could not log requests to {folder / 'log'}: [Errno 17] File exists: '{folder}'"
    assert told == [lost, f"Requests are logged to {folder / 'log'} again; 2 were lost", lost]


def test_requests_beyond_the_waiting_limit_are_dropped_and_counted(tmp_path: Path) -> None:
    counted: list[tuple[str, str]] = []
    log = RequestLog(lambda *count: counted.append(count))
    log.configure([_model(tmp_path / "log")])
    for _ in range(300):  # nobody writes yet
        log(_call())
    assert counted == [("m", "RESOURCE_EXHAUSTED")] * 45
    large = _call()
    large.body_bytes = 2**30
    with log:
        log(large)
    assert counted.count(("m", "OK")) == len(_logs(tmp_path)) == 255
    assert counted.count(("m", "RESOURCE_EXHAUSTED")) == 46


def test_full_file_is_followed_by_another_and_old_ones_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_RECORDS", 2)
    monkeypatch.setattr(files, "MOST_FILES", 3)
    (tmp_path / "log-of-somebody-else.tfrecord").touch()
    log = LogFiles(str(tmp_path / "log"))
    for number in range(9):
        log.append(b"%d" % number)
    paths = sorted(tmp_path.glob("log-2*"))
    assert [_records(path) for path in paths] == [[b"4", b"5"], [b"6", b"7"], [b"8"]]
    log.close()
    assert (tmp_path / "log-of-somebody-else.tfrecord").exists()


def test_log_of_requests_is_its_owners_alone(tmp_path: Path) -> None:
    log = LogFiles(str(tmp_path / "log"))
    log.append(b"what a client sent")
    log.close()
    [path] = tmp_path.glob("log-*")
    assert path.stat().st_mode & 0o777 == 0o600


def test_file_is_followed_by_another_before_it_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 100)
    log = LogFiles(str(tmp_path / "log"))
    for _ in range(3):
        log.append(bytes(40))
    log.close()
    assert [path.stat().st_size for path in sorted(tmp_path.iterdir())] == [56, 56, 56]


class _OnFullDisk(FileIO):
    """A file on a disk that has room for so many bytes more, `room[0]`."""

    def __init__(self, room: list[int], path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._room = room

    def write(self, data: Any) -> int:
        if len(data) and not self._room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(data[: self._room[0]])
        self._room[0] -= written
        return written


def test_full_disk_takes_nothing_of_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 2)
    room = [10**6]
    log = LogFiles(str(tmp_path / "log"), partial(_OnFullDisk, room))
    log.append(b"first")
    log.close()
    log.append(b"second")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for room[0] in (0, 1, 11, 12, 19):  # the rest of a record finds no room
        with pytest.raises(OSError, match="No space left"):
            log.append(b"lost")
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    room[0] = 10**6
    log.append(b"third")
    assert [_records(path) for path in sorted(tmp_path.iterdir())] == [
        [b"first"],
        [b"second", b"third"],
    ]
    log.close()
    for room[0] in (0, 1):  # a new file
        with pytest.raises(OSError, match="No space left"):
            log.append(b"lost")
    assert len([*tmp_path.iterdir()]) == 2


def test_file_that_may_not_grow_is_followed_by_another(tmp_path: Path) -> None:
    log = LogFiles(str(tmp_path / "log"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, limits[1]))
    try:
        log.append(b"first")
        log.append(b"second")
        with pytest.raises(OSError, match="File too large"):
            log.append(b"lost")
        log.append(b"third")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        log.close()
    assert [_records(path) for path in sorted(tmp_path.iterdir())] == [
        [b"first", b"second"],
        [b"third"],
    ]


@pytest.mark.parametrize("remove", [shutil.rmtree, lambda folder: next(folder.iterdir()).unlink()])
def test_file_that_was_removed_is_followed_by_another(
    tmp_path: Path, remove: Callable[[Path], object]
) -> None:
    log = LogFiles(str(tmp_path / "logs" / "log"))
    log.append(b"gone")
    remove(tmp_path / "logs")
    log.append(b"second")
    assert [_records(path) for path in (tmp_path / "logs").iterdir()] == [[b"second"]]
    log.close()


def test_appended_record_can_be_read_at_once(tmp_path: Path) -> None:
    log = LogFiles(str(tmp_path / "log"))
    log.append(b"first")
    assert [_records(path) for path in tmp_path.iterdir()] == [[b"first"]]
    log.close()
