"""Predict requests: what becomes which array, and what is refused in which words."""

import json
import math
import re
import sys
import tracemalloc
from collections.abc import Mapping, Sequence
from time import thread_time
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lambda_serving.api.codec import Format, Limits, decode, flat_numbers, numbers, parse, values
from lambda_serving.api.codec.json_in_errors import echo
from lambda_serving.api.codec.json_reader import Json
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import InvalidArgument, ServingError, Unimplemented
from lambda_serving.servables.servable import Signature, TensorSpec
from support.late_json import LATE

_QUICK = Limits()
_GENERAL = Limits(nesting=66)
"""Under what simdjson can enforce, so that Python reads everything."""


def _signature(**inputs: DType) -> Signature:
    specs = {name: TensorSpec(inputs[name], None, f"{name}:0") for name in sorted(inputs)}
    return Signature("serving_default", specs, {}, "", b"", {})


def _decode(
    body: bytes, inputs: Mapping[str, DType], limits: Limits = _QUICK
) -> tuple[Format, dict[str, Array]]:
    return decode(parse(body, limits), _signature(**inputs))


def _plain(result: tuple[Format, dict[str, Array]]) -> tuple[str, dict[str, Any]]:
    form, arrays = result
    return form.name, {
        name: (array.dtype.name, array.shape, array.tolist()) for name, array in arrays.items()
    }


def _outcome(body: bytes, inputs: Mapping[str, DType], limits: Limits) -> str:
    try:
        return repr(_plain(_decode(body, inputs, limits)))
    except ServingError as error:
        return f"{error.code.name}: {error}"


_MULTI = {"int_tensor": DType.INT32, "str_tensor": DType.STRING, "float_tensor": DType.FLOAT}


@pytest.mark.parametrize("limits", [_QUICK, _GENERAL], ids=["quick", "general"])
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
    assert repr(_plain(_decode(body, {"x": dtype}, limits))) == repr(wanted)


@pytest.mark.parametrize("limits", [_QUICK, _GENERAL], ids=["quick", "general"])
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
    assert repr(_plain(_decode(body, {"x": dtype}, limits))) == repr(wanted)


@pytest.mark.parametrize("limits", [_QUICK, _GENERAL], ids=["quick", "general"])
def test_rows_of_named_values_of_several_dtypes(limits: Limits) -> None:
    body = b"""{"instances": [
        {"int_tensor": [[1, 2], [3, 4]], "str_tensor": ["foo", "bar"], "float_tensor": [1.0]},
        {"str_tensor": ["baz", {"b64": "/w=="}], "float_tensor": [2],
         "int_tensor": [[5, 6], [7, 8]]}
    ]}"""
    assert _plain(_decode(body, _MULTI, limits)) == (
        "ROW",
        {
            "float_tensor": ("float32", (2, 1), [[1.0], [2.0]]),
            "int_tensor": ("int32", (2, 2, 2), [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]),
            "str_tensor": ("object", (2, 2), [[b"foo", b"bar"], [b"baz", b"\xff"]]),
        },
    )


@pytest.mark.parametrize("limits", [_QUICK, _GENERAL], ids=["quick", "general"])
def test_columns_need_not_share_a_size(limits: Limits) -> None:
    body = b'{"inputs": {"a": [[1, 2], [3, 4], [5, 6]], "c": [[], []], "b": [7], "d": [1e2]}}'
    inputs = {"a": DType.INT64, "b": DType.DOUBLE, "c": DType.UINT8}
    assert _plain(_decode(body, inputs, limits)) == (
        "COLUMNAR",
        {
            "a": ("int64", (3, 2), [[1, 2], [3, 4], [5, 6]]),
            "b": ("float64", (1,), [7.0]),
            "c": ("uint8", (2, 0), [[], []]),
        },
    )


def test_nan_is_read_from_its_bare_token() -> None:
    _, arrays = _decode(b'{"instances": [NaN, 2.0, -NaN]}', {"x": DType.DOUBLE})
    assert np.isnan(arrays["x"]).tolist() == [True, False, True]


@pytest.mark.parametrize(
    "body", [b'{"instances": [{"b64": "aGk="}]}', b'{"inputs": {"b64": "aGk="}}']
)
def test_an_input_called_b64_does_not_hide_base64(body: bytes) -> None:
    assert _decode(body, {"b64": DType.STRING})[1]["b64"].ravel().tolist() == [b"hi"]


def test_an_input_called_b64_can_be_named() -> None:
    _, arrays = _decode(b'{"instances": [{"b64": ["aGk="]}]}', {"b64": DType.STRING})
    assert arrays["b64"].tolist() == [[b"aGk="]]


