"""npz files, in chunks."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lambda_serving.batch_job.chunks import Chunk, Part
from lambda_serving.batch_job.npz_reader import arrays
from lambda_serving.batch_job.npz_writer import NpzWriter
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import DataLoss, InvalidArgument
from lambda_serving.servables.servable import Signature, TensorSpec


def _signature(**inputs: DType) -> Signature:
    specs = {name: TensorSpec(dtype, None, name) for name, dtype in sorted(inputs.items())}
    return Signature("s", specs, {}, "", b"", {})


def _file(save: Callable[..., None] = np.savez, **columns: Any) -> io.BytesIO:
    file = io.BytesIO()
    save(file, **columns)
    file.seek(0)
    return file


def _read(file: io.BytesIO, size: int = 2, **inputs: DType) -> list[Chunk]:
    return list(arrays(file, _signature(**inputs), size))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_rows_come_in_their_order(save: Callable[..., None]) -> None:
    x, y = np.arange(10, dtype=np.float32).reshape(5, 2), np.arange(5)
    made = _read(_file(save, x=x, y=y, unused=[1]), x=DType.FLOAT, y=DType.INT64)
    assert [(chunk.first, chunk.size) for chunk in made] == [(1, 2), (3, 2), (5, 1)]
    assert (np.concatenate([chunk.parts[0].arrays["x"] for chunk in made]) == x).all()
    assert (np.concatenate([chunk.parts[0].arrays["y"] for chunk in made]) == y).all()


@pytest.mark.parametrize(
    ("stored", "dtype", "taken"),
    [
        (np.array([1.5]), DType.FLOAT, np.array([1.5], np.float32)),
        (np.array([1.5], np.float16), DType.DOUBLE, np.array([1.5])),
        (np.array([7], np.uint8), DType.INT32, np.array([7], np.int32)),
        (np.array([7], ">i4"), DType.INT32, np.array([7], np.int32)),
        (np.array(["\xe9"]), DType.STRING, np.array([b"\xc3\xa9"], object)),
        (np.array([b"\xff"]), DType.STRING, np.array([b"\xff"], object)),
        (np.zeros((0, 3), np.float32), DType.FLOAT, None),
    ],
)
def test_values_are_taken_as_the_signature_has_them(
    stored: Array, dtype: DType, taken: Array | None
) -> None:
    made = [chunk.parts[0].arrays["x"] for chunk in _read(_file(x=stored), x=dtype)]
    assert [(each.dtype, each.tolist()) for each in made] == [
        (each.dtype, each.tolist()) for each in (taken,) if each is not None
    ]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"x": np.array([2**40])}, "The array x holds int64, and the signature takes int32"),
        ({"x": np.array([1.0])}, "The array x holds float64, and the signature takes int32"),
        ({"x": np.array(["a"])}, "The array x holds <U1, and the signature takes int32"),
        ({"x": np.array([None])}, "The array x holds object, and the signature takes int32"),
        ({"x": np.int32(1)}, "The array x has no dimension of rows"),
        ({"y": np.array([1], np.int32)}, "no array for the input x. The file has: y. Name its"),
        ({"x": np.asfortranarray(np.ones((2, 2), np.int32))}, "The array x is in Fortran's order"),
    ],
)
def test_arrays_that_the_signature_cannot_take_are_refused(
    columns: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidArgument, match=reason):
        _read(_file(**columns), x=DType.INT32)


def test_arrays_of_differing_lengths_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="the same number of rows, and have: x 2, y 3"):
        _read(_file(x=np.ones(2), y=np.ones(3)), x=DType.DOUBLE, y=DType.DOUBLE)


def test_truncated_file_is_not_an_npz_file() -> None:
    whole = _file(x=np.ones(100)).getvalue()
    with pytest.raises(DataLoss, match="not an npz file"):
        _read(io.BytesIO(whole[:-30]), x=DType.DOUBLE)


def _written(path: Path, *chunks: Chunk) -> dict[str, Array]:
    with NpzWriter(path) as columns:
        for chunk in chunks:
            columns.add(chunk)
        columns.finish()
    with np.load(path) as made:
        return dict(made)


def test_bad_rows_are_blank_wherever_they_are(tmp_path: Path) -> None:
    strings: Array = np.array([b"a", b"bcd"], object)
    good: dict[str, Array] = {
        "n": np.array([1, 2]),
        "s": strings,
        "x": np.array([[1], [2]], np.float32),
    }
    bad = Chunk(1, 2, [], {0: "bad", 1: "bad"})
    mixed = Chunk(3, 3, [Part([2, 0], good)], {1: "bad"})
    made = _written(tmp_path / "a.npz", bad, mixed)
    assert made["n"].tolist() == [0, 0, 2, 0, 1]
    assert made["s"].tolist() == [b"", b"", b"bcd", b"", b"a"]
    expected = np.array([[np.nan], [np.nan], [2], [np.nan], [1]])
    assert np.array_equal(made["x"], expected, equal_nan=True)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    chunk = Chunk(1, 1, [Part([0], {"x": np.ones(1)})], {})
    for name in ("a", "b"):
        _written(tmp_path / name, chunk)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_bfloat16_is_written_as_float32(tmp_path: Path) -> None:
    array = np.ones(2, DType.BFLOAT16.numpy)
    made = _written(tmp_path / "a.npz", Chunk(1, 2, [Part([0, 1], {"x": array})], {}))
    assert (made["x"].dtype, made["x"].tolist()) == (np.dtype("f4"), [1, 1])


def test_rows_of_two_shapes_are_refused(tmp_path: Path) -> None:
    parts = [Part([0], {"x": np.ones((1, 2))}), Part([1], {"x": np.ones((1, 3))})]
    with pytest.raises(InvalidArgument, match="which no npz file can hold. Give the rows as JSON"):
        _written(tmp_path / "a.npz", Chunk(1, 2, parts, {}))


def test_large_rows_come_fewer_at_once() -> None:
    file = _file(x=np.zeros((5, 2), np.float32))
    made = list(arrays(file, _signature(x=DType.FLOAT), 4, most=16))
    assert [(chunk.first, chunk.size) for chunk in made] == [(1, 2), (3, 2), (5, 1)]
