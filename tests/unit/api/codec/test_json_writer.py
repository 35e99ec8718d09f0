"""Predict, classify and regress responses."""

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lambda_serving.api.codec import (
    Format,
    decode,
    encode,
    encode_classifications,
    encode_regressions,
    json_writer,
    parse,
)
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import InvalidArgument
from lambda_serving.servables.servable import Signature, TensorSpec


def _strings(*strings: bytes) -> Array:
    return np.array(strings, object)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array([2.5, 3.0], "f4"), b"[2.5,3.0]"),
        (np.array([[1.0, 2.0], [3.0, 4.0]], "f4"), b"[[1.0,2.0],[3.0,4.0]]"),
        (np.array([[1.0, 3.0], [2.0, 4.0]], "f4").T, b"[[1.0,2.0],[3.0,4.0]]"),
        (np.array([0.1, 1 / 3, 16777217, -0.0], "f4"), b"[0.1,0.33333334,16777216.0,-0.0]"),
        (np.array([0.1, 1 / 3, 16777217, -0.0]), b"[0.1,0.3333333333333333,16777217.0,-0.0]"),
        (
            np.array([math.nan, math.inf, -math.inf, 3.0], "f4"),
            b"[NaN,Infinity,-Infinity,3.0]",
        ),
        (np.array([[1.0, math.nan], [math.inf, 2.0]]), b"[[1.0,NaN],[Infinity,2.0]]"),
        (np.array([-(2**63), 2**63 - 1]), b"[-9223372036854775808,9223372036854775807]"),
        (np.array([2**64 - 1], "u8"), b"[18446744073709551615]"),
        (np.array([-128, 127], "i1"), b"[-128,127]"),
        (np.array([255], "u1"), b"[255]"),
        (np.array([-32768], "i2"), b"[-32768]"),
        (np.array([65535], "u2"), b"[65535]"),
        (np.array([-(2**31)], "i4"), b"[-2147483648]"),
        (np.array([2**32 - 1], "u4"), b"[4294967295]"),
        (np.array([True, False]), b"[true,false]"),
        (np.array([0.1, 1 / 3, 65504, 6e-8, -0.0], "f2"), b"[0.1,0.3333,65500.0,6e-8,-0.0]"),
        (np.array([math.inf, math.nan, -math.inf], "f2"), b"[Infinity,NaN,-Infinity]"),
        (np.array([0.1, 1 / 3, 3e38], DType.BFLOAT16.numpy), b"[0.1,0.334,3e+38]"),
        (_strings(b"a", b"\xff\xc3"), b'["a","\xff\xc3"]'),
        (
            _strings(b'"\\/\b\f\n\r\t', "\0\x1f\x7fé".encode()),
            b'["\\"\\\\/\\b\\f\\n\\r\\t","\\u0000\\u001F\x7f\xc3\xa9"]',
        ),
        (np.empty((0,), "f4"), b"[]"),
        (np.empty((2, 0, 3), "f4"), b"[[],[]]"),
        (np.empty((2, 0), object), b"[[],[]]"),
        (np.empty((0, 2), DType.BFLOAT16.numpy), b"[]"),
    ],
)
def test_one_output_stands_without_its_name(array: Array, text: bytes) -> None:
    assert encode({"y": array}, Format.ROW) == b'{"predictions":' + text + b"}"
    assert encode({"y": array}, Format.COLUMNAR) == b'{"outputs":' + text + b"}"


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array(3.5, "f4"), b"3.5"),
        (np.array(math.nan), b"NaN"),
        (np.ones((), bool), b"true"),
        (np.array(0.1, "f2"), b"0.1"),
        (np.array(0.1, DType.BFLOAT16.numpy), b"0.1"),
        (np.array(b"a\0", object), b'"a\\u0000"'),
    ],
)
def test_a_scalar_output_stands_bare_in_columnar_format(array: Array, text: bytes) -> None:
    assert encode({"y": array}, Format.COLUMNAR) == b'{"outputs":' + text + b"}"


def test_strings_of_outputs_called_bytes_are_base64() -> None:
    strings = np.array([[b"hello", b"\xff\xd8\xff"], [b"", b"tf"]], object)
    assert json.loads(encode({"image_bytes": strings}, Format.COLUMNAR)) == {
        "outputs": [[{"b64": "aGVsbG8="}, {"b64": "/9j/"}], [{"b64": ""}, {"b64": "dGY="}]]
    }


