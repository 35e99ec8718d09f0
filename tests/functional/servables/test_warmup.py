"""Warm-up files of every kind, right and wrong, over `half_plus_two` of both runtimes."""

import logging
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

from lambda_serving import protos
from lambda_serving.dtypes import DType
from lambda_serving.errors import DataLoss, InvalidArgument, ServingError, Unimplemented
from lambda_serving.servables import saved_model
from lambda_serving.servables.servable import Servable, Signature, TensorSpec
from lambda_serving.servables.warmup import MAX_RECORDS, WARMUP_FILE, WarmUp, warm_up
from support.functions import Computed, servable_of


@pytest.fixture(scope="module")
def servable(models_dir: Path) -> Iterator[Servable]:
    with saved_model.load(models_dir / "half_plus_two" / "123") as servable:
        yield servable


@pytest.fixture(scope="module")
def of_runtime(runtime_dir: Path) -> Iterator[Servable]:
    """The model by each runtime in turn; LiteRT has its signature for predict alone."""
    with saved_model.load(runtime_dir / "half_plus_two" / "123") as servable:
        yield servable


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    """Lays a warm-up file of these bytes into an export; the file."""

    def write(content: bytes) -> Path:
        file = tmp_path / WARMUP_FILE
        file.parent.mkdir()
        file.write_bytes(content)
        return file

    return write


def _record(payload: bytes) -> bytes:
    """One record of a TFRecord file: length, its checksum, payload, its checksum."""
    return _length(len(payload)) + payload + _masked_crc(payload)


def _length(length: int) -> bytes:
    packed = struct.pack("<Q", length)
    return packed + _masked_crc(packed)


def _masked_crc(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _example(**features: float) -> Any:
    example = protos.message("tensorflow.Example")()
    for name, value in features.items():
        example.features.feature[name].float_list.value.append(value)
    return example


def _log() -> Any:
    return protos.message("tensorflow.serving.PredictionLog")()


def _predict(signature_name: str = "", *, alias: str = "x") -> bytes:
    log = _log()
    request = log.predict_log.request
    request.model_spec.signature_name = signature_name
    tensor = request.inputs[alias]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=2)
    tensor.float_val.append(1.0)
    return _record(log.SerializeToString())


def _classify(signature_name: str) -> bytes:
    log = _log()
    request = log.classify_log.request
    request.model_spec.signature_name = signature_name
    request.input.example_list.examples.append(_example(x=1.0))
    return _record(log.SerializeToString())


def _regress_with_context(context: Any) -> bytes:
    log = _log()
    request = log.regress_log.request
    request.model_spec.signature_name = "regress_x_to_y"
    both = request.input.example_list_with_context
    both.context.CopyFrom(context)
    both.examples.append(_example())
    return _record(log.SerializeToString())


def _multi(*tasks: tuple[str, str]) -> bytes:
    log = _log()
    request = log.multi_inference_log.request
    for method, signature_name in tasks:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.signature_name = signature_name
    request.input.example_list.examples.append(_example(x=1.0))
    return _record(log.SerializeToString())


def _session_run() -> bytes:
    log = _log()
    log.session_run_log.SetInParent()
    return _record(log.SerializeToString())


@pytest.mark.parametrize(
    ("content", "records"),
    [
        (_predict("serving_default") + _classify("classify_x_to_y"), 2),
        (_regress_with_context(_example(x=1.0)), 1),
        (_multi(("classify", "classify_x_to_y"), ("regress", "regress_x_to_y2")), 1),
    ],
    ids=["two", "context", "multi-inference"],
)
def test_good_records_of_examples_are_counted(
    servable: Servable, write: Callable[[bytes], Path], content: bytes, records: int
) -> None:
    export = write(content).parents[1]
    assert warm_up(servable, export) == records


@pytest.mark.parametrize(
    ("content", "records"),
    [
        (b"", 0),
        (_predict(), 1),
        (_predict("serving_default") * 2, 2),
        (_record(b""), 1),
        (_predict() * MAX_RECORDS, MAX_RECORDS),
    ],
    ids=["empty file", "predict", "two", "empty log", "1000"],
)
def test_good_records_of_predict_are_counted(
    of_runtime: Servable, write: Callable[[bytes], Path], content: bytes, records: int
) -> None:
    export = write(content).parents[1]
    assert warm_up(of_runtime, export) == records


def test_compiled_folder_is_warmed_up_as_its_export(
    runtime_dir: Path, tmp_path: Path, write: Callable[[bytes], Path]
) -> None:
    export = tmp_path / "1"
    shutil.copytree(runtime_dir / "half_plus_two/123", export)
    shutil.copytree(write(_predict() * 2).parent, export / "assets.extra", dirs_exist_ok=True)
    told: list[WarmUp] = []
    with saved_model.load(export, warm_up_iterations=2, warmed_up=told.append):
        assert [(each.path, each.records) for each in told] == [(export, 2)]
    (export / WARMUP_FILE).write_bytes(_predict() + _predict(alias="z"))
    with pytest.raises(InvalidArgument, match=r"^Could not load .* Warm-up record 1 of .* failed"):
        saved_model.load(export)


