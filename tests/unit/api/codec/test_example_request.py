"""Classify and regress requests, checked against TensorFlow's own `tf.train.Example`."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving.api.codec import Limits, parse_examples
from lambda_serving.errors import InvalidArgument, ServingError


def _features(body: bytes) -> list[dict[str, Any]]:
    """What TensorFlow reads from each of the examples: by name, the kind and the values."""
    return [_read(example) for example in parse_examples(body).examples]


def _read(serialized: bytes) -> dict[str, Any]:
    from tensorflow.core.example import example_pb2

    features = example_pb2.Example.FromString(serialized).features.feature
    return {name: _values(feature) for name, feature in features.items()}


def _values(feature: Any) -> tuple[str | None, list[Any]]:
    kind = feature.WhichOneof("kind")
    return kind, list(getattr(feature, kind).value) if kind else []


@pytest.mark.parametrize(
    ("content", "kind", "values"),
    [
        (b'"pizza"', "bytes_list", [b"pizza"]),
        (b'["a", {"b64": "aGVsbG8="}, "\xff"]', "bytes_list", [b"a", b"hello", b"\xff"]),
        (b'{"b64": ""}', "bytes_list", [b""]),
        (b"20", "int64_list", [20]),
        (b"[-1, 0, 127, 128, 300]", "int64_list", [-1, 0, 127, 128, 300]),
        (
            b"[9223372036854775807, -9223372036854775808]",
            "int64_list",
            [2**63 - 1, -(2**63)],
        ),
        (b"[true, false, 5]", "int64_list", [1, 0, 5]),
        (b"20.0", "float_list", [20.0]),
        (
            b"[1.5, -2e2, Infinity, 1e39, -0.0]",
            "float_list",
            [1.5, -200.0, math.inf, math.inf, -0.0],
        ),
        (b"[18446744073709551616]", "float_list", [2.0**64]),
        (b"[]", None, []),
    ],
)
def test_the_first_element_decides_the_kind_of_a_feature(
    content: bytes, kind: str | None, values: list[Any]
) -> None:
    assert _features(b'{"examples": [{"x": %b}]}' % content) == [{"x": (kind, values)}]


def test_nan_is_a_float() -> None:
    ((kind, (value,)),) = _features(b'{"examples": [{"x": NaN}]}')[0].values()
    assert (kind, math.isnan(value)) == ("float_list", True)


def test_examples_have_features_of_their_own() -> None:
    body = b'{"examples": [{"age": 20, "n\\u00e9": [8.0, 9.5]}, {}, {"age": %b}]}' % (
        b"[" + b",".join([b"1"] * 300) + b"]"
    )
    assert _features(body) == [
        {"age": ("int64_list", [20]), "né": ("float_list", [8.0, 9.5])},
        {},
        {"age": ("int64_list", [1] * 300)},
    ]


def test_the_context_is_merged_into_each_example() -> None:
    body = b"""{"context": {"query": "pizza", "age": 1},
                "examples": [{"age": 2}, {}], "signature_name": "echo"}"""
    request = parse_examples(body)
    assert request.signature_name == "echo"
    assert [_read(example) for example in request.examples] == [
        {"query": ("bytes_list", [b"pizza"]), "age": ("int64_list", [2])},
        {"query": ("bytes_list", [b"pizza"]), "age": ("int64_list", [1])},
    ]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"[]", "JSON Value: [] Is not object"),
        (
            b'{"signature_name": 1, "examples": 5}',
            (
                'JSON Value: {\n    "signature_name": 1,\n    "examples": 5\n} not formatted'
                " correctly. 'signature_name' key must be a string value."
            ),
        ),
        (
            b"{}",
            "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
        ),
        (
            b'{"examples": {}}',
            "JSON Value: {\n    \"examples\": {}\n} Expecting 'examples' value to be an list/array",
        ),
        (
            b'{"examples": []}',
            "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array",
        ),
        (b'{"examples": [[{"x": 1.0}]]}', "Example must be JSON object but got JSON Array"),
        (b'{"context": null, "examples": 1}', "Example must be JSON object but got JSON Null"),
        (
            b'{"examples": [{"names": [10, {"test": 10}]}]}',
            "Feature: names has element with unexpected JSON type: Object",
        ),
        (
            b'{"examples": [{"names": null}]}',
            "Feature: names has element with unexpected JSON type: Null",
        ),
        (
            b'{"examples": [{"names": [[1]]}]}',
            "Feature: names has element with unexpected JSON type: Array",
        ),
        (
            b'{"examples": [{"names": [20, 18446744073709551603]}]}',
            "Feature: names has uint64_t element. Only int64_t is supported.",
        ),
        (
            b'{"examples": [{"names": ["a", 1]}]}',
            "Unexpected element type in feature: names expecting type: bytes",
        ),
        (
            b'{"examples": [{"names": [1, 1.0]}]}',
            "Unexpected element type in feature: names expecting type: int64",
        ),
        (
            b'{"examples": [{"\xff": [1.0, {"b64": "!"}]}]}',
            "Unexpected element type in feature: \N{REPLACEMENT CHARACTER} expecting type: float",
        ),
        (b'{"examples": [{"names": {"b64": "!"}}]}', "Unable to base64 decode"),
    ],
)
def test_refuses_in_the_words_of_tensorflow_serving(body: bytes, error: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        parse_examples(body)
    assert str(refusal.value) == error


def test_nesting_over_the_limit_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="JSON nesting is over the limit of 3"):
        parse_examples(b'{"examples": [{"x": [1, []]}]}', Limits(nesting=3))


@given(body=st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for text in (body, b'{"examples":[{"x":' + body, b'{"examples":[{"' + body + b'":1}]}'):
        try:
            parse_examples(text)
        except ServingError as refusal:
            assert str(refusal)
