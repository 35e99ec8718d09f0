"""LiteRT behind a servable: answers, signatures, shapes, bad inputs, threads, memory."""

import gc
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import dedent
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import (
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from lambda_serving.installation import mending
from lambda_serving.servables import saved_model
from lambda_serving.servables.cancellation import Cancellation
from lambda_serving.servables.litert.compiled_folder import mark
from lambda_serving.servables.litert.interpreters import Model
from lambda_serving.servables.litert.load import load_tflite
from lambda_serving.servables.servable import Servable, TensorSpec
from support.answers import ANSWERS
from support.build_tflite import MODELS
from support.tflite_files import (
    custom_operation,
    dividing,
    edited,
    newer_operation,
    newer_schema,
    twice,
    with_metadata,
    with_self,
    without_operations,
    without_signatures,
)

_PREFERRED = saved_model.LiteRT(preferred=True, interpreters=2)
_HALF, _Y = "half_plus_two/123", "StatefulPartitionedCall_4:0"


def _load(folder: Path, litert: saved_model.LiteRT = _PREFERRED) -> Servable:
    return saved_model.load(folder, litert=litert)


def _floats(*values: object) -> Array:
    return np.array(values, np.float32)


@pytest.fixture(scope="module")
def half(tflite_dir: Path) -> bytes:
    """A file that computes `y = x / 2 + 2` for vectors."""
    return (tflite_dir / _HALF / "model.tflite").read_bytes()


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], Path]:
    """Puts a file into a version's folder."""

    def put(content: bytes) -> Path:
        (tmp_path / "model.tflite").write_bytes(content)
        return tmp_path

    return put


@pytest.mark.parametrize(
    ("model", "signature", "inputs", "outputs"),
    [
        answer
        for answer in ANSWERS
        if answer[0].partition("/")[0] in MODELS and "inputs" not in answer[2]  # those are examples
    ],
)
def test_model_answers_what_it_computes(
    tflite_dir: Path,
    model: str,
    signature: str,
    inputs: dict[str, Array],
    outputs: dict[str, object],
) -> None:
    with _load(tflite_dir / model) as servable:
        answer = servable.run(signature, inputs)
    assert {name: array.tolist() for name, array in answer.items()} == outputs


def test_signatures_are_those_of_the_export(tflite_dir: Path) -> None:
    with _load(tflite_dir / "shapes/1") as servable:
        signature = servable.signature("mismatch")
        names = list(servable.signatures)
        problems = list(servable.problems)
    assert names == sorted(names) == list(servable.definitions)
    assert signature.inputs == {"x": TensorSpec(DType.FLOAT, None, "mismatch_x:0")}
    assert list(signature.outputs) == ["a", "b"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert problems == []


def test_file_without_signatures_is_served_as_tensorflow_serving_does(
    half: bytes, put: Callable[[bytes], Path]
) -> None:
    """Source: tflite_session.cc: names of tensors up to a colon, inputs of any shape."""
    with _load(put(edited(half, without_signatures))) as servable:
        outputs = servable.run("", {"serving_default_x": _floats([2], [4])})
        definition = servable.definitions["serving_default"]
    assert {name: array.tolist() for name, array in outputs.items()} == {
        _Y.partition(":")[0]: [[3], [4]]
    }
    assert b"tensorflow/serving/predict" in definition


def test_signature_in_metadata_counts(half: bytes, put: Callable[[bytes], Path]) -> None:
    """Source: the model of testPredictWithSignatureDefOnTfLite."""
    named = with_metadata({"x": "serving_default_x:0"}, {"y": _Y})
    with _load(put(edited(half, without_signatures, named))) as servable:
        outputs = servable.run("serving_default", {"x": _floats(2)})
    assert outputs["y"].tolist() == [3]
    unknown = with_metadata({"x": "z:0"}, {"y": _Y})
    with pytest.raises(FailedPrecondition, match="input x references an unknown tensor"):
        _load(put(edited(half, without_signatures, unknown)))


def test_answers_follow_shapes_that_come_and_go(tflite_dir: Path) -> None:
    with _load(tflite_dir / "dense/1") as servable:
        weights = servable.run("", {"x": np.eye(4, dtype=np.float32)})
        for rows in (1, 3, 0, 5, 1):
            x = np.ones((rows, 4), np.float32)
            (output,) = servable.run("", {"x": x}).values()
            (expected,) = (x @ each for each in weights.values())
            assert output.shape == (rows, *expected.shape[1:])
            if "bias" not in weights:
                assert output.dtype == np.float32


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"x": np.array([1.0])}, r"Expects arg\[0\] to be float but double is provided"),
        ({"x": np.array(1, np.float32)}, r"'x' has the shape \[\], which does not fit \[any\]"),
        ({"x": np.ones((2, 3), np.float32)}, r"shape \[2, 3\], which does not fit \[any\]"),
        ({"x": np.array(["a"])}, "to be float but string is provided"),
        ({"y": _floats(1)}, "Sent extra: {y}. Missing but required: {x}"),
        ({}, "Missing but required: {x}"),
    ],
)
def test_input_that_does_not_fit_is_refused_and_others_go_on(
    tflite_dir: Path, inputs: dict[str, Array], told: str
) -> None:
    with _load(tflite_dir / _HALF) as servable:
        with pytest.raises(InvalidArgument, match=told):
            servable.run("", inputs)
        assert servable.run("", {"x": _floats(2)})["y"].tolist() == [3]