def test_a_lone_base64_object_fills_one_of_several_inputs() -> None:
    body = b'{"instances": [{"b64": "aGk="}]}'
    _, arrays = _decode(body, {"a": DType.STRING, "b": DType.FLOAT})
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


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
        (
            b'{"instances"',
            "JSON Parse error: Missing a colon after a name of object member. at offset: 12",
        ),
        (
            b'{"instances" [1]}',
            "JSON Parse error: Missing a colon after a name of object member. at offset: 13",
        ),
        (
            b'{"instances": [1],}',
            "JSON Parse error: Missing a name for object member. at offset: 18",
        ),
        (b"{'instances': [1]}", "JSON Parse error: Missing a name for object member. at offset: 1"),
        (b'{"instances": [1,]}', "JSON Parse error: Invalid value. at offset: 17"),
        (b'{"instances": [1.]}', "JSON Parse error: Miss fraction part in number. at offset: 17"),
        (b'{"instances": [+1]}', "JSON Parse error: Invalid value. at offset: 15"),
        (b'{"instances": [Nan]}', "JSON Parse error: Invalid value. at offset: 17"),
        (
            b'{"instances": ["\\ud83d"]}',
            "JSON Parse error: The surrogate pair in string is invalid. at offset: 16",
        ),
        (b"[1,2]", "JSON Value: [1, 2] Is not object"),
        (b"1e2", "JSON Value: 100.0 Is not object"),
        (
            b'{"signature_name": null, "instances": [1]}',
            (
                'JSON Value: {\n    "signature_name": null,\n    "instances": [1]\n} not formatted'
                " correctly. 'signature_name' key must be a string value."
            ),
        ),
        (
            b'{"signature_name": %b%b}' % (b"[" * 2000, b"]" * 2000),
            'JSON Value: {\n    "signature_name": %s'
            " not formatted correctly. 'signature_name' key must be a string value."
            % ("[" * (257 - len('{\n    "signature_name": '))),
        ),
    ],
    ids=range(15),
)
def test_parse_refuses(body: bytes, error: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        parse(body)
    assert str(refusal.value) == error


_FAILED = "Failed to process element: "
_ROW = " of 'instances' list. Error: INVALID_ARGUMENT: "


@pytest.mark.parametrize("limits", [_QUICK, _GENERAL], ids=["quick", "general"])
@pytest.mark.parametrize(
    ("body", "dtype", "error"),
    [
        (b"{}", DType.INT32, "Missing 'inputs' or 'instances' key"),
        (b'{"foo": 1}', DType.INT32, "Missing 'inputs' or 'instances' key"),
        (
            b'{"instances": [1], "inputs": [1]}',
            DType.INT32,
            (
                'JSON Value: {\n    "instances": [1],\n    "inputs": [1]\n} Not formatted correctly'
                " expecting only one of 'inputs' or 'instances' keys to exist "
            ),
        ),
        (
            b'{"instances": {}}',
            DType.INT32,
            "JSON Value: {\n    \"instances\": {}\n} Expecting 'instances' to be an list/array",
        ),
        (
            b'{"instances": 5}',
            DType.INT32,
            "JSON Value: {\n    \"instances\": 5\n} Expecting 'instances' to be an list/array",
        ),
        (
            b'{"pad": "%b", "instances": 5}' % (b"a" * 300),
            DType.INT32,
            'JSON Value: {\n    "pad": "%s" Expecting \'instances\' to be an list/array'
            % ("a" * 300),
        ),
        (
            b'{"instances": []}',
            DType.INT32,
            "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
        ),
        (
            b'{"instances": ["x", "y"]}',
            DType.FLOAT,
            f'{_FAILED}0{_ROW}JSON Value: "x" Type: String is not of expected type: float',
        ),
        (
            b'{"instances": [[1,2],["a","b"]]}',
            DType.INT32,
            f'{_FAILED}1{_ROW}JSON Value: "a" Type: String is not of expected type: int32',
        ),
        (
            b'{"instances": [1, [1]]}',
            DType.INT32,
            f"{_FAILED}1{_ROW}Expecting shape [] but got: [1]",
        ),
        (
            b'{"instances": [[1], 1]}',
            DType.INT32,
            f"{_FAILED}1{_ROW}Expecting shape [1] but got: []",
        ),
        (
            b'{"instances": [[1,2],[3],[4,5,6]]}',
            DType.FLOAT,
            f"{_FAILED}1{_ROW}Expecting tensor size: 2 but got: 1",
        ),
        (
            b'{"instances": [[1,2],[[3,4]]]}',
            DType.FLOAT,
            f"{_FAILED}1{_ROW}Expecting shape [2] but got: [1,2]",
        ),
        (
            b'{"instances": [[],[[]]]}',
            DType.FLOAT,
            f"{_FAILED}1{_ROW}Expecting shape [0] but got: [1,0]",
        ),
        (
            b'{"instances": [[[1],2]]}',
            DType.INT32,
            (
                f"{_FAILED}0{_ROW}JSON Value: 2 found at incorrect level: 2 in the JSON DOM."
                " Expected at level: 2"
            ),
        ),
        (
            b'{"instances": [[[1],[2,3]]]}',
            DType.INT32,
            f"{_FAILED}0{_ROW}Encountered list at unexpected size: 2 at level: 1 expected size: 1",
        ),
        (
            b'{"instances": [[1,[2]]]}',
            DType.INT32,
            f"{_FAILED}0{_ROW}Encountered list at unexpected level: 1 expected < 1",
        ),
        (
            b'{"instances": [{"x": 1}, 2]}',
            DType.INT32,
            "Expecting object but got list at item 1 of input list",
        ),
        (
            b'{"instances": [2, {"x": 1}]}',
            DType.INT32,
            "Expecting value/list but got object at item 1 of input list",
        ),
        (
            b'{"instances": [{"x": 1, "extra": 2}]}',
            DType.INT32,
            f"{_FAILED}0 key: extra{_ROW}JSON object: does not have named input: extra",
        ),
        (
            b'{"instances": [{"y": 1}]}',
            DType.INT32,
            f"{_FAILED}0 key: y{_ROW}JSON object: does not have named input: y",
        ),
        (
            b'{"instances": [{"\xff": 1}]}',
            DType.INT32,
            (
                f"{_FAILED}0 key: \N{REPLACEMENT CHARACTER}{_ROW}JSON object: does not have named"
                " input: \N{REPLACEMENT CHARACTER}"
            ),
        ),
        (
            b'{"instances": [{}]}',
            DType.INT32,
            f"{_FAILED}0 of 'instances' list. JSON object: {{}} keys must be equal to: x",
        ),
        (
            b'{"instances": [{"x": [1]}, {"x": [2,3]}]}',
            DType.INT32,
            f"{_FAILED}1 key: x{_ROW}Expecting tensor size: 1 but got: 2",
        ),
        (
            b'{"instances": [null]}',
            DType.FLOAT,
            f"{_FAILED}0{_ROW}JSON Value: null Type: Null is not of expected type: float",
        ),
        (
            b'{"instances": [true]}',
            DType.FLOAT,
            f"{_FAILED}0{_ROW}JSON Value: true Type: True is not of expected type: float",
        ),
        (
            b'{"instances": [1e2]}',
            DType.INT32,
            f"{_FAILED}0{_ROW}JSON Value: 100.0 Type: Number is not of expected type: int32",
        ),
        (
            b'{"instances": [2.0]}',
            DType.INT64,
            f"{_FAILED}0{_ROW}JSON Value: 2.0 Type: Number is not of expected type: int64",
        ),
        (
            b'{"instances": [2147483648]}',
            DType.INT32,
            f"{_FAILED}0{_ROW}JSON Value: 2147483648 Type: Number is not of expected type: int32",
        ),
        (
            b'{"instances": [1, -2147483649]}',
            DType.UINT8,
            f"{_FAILED}1{_ROW}JSON Value: -2147483649 Type: Number is not of expected type: uint8",
        ),
        (
            b'{"instances": [9223372036854775808]}',
            DType.INT64,
            (
                f"{_FAILED}0{_ROW}JSON Value: 9223372036854775808 Type: Number is not of expected"
                " type: int64"
            ),
        ),
        (
            b'{"instances": [-1]}',
            DType.UINT32,
            f"{_FAILED}0{_ROW}JSON Value: -1 Type: Number is not of expected type: uint32",
        ),
        (
            b'{"instances": [4294967296]}',
            DType.UINT32,
            f"{_FAILED}0{_ROW}JSON Value: 4294967296 Type: Number is not of expected type: uint32",
        ),
        (
            b'{"instances": [-1]}',
            DType.UINT64,
            f"{_FAILED}0{_ROW}JSON Value: -1 Type: Number is not of expected type: uint64",
        ),
        (
            b'{"instances": [1]}',
            DType.BOOL,
            f"{_FAILED}0{_ROW}JSON Value: 1 Type: Number is not of expected type: bool",
        ),
        (
            b'{"instances": [true]}',
            DType.HALF,
            f"{_FAILED}0{_ROW}JSON Value: true Type: True is not of expected type: half",
        ),
        (
            b'{"instances": [5]}',
            DType.STRING,
            f"{_FAILED}0{_ROW}JSON Value: 5 Type: Number is not of expected type: string",
        ),
        (
            b'{"instances": [{"b64": "!!!"}]}',
            DType.STRING,
            f"{_FAILED}0{_ROW}Unable to base64 decode",
        ),
        (
            b'{"instances": [{"b64": "_-8="}]}',
            DType.STRING,
            f"{_FAILED}0{_ROW}Unable to base64 decode",
        ),
        (
            b'{"instances": [{"b64": "aGk=="}]}',
            DType.STRING,
            f"{_FAILED}0{_ROW}Unable to base64 decode",
        ),
        (
            b'{"instances": [{"b64": "aGVsb"}]}',
            DType.STRING,
            f"{_FAILED}0{_ROW}Unable to base64 decode",
        ),
        (
            b'{"instances": [{"b64": "aG\xff="}]}',
            DType.STRING,
            f"{_FAILED}0{_ROW}Unable to base64 decode",
        ),
        (
            b'{"instances": [[{"b64": 1}]]}',
            DType.STRING,
            (
                f'{_FAILED}0{_ROW}JSON Value: {{\n    "b64": 1\n}} not formatted correctly for'
                " base64 data"
            ),
        ),
        (
            b'{"instances": [{"b64": "aGk="}]}',
            DType.FLOAT,
            (
                f'{_FAILED}0{_ROW}JSON Value: {{\n    "b64": "aGk="\n}} Type: Object is not of'
                " expected type: float"
            ),
        ),
        (
            b'{"instances": [1]}',
            DType.COMPLEX64,
            (
                f"{_FAILED}0 of 'instances' list. Error: UNIMPLEMENTED: Conversion of JSON Value: 1"
                " to type: complex64"
            ),
        ),
        (
            b'{"inputs": {"y": 1}}',
            DType.INT32,
            "Missing named input: x in 'inputs' object.",
        ),
        (
            b'{"inputs": null}',
            DType.INT32,
            "JSON Value: null Type: Null is not of expected type: int32",
        ),
        (
            b'{"inputs": [[1], 2]}',
            DType.INT32,
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (
            b'{"inputs": [1, [2]]}',
            DType.INT32,
            "Encountered list at unexpected level: 1 expected < 1",
        ),
        (
            b'{"inputs": [[1, 2], [3], [4, 5, 6]]}',
            DType.FLOAT,
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            b'{"inputs": [[], [1]]}',
            DType.FLOAT,
            "Encountered list at unexpected size: 1 at level: 1 expected size: 0",
        ),
        (
            b'{"inputs": [[[1]], []]}',
            DType.FLOAT,
            "Encountered list at unexpected size: 0 at level: 1 expected size: 1",
        ),
    ],
)
def test_decode_refuses(body: bytes, dtype: DType, error: str, limits: Limits) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        _decode(body, {"x": dtype}, limits)
    assert str(refusal.value) == error


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            b'{"instances": [1]}',
            (
                "instances is a plain list, but expecting list of objects as multiple input tensors"
                " required as per tensorinfo_map"
            ),
        ),
        (
            b'{"inputs": [1]}',
            (
                "inputs is a plain value/list, but expecting an object as multiple input tensors"
                " required as per tensorinfo_map"
            ),
        ),
        (
            b'{"inputs": {"int_tensor": [1], "str_tensor": ["a"]}}',
            "Missing named input: float_tensor in 'inputs' object.",
        ),
        (
            b'{"instances": [{"int_tensor": 1, "float_tensor": 2}]}',
            (
                f"{_FAILED}0 of 'instances' list. JSON object: {{\n    \"int_tensor\": 1,\n"
                '    "float_tensor": 2\n} keys must be equal to: float_tensor,int_tensor,str_tensor'
            ),
        ),
        (
            b'{"instances": [{"int_tensor": [1], "str_tensor": ["a"], "float_tensor": [1]}, [1]]}',
            "Expecting object but got list at item 1 of input list",
        ),
        (
            (
                b'{"instances": [{"int_tensor": [[1,2],[3,4]], "str_tensor": ["a"],'
                b' "float_tensor": [1]},'
                b' {"int_tensor": [[[7,8],[9,0]]], "str_tensor": ["b"], "float_tensor": [1]}]}'
            ),
            f"{_FAILED}1 key: int_tensor{_ROW}Expecting shape [2,2] but got: [1,2,2]",
        ),
        (
            b'{"instances": [{"b64": "YQ=="}]}',
            (
                f'{_FAILED}0{_ROW}JSON Value: {{\n    "b64": "YQ=="\n}} Type: Object is not of'
                " expected type: float"
            ),
        ),
    ],
)
def test_several_inputs_refuse(body: bytes, error: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        _decode(body, _MULTI)
    assert str(refusal.value) == error


@pytest.mark.parametrize(
    ("body", "dtype", "error"),
    [
        (b'{"inputs": 1}', DType.COMPLEX64, "Conversion of JSON Value: 1 to type: complex64"),
        (b'{"inputs": [[1.5]]}', DType.QINT8, "Conversion of JSON Value: 1.5 to type: qint8"),
        (b'{"inputs": ["a"]}', DType.RESOURCE, 'Conversion of JSON Value: "a" to type: resource'),
        (b'{"inputs": [[]]}', DType.RESOURCE, "Conversion of JSON Value: [[]] to type: resource"),
    ],
)
def test_columns_of_dtypes_that_json_cannot_give_are_unimplemented(
    body: bytes, dtype: DType, error: str
) -> None:
    with pytest.raises(Unimplemented) as refusal:
        _decode(body, {"x": dtype})
    assert str(refusal.value) == error


def test_a_signature_without_inputs_takes_no_request() -> None:
    with pytest.raises(InvalidArgument, match="Failed to get input map for signature: DEFAULT"):
        _decode(b'{"instances": [1]}', {})


@pytest.mark.parametrize("limits", [_QUICK, _GENERAL], ids=["quick", "general"])
@pytest.mark.parametrize("key", [b"instances", b"inputs"])
def test_more_dimensions_than_an_array_can_have_are_refused(key: bytes, limits: Limits) -> None:
    fits = b'{"%b": %b1%b}' % (key, b"[" * 64, b"]" * 64)
    assert _decode(fits, {"x": DType.FLOAT}, limits)[1]["x"].ndim == 64
    over = b'{"%b": %b1%b}' % (key, b"[" * 65, b"]" * 65)
    with pytest.raises(InvalidArgument):
        _decode(over, {"x": DType.FLOAT}, limits)


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [[%b1], %b[1]]}' % (b"1," * 100_000, b"[1]," * 100_000),
        b'{"instances": [{"x": [%b1]}, %b{"x": [1]}]}' % (b"1," * 100_000, b'{"x":[1]},' * 50_000),
        b'{"instances": [%b[]]}' % (b"[1]," * 100_000),
    ],
    ids=["wide first list", "wide first row", "last list empty"],
)
def test_ragged_lists_cost_no_more_than_their_length(body: bytes) -> None:
    start = thread_time()
    with pytest.raises(InvalidArgument, match="Expecting tensor size: "):
        _decode(body, {"x": DType.FLOAT})
    assert thread_time() - start < 10


