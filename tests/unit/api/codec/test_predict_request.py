"""Predict requests: what becomes which array."""

import math
from typing import Any

import numpy as np
import pytest

from lambda_serving.api.codec import Limits, parse
from lambda_serving.dtypes import DType
from support.predict_requests import GENERAL, QUICK, decoded, plain

_MULTI = {"int_tensor": DType.INT32, "str_tensor": DType.STRING, "float_tensor": DType.FLOAT}


@pytest.mark.parametrize("limits", [QUICK, GENERAL], ids=["quick", "general"])
@pytest.mark.parametrize(
    ("body", "dtype", "values"),
    [
        (b'{"instances": [1.0, 2.0]}', DType.FLOAT, [1.0, 2.0]),
        (b'{"instances": [[1.0, 2.0], [3.0, 4.0]]}', DType.FLOAT, [[1.0, 2.0], [3.0, 4.0]]),
        (b'{"instances": [1, 2.5], "signature_name": ""}', DType.FLOAT, [1.0, 2.5]),
        (b'{"other": {"a": [1, "]"]}, "instances": [1]}', DType.FLOAT, [1.0]),
        (b'{"instances": [{"x": 1}, {"x": 2}]}', DType.FLOAT, [1.0, 2.0]),
        (b'{"instances": [{"x": [1]}, {"x": [2]}]}', DType.FLOAT, [[1.0], [2.0]]),
        (b'{"instances": [[], []]}', DType.FLOAT, [[], []]),
        (b'{"instances": [[[]], [[]]]}', DType.FLOAT, [[[]], [[]]]),
        (b'{"instances": [1], "instances": [2]}', DType.FLOAT, [1.0]),
        (b'{"instances": [1]} and more', DType.INT32, [1]),
        (b'  \n {"instances": [1]}', DType.INT32, [1]),
        (b'\xef\xbb\xbf{"instances": [1]}', DType.INT32, [1]),
        (
            b'{"instances": [1.0, 2, 3, 4, 0.662, 0, 0.0]}',
            DType.DOUBLE,
            [1.0, 2.0, 3.0, 4.0, 0.662, 0.0, 0.0],
        ),
        (b'{"instances": [18446744073709551616, 5e-324]}', DType.DOUBLE, [2.0**64, 5e-324]),
        (b'{"instances": [18446744073709551615]}', DType.DOUBLE, [2.0**64]),
        (b'{"instances": [-0, -0.0]}', DType.DOUBLE, [0.0, -0.0]),
        (b'{"instances": [1435774380]}', DType.FLOAT, [1435774336.0]),
        (b'{"instances": [1435774380.0]}', DType.FLOAT, [1435774336.0]),
        (b'{"instances": [1e39, -1.7976931348623157e308]}', DType.FLOAT, [math.inf, -math.inf]),
        (b'{"instances": [1e-46]}', DType.FLOAT, [0.0]),
        (b'{"instances": [Infinity, -Inf, 3]}', DType.FLOAT, [math.inf, -math.inf, 3.0]),
        (b'{"instances": [1, 0.1, 70000]}', DType.HALF, [1.0, float(np.float16(0.1)), math.inf]),
        (b'{"instances": [1, 0.5, 1e39]}', DType.BFLOAT16, [1.0, 0.5, math.inf]),
        (b'{"instances": [1, -128, 127]}', DType.INT8, [1, -128, 127]),
        (b'{"instances": [300, -129]}', DType.INT8, [44, 127]),
        (b'{"instances": [-1, 256, 255]}', DType.UINT8, [255, 0, 255]),
        (b'{"instances": [-1, 65536, 2147483647]}', DType.UINT16, [65535, 0, 65535]),
        (b'{"instances": [32768]}', DType.INT16, [-32768]),
        (b'{"instances": [2147483647, -2147483648]}', DType.INT32, [2**31 - 1, -(2**31)]),
        (
            b'{"instances": [9223372036854775807, -9223372036854775808]}',
            DType.INT64,
            [2**63 - 1, -(2**63)],
        ),
        (b'{"instances": [4294967295, 0, -0]}', DType.UINT32, [2**32 - 1, 0, 0]),
        (b'{"instances": [18446744073709551615, -0]}', DType.UINT64, [2**64 - 1, 0]),
        (b'{"instances": [[true, false]]}', DType.BOOL, [[True, False]]),
        (b'{"instances": ["a", "\\u00e9\\u0000"]}', DType.STRING, [b"a", "é\0".encode()]),
        (b'{"instances": ["\xff\xc3("]}', DType.STRING, [b"\xff\xc3("]),
        (b'{"instances": ["\\udc00"]}', DType.STRING, [b"\xed\xb0\x80"]),
        (
            b'{"instances": [[{"b64": "aGVsbG8="}], [{"b64": "d29ybGQ="}]]}',
            DType.STRING,
            [[b"hello"], [b"world"]],
        ),
        (
            b'{"instances": [{"b64": "aGVsbG8"}, {"b64": "aGVs\\nbG8="}, {"b64": ""}, "x"]}',
            DType.STRING,
            [b"hello", b"hello", b"", b"x"],
        ),
        (b'{"instances": [{"x": {"b64": "/9j/"}}]}', DType.STRING, [b"\xff\xd8\xff"]),
    ],
)
def test_row_format(body: bytes, dtype: DType, values: list[Any], limits: Limits) -> None:
    shape = np.array(values, object if dtype is DType.STRING else None).shape
    wanted = ("ROW", {"x": (dtype.numpy.name, shape, values)})
    assert repr(plain(decoded(body, {"x": dtype}, limits))) == repr(wanted)


