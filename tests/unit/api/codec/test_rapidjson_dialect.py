"""rapidjson 1.1.0's dialect, as TensorFlow Serving sets its parser."""

import json
import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_serving.api.codec import json_pieces, json_reader, rapidjson_dialect
from lambda_serving.api.codec.json_reader import Limits
from lambda_serving.api.codec.json_value import Json
from lambda_serving.errors import InvalidArgument
from support.late_json import LATE

_DEEP = 10_000


def _parse(text: bytes) -> Json:
    """What the parser of the dialect makes of a text; the quick ones have to agree."""
    wanted = _outcome(rapidjson_dialect.parse, text, _DEEP)
    assert _outcome(json_pieces.parse, text, _DEEP) == wanted
    assert _outcome(_parse_within, text, _DEEP) == wanted
    return rapidjson_dialect.parse(text, _DEEP)


def _outcome(parse: Callable[[bytes, int], Json], text: bytes, nesting: int) -> str:
    try:
        return _told(parse(text, nesting))
    except InvalidArgument as error:
        return str(error)


def _told(value: Json) -> str:
    """All that is in a value, however deep it is nested."""
    told: list[str] = []
    left = [value]
    while left:
        match left.pop():
            case list() as elements:
                told.append(f"[{len(elements)}")
                left += elements
            case dict() as members:
                told.append(f"{{{list(members)}")
                left += members.values()
            case scalar:
                told.append(repr(scalar))
    return " ".join(told)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"null", None),
        (b"[true, false, null]", [True, False, None]),
        (b"{}", {}),
        (b"[]", []),
        (b"[[], [[]], {}]", [[], [[]], {}]),
        (b' \t\r\n{ "a" : [ 1 , 2.5 ] , "b" : { "c" : "d" } } ', {"a": [1, 2.5], "b": {"c": "d"}}),
        (b"\xef\xbb\xbf[1]", [1]),
        (b"[1] garbage", [1]),
        (b"1}", 1),
        (b"[1]\x00[2]", [1]),
        (b'{"a": 1, "a": 2}', {"a": 1}),
        (b'{"a": {"b": 1}, "a": [2]}', {"a": {"b": 1}}),
        (b"-0", 0),
        (b"-0.0", -0.0),
        (b"1e2", 100.0),
        (b"1E+2", 100.0),
        (b"0.1", 0.1),
        (b"5e-324", 5e-324),
        (b"1e-400", 0.0),
        (b"0e999", 0.0),
        (b"1.7976931348623157e308", 1.7976931348623157e308),
        (b"9223372036854775808", 2**63),
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", 2.0**64),
        (b"-9223372036854775808", -(2**63)),
        (b"-9223372036854775809", -(2.0**63)),
        (b"[1, -Infinity, Infinity, Inf, -Inf]", [1, -math.inf, math.inf, math.inf, -math.inf]),
        (b"01", 0),
        (b'""', ""),
        (rb'"\"\\\/\b\f\n\r\t"', '"\\/\b\f\n\r\t'),
        (rb'"\u0041\u00e9\u0000\ud83d\ude00"', "Aé\0\U0001f600"),
        (b'"a\x7fb"', "a\x7fb"),
        (b'"\xff\xc3"', "\udcff\udcc3"),
        (rb'"\udc00"', "\udced\udcb0\udc80"),
        (b'"%b"' % (b"x" * 1000), "x" * 1000),
        (rb'{"\u0061\"": "%b\\"}' % (b"\xff" * 300), {'a"': "\udcff" * 300 + "\\"}),
        (b'{"%b": 1}' % (b"x" * 1000), {"x" * 1000: 1}),
    ],
)
def test_reads_what_rapidjson_reads(text: bytes, value: Json) -> None:
    parsed = _parse(text)
    assert (parsed, repr(parsed)) == (value, repr(value))