@pytest.mark.parametrize(
    "body",
    [
        rb'{"instances": [{"x\u0000": 1}]}',
        rb'{"instances": [{"\u0000x": 1, "x": 2}]}',
        rb'{"inputs": {"x\u0000y": [1], "x": [2]}}',
        rb'{"\u0000": 1, "inputs": [2]}',
        rb'{"inputs\u0000": [1], "inputs": [2]}',
    ],
)
def test_names_with_a_zero_are_kept_apart(body: bytes) -> None:
    inputs = {"x": DType.FLOAT}
    assert _outcome(body, inputs, _QUICK) == _outcome(body, inputs, _GENERAL)


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [{"a1": [1, 2], "a2": [3, 4, 5]}, {"a2": [6, 7, 8], "a1": [9, 10]}]}',
        b'{"instances": [{"a1": [[1, 2]], "a2": [[3], [4]]}, {"a2": [[5, 6]], "a1": [[7], [8]]}]}',
        b'{"inputs": {"a1": [1], "a2": [2], "a1": [3]}}',
        b'{"instances": [{"a1": [1], "a2": [2], "a1": [3]}]}',
        b'{"instances": [{"a1": [1], "a2": [2]}, {"a1": [1], "a1": [2]}]}',
        b'{"instances": [{"a1": [1], "a2": [2]}, {"a1": [1], "a3": [2]}]}',
    ],
)
def test_names_that_differ_in_digits_are_kept_apart(body: bytes) -> None:
    inputs = {"a1": DType.FLOAT, "a2": DType.FLOAT}
    assert _outcome(body, inputs, _QUICK) == _outcome(body, inputs, _GENERAL)


