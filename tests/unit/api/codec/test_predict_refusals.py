"""Predict requests that are refused, and the words of each refusal."""

import pytest

from lambda_serving.api.codec import Limits, parse
from lambda_serving.dtypes import DType
from lambda_serving.errors import InvalidArgument, Unimplemented
from support.predict_requests import GENERAL, QUICK, decoded

_MULTI = {"int_tensor": DType.INT32, "str_tensor": DType.STRING, "float_tensor": DType.FLOAT}


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


@pytest.mark.parametrize("limits", [QUICK, GENERAL], ids=["quick", "general"])
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
        decoded(body, {"x": dtype}, limits)
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
        decoded(body, _MULTI)
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
        decoded(body, {"x": dtype})
    assert str(refusal.value) == error


def test_a_signature_without_inputs_takes_no_request() -> None:
    with pytest.raises(InvalidArgument, match="Failed to get input map for signature: DEFAULT"):
        decoded(b'{"instances": [1]}', {})


@pytest.mark.parametrize("limits", [QUICK, GENERAL], ids=["quick", "general"])
@pytest.mark.parametrize("key", [b"instances", b"inputs"])
def test_more_dimensions_than_an_array_can_have_are_refused(key: bytes, limits: Limits) -> None:
    fits = b'{"%b": %b1%b}' % (key, b"[" * 64, b"]" * 64)
    assert decoded(fits, {"x": DType.FLOAT}, limits)[1]["x"].ndim == 64
    over = b'{"%b": %b1%b}' % (key, b"[" * 65, b"]" * 65)
    with pytest.raises(InvalidArgument):
        decoded(over, {"x": DType.FLOAT}, limits)