def test_numbers_of_outputs_called_bytes_are_numbers() -> None:
    assert encode({"n_bytes": np.array([1])}, Format.ROW) == b'{"predictions":[1]}'


def test_rows_of_several_outputs_are_objects() -> None:
    outputs = {
        "float_out": np.array([[1.0], [math.nan]], "f4"),
        "half_out": np.array([0.1, 1.0], "f2"),
        "int_out": np.array([[[1, 2]], [[3, 4]]]),
        "scalar": np.array([7, 8], "u1"),
        "str_out": _strings(b"foo\0", b"\xff"),
        "str_out_bytes": np.array([[b"a"], [b"b"]], object),
    }
    assert encode(outputs, Format.ROW) == (
        b'{"predictions":['
        b'{"float_out":[1.0],"half_out":0.1,"int_out":[[1,2]],"scalar":7,'
        b'"str_out":"foo\\u0000","str_out_bytes":[{"b64":"YQ=="}]},'
        b'{"float_out":[NaN],"half_out":1.0,"int_out":[[3,4]],"scalar":8,'
        b'"str_out":"\xff","str_out_bytes":[{"b64":"Yg=="}]}]}'
    )


def test_columns_of_several_outputs_are_one_object() -> None:
    outputs = {"a": np.array(1.5, "f4"), "b": np.array([[1, 2]]), "c": _strings(b"x")}
    assert encode(outputs, Format.COLUMNAR) == b'{"outputs":{"a":1.5,"b":[[1,2]],"c":["x"]}}'


def test_no_rows_of_several_outputs_are_an_empty_list() -> None:
    outputs = {"a": np.empty((0,), "f4"), "b": np.empty((0, 2), object)}
    assert encode(outputs, Format.ROW) == b'{"predictions":[]}'