_SPACES = st.text(" \t\r\n", max_size=2)
_NUMBERS = st.one_of(
    st.integers(-200, 300).map(str),
    st.integers(-(2**65), 2**65).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        ["-0", "-0.0", "1e2", "1E+2", "0e999", "1e39", "2147483648", "1e999", "5e-324"]
    ),
)
_SAFE_NUMBERS = st.integers(0, 127).map(str)
_SCALARS = st.one_of(
    _NUMBERS, st.sampled_from(["true", "null", '"x"', '"["', "NaN", '{"b64": "YQ=="}', "[1]", "[]"])
)


@st.composite
def _nested(draw: st.DrawFn, shape: tuple[int, ...], scalars: st.SearchStrategy[str]) -> str:
    if not shape:
        return draw(scalars)
    items = [draw(_nested(shape[1:], scalars)) for _ in range(shape[0])]
    space = draw(_SPACES)
    return f"[{space}{f'{space},'.join(items)}{space}]"


@st.composite
def _requests(draw: st.DrawFn) -> tuple[bytes, dict[str, DType]]:
    """A body and inputs that may or may not fit."""
    names = draw(st.sampled_from([("x",), ("x", "y"), ("a1", "a2"), ("x", "e", "é")]))
    inputs = {name: DType(draw(st.integers(1, 23))) for name in names}
    scalars = draw(st.sampled_from([_SAFE_NUMBERS, _NUMBERS, _SCALARS]))
    sizes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
    values = {name: _nested(draw(sizes), scalars) for name in names}
    objects = st.permutations(names).flatmap(lambda order: _object(order, values))
    item = values["x"] if names == ("x",) and draw(st.booleans()) else objects
    if draw(st.booleans()):
        content = f'"instances":[{",".join(draw(st.lists(item, max_size=3)))}]'
    else:
        content = f'"inputs" : {draw(item)}'
    other = st.sampled_from(
        ['"signature_name": "e1"', '"other": "]}"', '"signature_name":"\\u0041"']
    )
    members = [*draw(st.lists(other, max_size=1)), content, *draw(st.lists(other, max_size=1))]
    return f"{{{draw(_SPACES)}{', '.join(members)}}}{draw(_SPACES)}".encode(), inputs


