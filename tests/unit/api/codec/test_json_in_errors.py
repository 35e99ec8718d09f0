"""JSON values in error messages."""

import pytest

from lambda_serving.api.codec.json_in_errors import echo, plain, quote, type_name
from lambda_serving.api.codec.json_value import Json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (-5, "-5"),
        (2**64 - 1, "18446744073709551615"),
        ('a"\\\b\f\n\r\t\x01\x1f/é', '"a\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001F/é"'),
        ("\udcff", '"\N{REPLACEMENT CHARACTER}"'),
        ([], "[]"),
        ({}, "{}"),
        ([1, [2, "x"], []], '[1, [2, "x"], []]'),
        ({"a": 1, "b": {}}, '{\n    "a": 1,\n    "b": {}\n}'),
        ([{"a": [{}]}], '[{\n        "a": [{}]\n    }]'),
        ({"a": {"b": [1]}}, '{\n    "a": {\n        "b": [1]\n    }\n}'),
    ],
)
def test_layout_is_that_of_rapidjson(value: Json, text: str) -> None:
    assert echo(value) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (100.0, "100.0"),
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (-2.5, "-2.5"),
        (0.1, "0.1"),
        (123456.789, "123456.789"),
        (1e20, "100000000000000000000.0"),
        (1e21, "1e21"),
        (1e22, "1e22"),
        (1.5e30, "1.5e30"),
        (1.25e-7, "1.25e-7"),
        (0.00000125, "0.00000125"),
        (5e-324, "5e-324"),
        (-1.7976931348623157e308, "-1.7976931348623157e308"),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_numbers_are_written_as_rapidjson_writes_them(number: float, text: str) -> None:
    assert echo(number) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"pad": "a" * 300, "b": 5}, '{\n    "pad": "' + "a" * 300 + '"'),
        ([1] * 1000, "[" + ", ".join(["1"] * 86)),
        ([12] * 64, "[" + ", ".join(["12"] * 64) + "]"),
    ],
)
def test_the_text_ends_with_the_token_that_passes_256_bytes(value: Json, text: str) -> None:
    assert echo(value) == text


def test_deep_nesting_is_cut_too() -> None:
    value: Json = []
    for _ in range(100_000):
        value = [value]
    assert echo(value) == "[" * 257


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "Null"),
        (True, "True"),
        (False, "False"),
        ({}, "Object"),
        ([], "Array"),
        ("", "String"),
        (1, "Number"),
        (1.5, "Number"),
    ],
)
def test_types_have_the_names_of_rapidjson(value: Json, name: str) -> None:
    assert type_name(value) == name


def test_quoting_leaves_bytes_that_are_not_utf8_alone() -> None:
    assert quote(b'\xff/"\x00') == b'"\xff/\\"\\u0000"'


def test_a_message_shows_bytes_that_are_not_utf8_as_replaced() -> None:
    assert plain("a\udcff") == "a\N{REPLACEMENT CHARACTER}"