@pytest.mark.parametrize(
    ("outputs", "error"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"total": np.array(3.0)}, "Tensor name: total has no shape information "),
        (
            {"a": np.array([1, 2]), "b": np.array([1, 2, 3, 4])},
            "Tensor name: b has inconsistent batch size: 4 expecting: 2",
        ),
        (
            {"y": np.array([1j], "c8")},
            "Failed to write JSON value for tensor type: complex64",
        ),
        (
            {"x": np.array([1]), "y": np.array([1j])},
            "Failed to write JSON value for tensor type: complex128",
        ),
    ],
)
def test_rows_refuse(outputs: Mapping[str, Array], error: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        encode(outputs, Format.ROW)
    assert str(refusal.value) == error


_BITS = {
    dtype: f"u{dtype.numpy.itemsize}"
    for dtype in (
        DType.FLOAT,
        DType.DOUBLE,
        DType.HALF,
        DType.BFLOAT16,
        DType.INT8,
        DType.INT16,
        DType.INT32,
        DType.INT64,
        DType.UINT8,
        DType.UINT16,
        DType.UINT32,
        DType.UINT64,
    )
}


@st.composite
def _tensors(draw: st.DrawFn) -> tuple[DType, Array]:
    """Arrays of every dtype that JSON has, by their bits."""
    dtype = draw(st.sampled_from([DType.BOOL, DType.STRING, *_BITS]))
    shape = draw(arrays.array_shapes(min_dims=0, max_dims=3, max_side=4))
    if dtype is DType.STRING:
        elements: st.SearchStrategy[Any] = st.binary(max_size=5)
        return dtype, draw(arrays.arrays(object, shape, elements=elements))
    if dtype is DType.BOOL:
        return dtype, draw(arrays.arrays(bool, shape))
    return dtype, draw(arrays.arrays(_BITS[dtype], shape)).view(dtype.numpy)


@given(tensor=_tensors())
def test_encoded_array_is_decoded_to_the_same_array(tensor: tuple[DType, Array]) -> None:
    dtype, array = tensor
    text = encode({"y": array}, Format.COLUMNAR)
    signature = Signature("s", {"x": TensorSpec(dtype, None, "x:0")}, {}, "", b"", {})
    request = b'{"inputs":' + text.removeprefix(b'{"outputs":')
    _, decoded = decode(parse(request), signature)
    assert (decoded["x"].dtype, decoded["x"].shape) == (array.dtype, array.shape)
    assert repr(decoded["x"].tolist()) == repr(array.tolist())


_LARGE: list[tuple[tuple[int, ...], str]] = [
    ((10, 7), "f4"),
    ((1, 1, 50), "f8"),
    ((2, 3, 5), "i8"),
    ((3, 40), "f2"),
    ((60,), "O"),
    ((2, 30), "O"),
    ((3, 0, 4), "f4"),
]


@pytest.mark.parametrize("as_format", list(Format))
@pytest.mark.parametrize("piece", [1, 4, 16])
def test_large_outputs_are_written_in_pieces_to_the_same_text(
    piece: int, as_format: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = [
        np.array([b"%d" % number for number in range(math.prod(shape))], object).reshape(shape)
        if dtype == "O"
        else np.arange(math.prod(shape)).astype(dtype).reshape(shape)
        for shape, dtype in _LARGE
    ]
    several = [{"y": array, "z_bytes": array, "a": array[:, None]} for array in outputs]
    several.append({"y": outputs[0], "z": np.full((10, 2), math.nan)})
    cases = [{"y": array} for array in outputs] + several
    texts = [encode(case, as_format) for case in cases]
    monkeypatch.setattr(json_writer, "_PIECE", piece)
    assert [encode(case, as_format) for case in cases] == texts


def test_many_results_are_written_in_pieces_to_the_same_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classes = np.array([[b"a", b"b"]] * 20, object)
    scores = np.linspace(0, 1, 40, dtype=np.float32).reshape(20, 2)
    texts = [encode_classifications(classes, scores), encode_regressions(scores[:, 0])]
    monkeypatch.setattr(json_writer, "_PIECE", 3)
    assert [encode_classifications(classes, scores), encode_regressions(scores[:, 0])] == texts


@given(tensor=_tensors())
def test_python_reads_what_is_encoded(tensor: tuple[DType, Array]) -> None:
    dtype, array = tensor
    text = encode({"y_bytes": array}, Format.COLUMNAR)
    outputs = json.loads(text)["outputs"]
    if dtype is DType.STRING:
        flat = np.array(outputs, object).reshape(-1) if array.ndim else [outputs]
        assert [base64.b64decode(each["b64"]) for each in flat] == array.reshape(-1).tolist()
    else:
        read = np.array(outputs, array.dtype).reshape(array.shape)
        assert repr(read.tolist()) == repr(array.tolist())


def test_every_half_and_bfloat16_has_few_digits_and_keeps_its_value() -> None:
    for dtype, most in ((DType.HALF, 5), (DType.BFLOAT16, 4)):
        every = np.arange(2**16, dtype=np.uint16).view(dtype.numpy)
        numbers = json.loads(encode({"y": every}, Format.ROW))["predictions"]
        with np.errstate(over="ignore"):
            read = np.array(numbers).astype(dtype.numpy)
        assert repr(read.tolist()) == repr(every.tolist())
        finite = [number for number in numbers if math.isfinite(number)]
        assert all(float(f"{number:.{most}g}") == number for number in finite)


def test_classifications_are_pairs_of_label_and_score() -> None:
    classes = np.array([[b"car", b"bike"], [b"\xff", b""]], object)
    scores = np.array([[0.2, 0.7], [math.nan, 1.0]], "f4")
    assert encode_classifications(classes, scores) == (
        b'{"results":[[["car",0.2],["bike",0.7]],[["\xff",NaN],["",1.0]]]}'
    )


@pytest.mark.parametrize(
    ("classes", "scores", "text"),
    [
        (np.array([[b"car"]], object), None, b'{"results":[[["car",0.0]]]}'),
        (None, np.array([[0.5, 1]], "f4"), b'{"results":[[["",0.5],["",1.0]]]}'),
        (np.empty((2, 0), object), None, b'{"results":[[],[]]}'),
    ],
)
def test_missing_classes_and_scores_are_empty(
    classes: Array | None, scores: Array | None, text: bytes
) -> None:
    assert encode_classifications(classes, scores) == text


@pytest.mark.parametrize("classes", [None, np.empty((0, 3), object)])
def test_no_classifications_are_refused(classes: Array | None) -> None:
    with pytest.raises(InvalidArgument, match="Cannot convert empty ClassificationResults to JSON"):
        encode_classifications(classes, None)


@pytest.mark.parametrize(
    "values", [np.array([3.5, math.inf, 0.2], "f4"), np.array([[3.5], [math.inf], [0.2]], "f4")]
)
def test_regressions_are_a_list_of_numbers(values: Array) -> None:
    assert encode_regressions(values) == b'{"results":[3.5,Infinity,0.2]}'


def test_no_regressions_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="Cannot convert empty RegressionResults to JSON"):
        encode_regressions(np.empty((0, 1), "f4"))