@st.composite
def _object(
    draw: st.DrawFn, names: Sequence[str], values: Mapping[str, st.SearchStrategy[str]]
) -> str:
    members = [f"{json.dumps(name, ensure_ascii=False)}:{draw(values[name])}" for name in names]
    return f"{{{f' ,{draw(_SPACES)}'.join(members)}}}"


def _outcome_in_pieces(body: bytes, inputs: dict[str, DType]) -> object:
    """The outcome of a request that counts as large, a few bytes of which are parsed at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbers, "_LARGE", 0)
        patch.setattr(flat_numbers, "_PIECE", 5)
        patch.setattr(flat_numbers, "_LEAST", 0)
        return _outcome(body, inputs, _QUICK)


@given(
    st.recursive(
        st.just("[]"),
        lambda inner: st.one_of(
            st.builds(lambda each, n: f"[{','.join([each] * n)}]", inner, st.integers(1, 3)),
            st.lists(inner, max_size=3).map(lambda each: f"[{','.join(each)}]"),
        ),
    ),
    st.integers(0, 12),
    st.sampled_from(["", "[", "]", ",", "[]", "{"]),
)
def test_only_the_text_of_a_regular_array_has_a_shape(text: str, place: int, more: str) -> None:
    for each in (text, text[:place] + more + text[place:], text[:place] + text[place + 1 :]):
        shape = flat_numbers.regular_shape(each.encode())
        if shape is not None:
            assert _text_of(shape) == each
    regular = re.sub(r"\[\]", "[,]", text)
    if (array := _array_or_none(regular)) is not None:
        assert flat_numbers.regular_shape(regular.encode()) == array.shape


def _text_of(shape: tuple[int, ...]) -> str:
    return f"[{','.join([_text_of(shape[1:])] * shape[0])}]" if shape else ""


def _array_or_none(text: str) -> Array | None:
    try:
        return np.array(json.loads(text.replace("[,]", "[1,1]")))
    except ValueError:
        return None


def _elements_kept(error: BaseException) -> int:
    """How many elements the lists and objects have that an error's traceback keeps."""
    trace, waiting, seen, count = error.__traceback__, list[object](), set[int](), 0
    while trace:
        waiting += trace.tb_frame.f_locals.values()
        trace = trace.tb_next
    while waiting:
        each = waiting.pop()
        if isinstance(each, list | dict) and id(each) not in seen:
            seen.add(id(each))
            count += len(each)
            waiting += each.values() if isinstance(each, dict) else each
    return count