@pytest.mark.parametrize("limits", [QUICK, GENERAL], ids=["quick", "general"])
@pytest.mark.parametrize(
    ("body", "dtype", "shape", "values"),
    [
        (b'{"inputs": {"x": [3.0, 4.0]}}', DType.FLOAT, (2,), [3.0, 4.0]),
        (b'{"inputs": 3.0}', DType.FLOAT, (), 3.0),
        (b'{"inputs": {"x": 3}}', DType.INT32, (), 3),
        (b'{"inputs": []}', DType.FLOAT, (0,), []),
        (b'{"inputs": [[], []]}', DType.INT8, (2, 0), [[], []]),
        (b'{"inputs": [[1], [2]]}', DType.FLOAT, (2, 1), [[1.0], [2.0]]),
        (b'{"inputs": {"x": [1], "extra": [2]}}', DType.INT32, (1,), [1]),
        (b'{"inputs": {"x": [1], "extra": "[["}}', DType.INT32, (1,), [1]),
        (b'{"inputs": "text"}', DType.STRING, (), b"text"),
        (b'{"inputs": {"b64": "/9j/"}}', DType.STRING, (), b"\xff\xd8\xff"),
        (b'{"inputs": {"x": {"b64": "/9j/"}}}', DType.STRING, (), b"\xff\xd8\xff"),
        (b'{"inputs": [["a", "b"], ["", "d"]]}', DType.STRING, (2, 2), [[b"a", b"b"], [b"", b"d"]]),
    ],
)
def test_columnar_format(
    body: bytes, dtype: DType, shape: tuple[int, ...], values: Any, limits: Limits
) -> None:
    wanted = ("COLUMNAR", {"x": (dtype.numpy.name, shape, values)})
    assert repr(plain(decoded(body, {"x": dtype}, limits))) == repr(wanted)


@pytest.mark.parametrize("limits", [QUICK, GENERAL], ids=["quick", "general"])
def test_rows_of_named_values_of_several_dtypes(limits: Limits) -> None:
    body = b"""{"instances": [
        {"int_tensor": [[1, 2], [3, 4]], "str_tensor": ["foo", "bar"], "float_tensor": [1.0]},
        {"str_tensor": ["baz", {"b64": "/w=="}], "float_tensor": [2],
         "int_tensor": [[5, 6], [7, 8]]}
    ]}"""
    assert plain(decoded(body, _MULTI, limits)) == (
        "ROW",
        {
            "float_tensor": ("float32", (2, 1), [[1.0], [2.0]]),
            "int_tensor": ("int32", (2, 2, 2), [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
            "str_tensor": ("object", (2, 2), [[b"foo", b"bar"], [b"baz", b"\xff"]]),
        },
    )


@pytest.mark.parametrize("limits", [QUICK, GENERAL], ids=["quick", "general"])
def test_columns_need_not_share_a_size(limits: Limits) -> None:
    body = b'{"inputs": {"a": [[1, 2], [3, 4], [5, 6]], "c": [[], []], "b": [7], "d": [1e2]}}'
    inputs = {"a": DType.INT64, "b": DType.DOUBLE, "c": DType.UINT8}
    assert plain(decoded(body, inputs, limits)) == (
        "COLUMNAR",
        {
            "a": ("int64", (3, 2), [[1, 2], [3, 4], [5, 6]]),
            "b": ("float64", (1,), [7.0]),
            "c": ("uint8", (2, 0), [[], []]),
        },
    )


def test_nan_is_read_from_its_bare_token() -> None:
    _, arrays = decoded(b'{"instances": [NaN, 2.0, -NaN]}', {"x": DType.DOUBLE})
    assert np.isnan(arrays["x"]).tolist() == [True, False, True]


@pytest.mark.parametrize(
    "body", [b'{"instances": [{"b64": "aGk="}]}', b'{"inputs": {"b64": "aGk="}}']
)
def test_an_input_called_b64_does_not_hide_base64(body: bytes) -> None:
    assert decoded(body, {"b64": DType.STRING})[1]["b64"].ravel().tolist() == [b"hi"]


def test_an_input_called_b64_can_be_named() -> None:
    _, arrays = decoded(b'{"instances": [{"b64": ["aGk="]}]}', {"b64": DType.STRING})
    assert arrays["b64"].tolist() == [[b"aGk="]]


def test_a_lone_base64_object_fills_one_of_several_inputs() -> None:
    body = b'{"instances": [{"b64": "aGk="}]}'
    _, arrays = decoded(body, {"a": DType.STRING, "b": DType.FLOAT})
    assert {name: array.tolist() for name, array in arrays.items()} == {"a": [b"hi"]}


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"{}", ""),
        (b'{"signature_name": ""}', ""),
        (b'{"signature_name": "a\\u00e9\\"", "instances": [1]}', 'aé"'),
        (b'{"signature_name": "x", "signature_name": "y", "inputs": 1}', "x"),
        (b'{"signature_name": "serving_default", "inputs": [1]}', "serving_default"),
        (b'{"inputs": [1], "signature_name": "e.1"}', "e.1"),
        (b'{"signature_name": "\xff"}', "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_the_document_names_its_signature(body: bytes, name: str) -> None:
    assert parse(body).signature_name == name