@pytest.mark.parametrize("dimensions", [7, 12, 40])
def test_input_of_any_rank_has_few_dimensions(tflite_dir: Path, dimensions: int) -> None:
    refused = pytest.raises(InvalidArgument, match="at most 6 dimensions")
    with _load(tflite_dir / "identity_float32/1") as servable, refused:
        servable.run("", {"x": np.ones((1,) * dimensions, np.float32)})


@given(st.lists(st.binary(max_size=9), max_size=5), st.binary(max_size=9))
def test_strings_come_back_whole(
    strings_model: Servable, strings: list[bytes], single: bytes
) -> None:
    """A string without dimensions, too: LiteRT alone would answer an address of memory."""
    several: Array = np.empty(len(strings), object)
    several[:] = strings
    (answer,) = strings_model.run("", {"x": several}).values()
    assert answer.tolist() == strings
    alone: Array = np.empty((), object)
    alone[()] = single
    (answer,) = strings_model.run("", {"x": alone}).values()
    assert answer.shape == ()
    assert answer.item() == single


@pytest.fixture(scope="module")
def strings_model(tflite_dir: Path) -> Any:
    with _load(tflite_dir / "identity_string/1") as servable:
        yield servable


@pytest.mark.parametrize(
    ("edit", "error", "told"),
    [
        (newer_schema, FailedPrecondition, "version 4 of the format, and LiteRT reads version 3"),
        (newer_operation, FailedPrecondition, "Didn't find op for builtin opcode 'MUL' version"),
        (
            custom_operation("Mystery"),
            FailedPrecondition,
            "needs the operation Mystery, which LiteRT does not have",
        ),
        (
            custom_operation("FlexSubstr"),
            FailedPrecondition,
            "needs the operation FlexSubstr, which",
        ),
        (with_self, FailedPrecondition, "has an input called 'self', which LiteRT does not take"),
        (twice, FailedPrecondition, "names the signature 'serving_default' twice"),
        (dividing(-1), FailedPrecondition, "FLOOR_DIV divides integers"),
        (dividing(None), FailedPrecondition, "FLOOR_DIV divides integers"),
        (without_operations, DataLoss, r"ended the process that tried it \(signal 11\)"),
    ],
)
def test_file_that_cannot_be_served_is_refused(
    half: bytes, put: Callable[[bytes], Path], edit: Callable[[Any], object], error: Any, told: str
) -> None:
    with pytest.raises(error, match=told) as raised:
        _load(put(edited(half, edit)))
    assert str(raised.value).startswith("Could not load model.tflite in /")


def test_division_by_a_constant_is_served(half: bytes, put: Callable[[bytes], Path]) -> None:
    with _load(put(edited(half, dividing(3)))) as servable:
        assert servable.run("", {"x": np.array([-7, 9], np.int32)})["y"].tolist() == [-3, 3]


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs", b"\x1c\0\0\0TFL3", b"TFL3"])
def test_other_file_is_refused(put: Callable[[bytes], Path], content: bytes) -> None:
    with pytest.raises(DataLoss, match=r"no LiteRT model|damaged"):
        _load(put(content))


def test_saved_model_is_served_unless_the_other_is_preferred_or_compiled(
    models_dir: Path, half: bytes, put: Callable[[bytes], Path]
) -> None:
    folder = put(half)
    with pytest.raises(NotFound, match=r"Could not find SavedModel.*--prefer_tflite_model"):
        _load(folder, saved_model.LiteRT())
    mark(folder, "2.3.0")
    with _load(folder, saved_model.LiteRT()) as servable:
        assert servable.run("", {"x": _floats(2)})["y"].tolist() == [3]
    shutil.rmtree(folder / "assets.extra")
    (folder / "saved_model.pb").symlink_to(models_dir / "two_versions/2/saved_model.pb")
    (folder / "variables").symlink_to(models_dir / "two_versions/2/variables")
    inputs = {"x": _floats(2)}
    with _load(folder) as servable:
        assert servable.run("", inputs)["y"].tolist() == [3]
    with _load(folder, saved_model.LiteRT()) as servable:
        assert servable.run("", inputs)["y"].tolist() == [4]