@pytest.mark.parametrize("end", [b'{"y":"a"}]', b"[[[2]]]]", b"1,}"])
@pytest.mark.parametrize("element", [b"0.5", b"[0.5]", b"[[1,2],[3,4]]", b'{"x":[1]}', b'"text"'])
@pytest.mark.parametrize("key", [b"instances", b"inputs"])
def test_an_error_keeps_no_large_value(key: bytes, element: bytes, end: bytes) -> None:
    body = b'{"%b":[%b,%b}' % (key, b",".join([element] * 70_000), end)
    with pytest.raises(InvalidArgument) as caught:
        _decode(body, {"x": DType.FLOAT})
    assert _elements_kept(caught.value) < 10_000


_IMAGE: Array = np.arange(2 * 150_000.0).reshape(2, 150_000) / 7
_LARGE_REQUESTS: dict[str, Any] = {
    "a list": {"inputs": _IMAGE.tolist()},
    "a list with a name": {"inputs": {"x": _IMAGE.tolist()}, "signature_name": "f"},
    "two": {"signature_name": "f", "inputs": {"x": _IMAGE.tolist(), "y": _IMAGE.tolist()}},
    "rows": {"instances": _IMAGE.tolist()},
    "rows with a name": {"instances": [{"x": row} for row in _IMAGE.tolist()]},
    "rows with two names": {"instances": [{"x": row, "y": row} for row in _IMAGE.tolist()]},
    "many rows": {"instances": [{"x": row} for row in _IMAGE.reshape(3000, 100).tolist()]},
}