@pytest.mark.parametrize("text", [b"NaN", b"-NaN"])
def test_reads_nan(text: bytes) -> None:
    value = _parse(text)
    assert isinstance(value, float)
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("text", "error", "offset"),
    [
        (b"  ", "The document is empty.", 2),
        (b"]", "The document is empty.", 0),
        (b",1", "The document is empty.", 0),
        (b"instances = [1, 2]", "Invalid value.", 0),
        (b"nul", "Invalid value.", 3),
        (b"[tru]", "Invalid value.", 4),
        (b"folse", "Invalid value.", 1),
        (b"[", "Invalid value.", 1),
        (b"[,1]", "Invalid value.", 1),
        (b"[1,]", "Invalid value.", 3),
        (b"[1, 2, x]", "Invalid value.", 7),
        (b"[+1]", "Invalid value.", 1),
        (b"[.5]", "Invalid value.", 1),
        (b"[-]", "Invalid value.", 2),
        (b"[-x]", "Invalid value.", 2),
        (b"[Nan]", "Invalid value.", 3),
        (b"[nan]", "Invalid value.", 2),
        (b"[+Inf]", "Invalid value.", 1),
        (b"[-Infinite]", "Invalid value.", 9),
        (b'{"a":}', "Invalid value.", 5),
        (b'{"a": \x00', "Invalid value.", 6),
        (b"{", "Missing a name for object member.", 1),
        (b"{'a': 1}", "Missing a name for object member.", 1),
        (b'{"a": 1,}', "Missing a name for object member.", 8),
        (b"{1: 2}", "Missing a name for object member.", 1),
        (b'{"a"', "Missing a colon after a name of object member.", 4),
        (b'{"a" 1}', "Missing a colon after a name of object member.", 5),
        (b'{"a": 1', "Missing a comma or '}' after an object member.", 7),
        (b'{"a": 1]', "Missing a comma or '}' after an object member.", 7),
        (b"[1", "Missing a comma or ']' after an array element.", 2),
        (b"[1 2]", "Missing a comma or ']' after an array element.", 3),
        (b"[01]", "Missing a comma or ']' after an array element.", 2),
        (b"[1.5.3]", "Missing a comma or ']' after an array element.", 4),
        (b"[[1, 2}", "Missing a comma or ']' after an array element.", 6),
        (b'["\\u12g4"]', "Incorrect hex digit after \\u escape in string.", 2),
        (b'["ab\\u12"]', "Incorrect hex digit after \\u escape in string.", 4),
        (b'["\\ud83d"]', "The surrogate pair in string is invalid.", 2),
        (b'["\\ud83d\\u0041"]', "The surrogate pair in string is invalid.", 2),
        (b'["\\ud83d\\u00', "Incorrect hex digit after \\u escape in string.", 2),
        (b'["a\\x"]', "Invalid escape character in string.", 3),
        (b'["a\nb"]', "Invalid escape character in string.", 3),
        (b'["abc', "Missing a closing quotation mark in string.", 5),
        (b'["abc\\"', "Missing a closing quotation mark in string.", 7),
        (b'["a\x00b"]', "Missing a closing quotation mark in string.", 3),
        (b"[1e309]", "Number too big to be stored in double.", 1),
        (b"[1, -2e999, 3e999]", "Number too big to be stored in double.", 4),
        (b"1" * 400, "Number too big to be stored in double.", 0),
        (b"[%b-0]" % (b"9" * 310), "Number too big to be stored in double.", 1),
        (b"[0.%b, 1e999.1]" % (b"1" * 320), "Number too big to be stored in double.", 325),
        (b"[1.]", "Miss fraction part in number.", 3),
        (b"[2, 1.e5]", "Miss fraction part in number.", 6),
        (b"[1e]", "Miss exponent in number.", 3),
        (b"[1.5E+]", "Miss exponent in number.", 6),
    ],
)
def test_refuses_in_the_words_of_rapidjson(text: bytes, error: str, offset: int) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        _parse(text)
    assert str(refusal.value) == f"JSON Parse error: {error} at offset: {offset}"


def test_no_text_has_an_error_of_its_own() -> None:
    with pytest.raises(InvalidArgument) as refusal:
        _parse(b"")
    assert str(refusal.value) == "JSON Parse error: The document is empty"


def test_nesting_up_to_the_limit_is_read() -> None:
    assert rapidjson_dialect.parse(b'[{"a":[]}]', 3) == [{"a": []}]
    for parse in (
        rapidjson_dialect.parse,
        lambda text, most: json_reader.parse(text, Limits(most)),
    ):
        with pytest.raises(InvalidArgument) as refusal:
            parse(b'[{"a":[]}]', 2)
        assert str(refusal.value) == "JSON nesting is over the limit of 2"


@pytest.mark.parametrize("piece", [b"[", b'{"a":', b'[{"a":'])
def test_a_million_levels_are_refused_at_once(piece: bytes) -> None:
    text = piece * 1_000_000
    calls = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        with pytest.raises(InvalidArgument, match="nesting is over the limit of 10000"):
            json_reader.parse(text, Limits())
    finally:
        sys.setprofile(None)
    assert calls < 600_000


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(
    value=_VALUES,
    layout=st.fixed_dictionaries(
        {"ensure_ascii": st.booleans(), "indent": st.sampled_from([None, 0, 2])}
    ),
)
def test_strict_json_is_read_as_orjson_reads_it(value: object, layout: dict[str, Any]) -> None:
    text = json.dumps(value, **layout).encode(errors="replace")
    strict = orjson.loads(text)
    assert repr(_parse(text)) == repr(json_reader.parse(text, Limits())) == repr(strict)