def test_errors_do_not_grow(tflite_dir: Path) -> None:
    """LiteRT repeats in each error what it said before."""
    x = np.ones((1, 4), np.float32)
    with _load(tflite_dir / "gather/1") as servable:
        told = set()
        for _ in range(200):
            with pytest.raises(InvalidArgument) as raised:
                servable.run("", {"x": x, "i": np.array([9], np.int32)})
            told.add(str(raised.value))
        answer = servable.run("", {"x": x, "i": np.array([0], np.int32)})
    reason = "gather index out of bounds. Node number 0 (GATHER) failed to invoke"
    assert told == {f"LiteRT could not run the model: {reason}"}
    assert answer["y"].tolist() == [[1, 1, 1, 1]]


def test_runs_in_many_threads_do_not_mix(tflite_dir: Path) -> None:
    with _load(tflite_dir / _HALF) as servable, ThreadPoolExecutor(8) as pool:

        def run(number: int) -> list[float]:
            x = np.full(number % 5 + 1, number, np.float32)
            found: list[float] = servable.run("", {"x": x}, timeout_ms=60_000)["y"].tolist()
            return found

        answers = list(pool.map(run, range(400)))
    assert answers == [[number / 2 + 2] * (number % 5 + 1) for number in range(400)]


def test_run_waits_for_an_interpreter_as_long_as_it_may(tflite_dir: Path) -> None:
    one = saved_model.LiteRT(preferred=True, interpreters=1)
    with _load(tflite_dir / "while_loop/1", one) as servable:

        def run(count: int, timeout_ms: int) -> dict[str, Array]:
            return servable.run("", {"x": np.full(count, 2**60)}, timeout_ms=timeout_ms)

        thread = threading.Thread(target=run, args=(2_000_000, 0))
        thread.start()
        late = set[str]()
        while thread.is_alive():
            try:
                run(1, 1)
            except DeadlineExceeded as error:
                late.add(str(error).partition(" ")[0])
        assert "Timed" in late
        with pytest.raises(DeadlineExceeded, match="Run took"):
            run(2_000_000, 1)
        cancelled = Cancellation()
        cancelled.cancel()
        with pytest.raises(Cancelled):
            cancelled.run(lambda: run(1, 0))


def test_run_in_flight_ends_before_the_model_does(tflite_dir: Path) -> None:
    one = saved_model.LiteRT(preferred=True, interpreters=1)
    servable = _load(tflite_dir / "while_loop/1", one)
    with ThreadPoolExecutor(2) as pool:
        x = np.full(1_000_000, 2**60)
        running = pool.submit(servable.run, "", {"x": x})
        while not running.done():
            try:
                servable.run("", {"x": x[:1]}, timeout_ms=1)
            except DeadlineExceeded as error:
                if str(error).startswith("Timed out"):  # for the one interpreter, which it has
                    break
        closing = pool.submit(servable.close)
        assert (running.result()["y"] == x).all()
        closing.result()


def _models() -> set[Model]:
    return {each for each in gc.get_objects() if isinstance(each, Model)}


@pytest.mark.parametrize("trusted", [False, True])
def test_unloaded_model_is_refused_and_its_memory_is_free(
    tflite_dir: Path, *, trusted: bool
) -> None:
    left, others = [], _models()
    servable = load_tflite(
        tflite_dir / _HALF, 1, 1, lambda: left.append(list(models)), trusted=trusted
    )
    models = WeakSet(_models() - others)
    assert len(models) == 1
    assert servable.run("", {"x": _floats(2)})["y"].tolist() == [3]
    servable.close()
    assert left == [[]]  # nothing was left when it was said to be free
    with pytest.raises(FailedPrecondition, match=r"Session has been closed\."):
        servable.run("", {"x": _floats(2)})


_SMALL = """
    import sys
    from pathlib import Path

    import numpy as np
    from lambda_serving.servables import saved_model

    litert = saved_model.LiteRT(preferred=True)
    with saved_model.load(sys.argv[1], litert=litert) as servable:
        print(servable.run("", {"x": np.float32([2])})["y"].tolist())
        maps = Path("/proc/self/maps").read_text()
        loaded = set(sys.modules)
    heavy = ("tensorflow", "google.protobuf", "tqdm", "boto3", "ctypes.util")
    heavy += ("lambda_serving.servables.tensorflow_c",)
    print([name for name in heavy if name in loaded], "libtensorflow" in maps)
"""


_WITHOUT = """
    import sys

    sys.modules["ai_edge_litert"] = None  # as if it were not installed
    from lambda_serving.servables import saved_model

    saved_model.load(sys.argv[1], litert=saved_model.LiteRT(preferred=True))
"""


def test_missing_litert_is_told(tflite_dir: Path) -> None:
    command = (sys.executable, "-c", dedent(_WITHOUT), str(tflite_dir / _HALF))
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    *_, last = ended.stderr.splitlines()
    assert last.endswith(f" Install it again: {mending('ai_edge_litert')}")
    assert "FailedPrecondition: Could not load model.tflite in " in last


def test_nothing_of_tensorflow_is_loaded(tflite_dir: Path) -> None:
    command = (sys.executable, "-c", dedent(_SMALL), str(tflite_dir / _HALF))
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["[3.0]", "[] False"]