@pytest.mark.parametrize("request_", _LARGE_REQUESTS.values(), ids=_LARGE_REQUESTS)
def test_large_requests_of_numbers_are_read_the_quick_way(request_: Any) -> None:
    body = json.dumps(request_, indent=1).encode()
    assert len(body) > 2**20
    names = [name for name in ("x", "y") if f'"{name}"' in body.decode()] or ["x"]
    read = numbers.read(body)
    assert read
    arrays = read.arrays(_signature(**dict.fromkeys(names, DType.DOUBLE)).inputs)
    assert arrays
    for array in arrays.values():
        assert array.reshape(_IMAGE.shape).tolist() == _IMAGE.tolist()


@settings(max_examples=150, deadline=None)
@given(request=_requests())
def test_the_quick_ways_agree_with_the_general_one(
    request: tuple[bytes, dict[str, DType]],
) -> None:
    body, inputs = request
    assert _outcome(body, inputs, _QUICK) == _outcome(body, inputs, _GENERAL)
    assert _outcome_in_pieces(body, inputs) == _outcome(body, inputs, _GENERAL)


@settings(max_examples=150, deadline=None)
@given(
    request=_requests(),
    place=st.integers(0, 200),
    cut=st.integers(0, 3),
    piece=st.sampled_from(
        ["", "[", "]", "{", "}", ",", ":", '"', "1", "-", ".", "e", " ", "\0", "x"]
    ),
)
def test_they_agree_on_broken_requests_too(
    request: tuple[bytes, dict[str, DType]], place: int, cut: int, piece: str
) -> None:
    body, inputs = request
    assume(place <= len(body))
    broken = body[:place] + piece.encode() + body[place + cut :]
    assert _outcome(broken, inputs, _QUICK) == _outcome(broken, inputs, _GENERAL)
    assert _outcome_in_pieces(broken, inputs) == _outcome(broken, inputs, _GENERAL)
    assert _outcome(body[:place], inputs, _QUICK) == _outcome(body[:place], inputs, _GENERAL)


@given(body=st.binary(), dtype=st.sampled_from(list(DType)))
def test_any_bytes_are_read_or_refused(body: bytes, dtype: DType) -> None:
    for text in (body, b'{"instances":' + body, b'{"inputs":[' + body):
        _outcome(text, {"x": dtype}, _QUICK)


def _first_error(value: Json, dtype: DType) -> str:
    """Of a value as TensorFlow Serving looks for it: each element in turn, depth first."""
    sizes = values.shape(value)

    def look(each: Json, level: int) -> None:
        if level < len(sizes) and isinstance(each, list) and len(each) == sizes[level]:
            for inner in each:
                look(inner, level + 1)
        elif level < len(sizes) or isinstance(each, list):
            raise InvalidArgument(_irregular(each, sizes, level))
        else:
            values.check(each, dtype)  # of a scalar

    try:
        look(value, 0)
    except ServingError as error:
        return f"{error.code.name}: {error}"
    return ""