def test_warm_up_by_tensorflows_own_writer_is_read(models_dir: Path) -> None:
    export = models_dir / "warmed" / "1"
    with saved_model.load(export, warm_up_iterations=2) as servable:
        assert warm_up(servable, export) == 3


def test_log_says_when_warm_up_begins_and_ends(
    servable: Servable,
    write: Callable[[bytes], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    warm_up(servable, tmp_path / "none")
    file = write(_predict() * 2)
    warm_up(servable, file.parents[1], 3)
    began = f"Starting to read warmup data for model at {file} with model-warmup-options"
    ended = f"Finished reading warmup data for model at {file}. Number of warmup records read: 2. "
    nothing, first, last = caplog.messages
    assert nothing == f"No warmup data file found at {tmp_path}/none/{WARMUP_FILE}"
    assert first == f"{began} num_request_iterations: 3"
    assert last.startswith(f"{ended}Elapsed time (microseconds): ")


def test_no_file_is_no_warm_up(servable: Servable, tmp_path: Path) -> None:
    assert warm_up(servable, tmp_path) == 0


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (
            _predict("nope"),
            InvalidArgument,
            'Serving signature name: "nope" not found in signature def',
        ),
        (
            _predict(alias="z"),
            InvalidArgument,
            (
                "input size does not match signature: 1!=1 len({z}) != len({x})."
                " Sent extra: {z}. Missing but required: {x}."
            ),
        ),
        (_classify("serving_default"), InvalidArgument, "No classification inputs found in"),
        (_regress_with_context(_example()), InvalidArgument, ""),  # TensorFlow's: x is required
        (
            _multi(("classify", "classify_x_to_y"), ("regress", "nope")),
            InvalidArgument,
            "No signature was found with the name: nope",
        ),
        (_session_run(), Unimplemented, "Unsupported log_type for warmup: 5 (session_run_log)"),
    ],
    ids=["signature", "input", "classify", "regress", "multi-inference", "session run"],
)
def test_record_that_fails_is_named_by_its_number(
    servable: Servable,
    write: Callable[[bytes], Path],
    bad: bytes,
    error: type[ServingError],
    message: str,
) -> None:
    file = write(_predict() * 2 + bad + _predict())
    with pytest.raises(ServingError) as raised:
        warm_up(servable, file.parents[1])
    assert type(raised.value) is error
    assert str(raised.value).startswith(f"Warm-up record 2 of {file} failed: {message}")


def test_each_record_runs_as_often_as_asked_with_defaults_for_inputs_left_out(
    write: Callable[[bytes], Path],
) -> None:
    spec = TensorSpec(DType.FLOAT, None, "t:0")
    signature = Signature(
        "serving_default",
        inputs={"extra": spec, "x": spec},
        outputs={"y": spec},
        method_name="",
        definition=b"",
        defaults={"extra": np.array(0.5), "x": np.array(9.0)},
    )
    function = Computed(lambda *_: [np.zeros(())])
    servable = servable_of(signature, function=function)
    assert warm_up(servable, write(_predict() * 2).parents[1], iterations=3) == 2
    inputs = [([array.tolist() for array in arrays], ms) for arrays, ms in function.calls]
    assert inputs == [([0.5, [1.0, 1.0]], 0)] * 6


def test_more_than_1000_records_are_refused(
    servable: Servable, write: Callable[[bytes], Path]
) -> None:
    file = write(_predict() * (MAX_RECORDS + 1))
    with pytest.raises(InvalidArgument) as raised:
        warm_up(servable, file.parents[1])
    assert str(raised.value) == f"Number of warmup records exceeds the maximum (1000) at {file}"


def test_record_that_is_no_log_is_refused(
    servable: Servable, write: Callable[[bytes], Path]
) -> None:
    file = write(_record(b"\xff\xff"))
    with pytest.raises(InvalidArgument) as raised:
        warm_up(servable, file.parents[1])
    assert str(raised.value).startswith(
        r"Failed to parse warmup record: \xff\xff from " + f"{file}. "
    )


_GOOD = _predict()


@pytest.mark.parametrize(
    "content",
    [
        b"these are no records",
        _GOOD[:5],
        _GOOD[:-1],
        _GOOD + _GOOD[:12],
        _GOOD[:-1] + bytes([_GOOD[-1] ^ 1]),
        _GOOD[:20] + bytes([_GOOD[20] ^ 1]) + _GOOD[21:],
        bytes([_GOOD[0] ^ 1]) + _GOOD[1:],
        _length(2**63) + _GOOD,
    ],
    ids=["text", "half a header", "no end", "no payload", "checksum", "payload", "length", "huge"],
)
def test_file_that_is_no_tfrecord_is_refused(
    servable: Servable, write: Callable[[bytes], Path], content: bytes
) -> None:
    file = write(content)
    with pytest.raises(DataLoss) as raised:
        warm_up(servable, file.parents[1])
    assert str(raised.value) == (
        f"Failed to read warmup records at {file}."
        " Please verify your warmup data is in TFRecord format."
    )