@given(
    text=st.binary()
    | st.text('[]{}:,"\\truefalsnN-+.0123456789eE \n\0\ud800').map(
        lambda text: text.encode(errors="surrogatepass")
    )
)
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    try:
        _parse(text)
    except InvalidArgument as refusal:
        assert str(refusal).startswith("JSON Parse error: ")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'{"a": 1, "a": 2}', {"a": 1}),
        (b'[{"a": {"b": 1, "b": 2}}, "x:"]', [{"a": {"b": 1}}, "x:"]),
        (b'{"a:b": ":"}', {"a:b": ":"}),
        (b"[NaN] x", None),
    ],
)
def test_the_quick_way_agrees_on_duplicates_and_the_dialect(text: bytes, value: Json) -> None:
    assert repr(json_reader.parse(text, Limits())) == repr(_parse(text))
    assert value is None or _parse(text) == value


_TOKENS = st.sampled_from(
    [
        *("0", "-0", "1.5e3", "1e-400", "18446744073709551615", "18446744073709551616", "1e308"),
        *("-9223372036854775809", "0." + "1" * 320, "7" * 305, "null", "true", "false"),
        *("NaN", "-NaN", "Inf", "-Inf", "Infinity", "-Infinity", "[]", "{}"),
        *(r'"\ud83d\ude00\udc80"', r'"\udfff\\"', r'"\u0041\""', '"Inf -NaN, [{:"', '""'),
    ]
).map(str.encode) | st.sampled_from([b'"\xff,\xc3\xa9"', b'"\xed\xb0\x80"'])
_NAMES = st.sampled_from([b'"a"', b'"b"', b'"\\u0061"', b'"\xff"', b'"\\udc80:"'])
_SPACE = st.sampled_from([b"", b" ", b"\n\t"])


def _listed(elements: st.SearchStrategy[bytes], brackets: bytes) -> st.SearchStrategy[bytes]:
    padded = st.tuples(_SPACE, elements, _SPACE).map(b"".join)
    opening, closing = brackets[:1], brackets[1:]
    return st.lists(padded, max_size=6).map(lambda each: opening + b",".join(each) + closing)


_TEXTS = st.recursive(
    _TOKENS,
    lambda inner: _listed(inner, b"[]") | _listed(st.tuples(_NAMES, inner).map(b":".join), b"{}"),
    max_leaves=30,
)
_SLIPS = st.sampled_from(
    [
        *(b"", b",", b"]", b"}", b"[", b"{", b":", b'"', b"\\", b"1", b"x", b"\0", b"nul", b"-"),
        *(b"1e999", b"1e", b"1.", b'"\\ud800"', b'"\\ud800\\u0041"', b'"\\x"', b'"\n"', b"Infi"),
        *(b"\xef\xbb\xbf", b"9" * 400, b" 1"),
    ]
)


@given(text=_TEXTS, slip=_SLIPS, place=st.floats(0, 1), cut=st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_the_quick_parser_reads_the_dialect_and_tells_the_same_errors(
    text: bytes, slip: bytes, place: float, cut: int
) -> None:
    at = int(place * len(text))
    for each in (text, text[:at] + slip + text[at + cut :]):
        for nesting in (_DEEP, 3):
            said = _outcome(rapidjson_dialect.parse, each, nesting)
            for size in (1, 5, 20, 2**17):
                in_pieces = partial(json_pieces.parse, sizes=(size,))
                assert _outcome(in_pieces, each, nesting) == said
            assert _outcome(_parse_within, each, nesting) == said


def _parse_within(text: bytes, nesting: int) -> Json:
    return json_reader.parse(text, Limits(nesting))


@pytest.mark.parametrize(
    ("head", "slip"),
    [(b"[", b"nul"), (b'{"a": [1,', b"{"), (b'["%b",' % (b'[,\\"' * 250_000), b'"')],
)
def test_an_error_behind_a_megabyte_is_told_at_its_place(head: bytes, slip: bytes) -> None:
    """Also where a string, an escape or an object lies across what is looked at together."""
    text = head + b'[1],{"x":"]\\"}"},' * 70_000 + slip
    with pytest.raises(InvalidArgument) as wanted:
        rapidjson_dialect.parse(text, _DEEP)
    with pytest.raises(InvalidArgument) as told:
        json_pieces.parse(text, _DEEP)
    assert str(told.value) == str(wanted.value)


@pytest.mark.parametrize("case", LATE)
def test_pieces_of_any_size_say_the_same(case: str) -> None:
    for text in (LATE[case].body(1), LATE[case].body(200)):
        said = _outcome(rapidjson_dialect.parse, text, _DEEP)
        for sizes in ((1,), (10,), (90, 9), (2**17, 700)):
            assert _outcome(partial(json_pieces.parse, sizes=sizes), text, _DEEP) == said