def _irregular(value: Json, sizes: Sequence[int], level: int) -> str:
    rank = len(sizes)
    if not isinstance(value, list):
        return (
            f"JSON Value: {echo(value)} found at incorrect level: {level + 1}"
            f" in the JSON DOM. Expected at level: {rank}"
        )
    if level >= rank:
        return f"Encountered list at unexpected level: {level} expected < {rank}"
    return (
        f"Encountered list at unexpected size: {len(value)} at level: {level}"
        f" expected size: {sizes[level]}"
    )


_ODD = st.sampled_from(
    [
        *(1, 2**31, -(2**40), 2**63, -1, 1.5, math.inf, True, None, "a", {}, {"b64": "YQ=="}),
        *({"b64": "?"}, {"b64": 1}, [], [1], [1, 2], [[1]], {"a": 1}),
    ]
)


@given(
    sizes=st.lists(st.integers(0, 3), max_size=4),
    good=st.sampled_from([1, 1.5, "a", True, {"b64": "YQ=="}]),
    odd=st.lists(st.tuples(st.integers(0, 80), _ODD), max_size=3),
    dtype=st.sampled_from([DType.FLOAT, DType.INT8, DType.UINT64, DType.BOOL, DType.STRING])
    | st.sampled_from([DType.COMPLEX64, DType.INT64, DType.DOUBLE]),
)
def test_the_first_error_is_that_which_comes_first_depth_first(
    sizes: Sequence[int], good: Json, odd: Sequence[tuple[int, Json]], dtype: DType
) -> None:
    count = iter(range(1000))

    def build(level: int) -> Json:
        at = next(count)
        for place, value in odd:
            if place == at:
                return value
        if level == len(sizes):
            return good
        return [build(level + 1) for _ in range(sizes[level])]

    value = build(0)
    try:
        values.check(value, dtype)
        found = ""
    except ServingError as error:
        found = f"{error.code.name}: {error}"
    assert found == _first_error(value, dtype)
    array = values.array_or_none(value, dtype)
    assert found == "" or array is None


@pytest.mark.parametrize("count", [1, 256, 257, 258, 2500])
@pytest.mark.parametrize("odd", ['["a"]', "[1,2]", "[[1]]", "1", "[]", '{"x":[1]}', '{"b64":""}'])
def test_an_odd_instance_is_found_among_many(count: int, odd: str) -> None:
    """The block of instances in which it is does not matter."""

    def refusal(count: int) -> str:
        rows = ",".join(["[1]"] * count + [odd] + ["[1]"] * 1500)
        return _outcome(b'{"instances":[%b]}' % rows.encode(), {"x": DType.FLOAT}, _QUICK)

    places = (rf"(element: |item ){number}\b" for number in (1, count))
    alone, among = (
        re.sub(place, "", refusal(n)) for place, n in zip(places, (1, count), strict=True)
    )
    assert among == alone
    assert among.startswith("INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "odd", ['{"x":[1]}', '{"x":1,"y":2}', '{"x":[1],"y":2}', "[1]", '{"x":["a"]}']
)
def test_an_odd_object_is_found_among_many(odd: str) -> None:
    def refusal(count: int) -> str:
        rows = ",".join(['{"x":[1],"y":[2]}'] * count + [odd])
        inputs = {"x": DType.FLOAT, "y": DType.FLOAT}
        said = _outcome(b'{"instances":[%b]}' % rows.encode(), inputs, _QUICK)
        return re.sub(rf"(element: |item ){count}\b", "", said)

    assert refusal(3000) == refusal(1)
    assert refusal(1).startswith("INVALID_ARGUMENT")


@pytest.mark.parametrize("case", LATE)
def test_an_error_at_the_end_is_found_in_few_steps(case: str) -> None:
    """Calls stand for time: looking at each value by itself took up to nine for each byte."""
    late = LATE[case]
    body = late.body(100_000)
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        outcome = _outcome(body, late.inputs, _QUICK)
    finally:
        sys.setprofile(None)
    assert outcome.startswith("INVALID_ARGUMENT") == (case != "one name only")
    assert calls < (3 if late.early else 1.25) * len(body)


@pytest.mark.parametrize("case", ["list of text", "float, columnar", "half pairs", "objects"])
def test_finding_an_error_takes_little_more_memory_than_what_is_held_for_it(case: str) -> None:
    body = LATE[case].body(2**20)
    held: list[int] = []
    limits = Limits(hold=held.append)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument):
            _decode(body, LATE[case].inputs, limits)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < sum(held) + 24 * 2**20
