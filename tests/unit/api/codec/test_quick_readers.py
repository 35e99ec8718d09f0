"""The quick ways to read a predict request have the same outcome as the general one."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lambda_serving.api.codec import flat_numbers, numbers
from lambda_serving.dtypes import Array, DType
from support.predict_requests import GENERAL, QUICK, outcome, signature


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
    assert outcome(body, inputs, QUICK) == outcome(body, inputs, GENERAL)


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
    assert outcome(body, inputs, QUICK) == outcome(body, inputs, GENERAL)


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
        return outcome(body, inputs, QUICK)


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
    arrays = read.arrays(signature(**dict.fromkeys(names, DType.DOUBLE)).inputs)
    assert arrays
    for array in arrays.values():
        assert array.reshape(_IMAGE.shape).tolist() == _IMAGE.tolist()


@settings(max_examples=150, deadline=None)
@given(request=_requests())
def test_the_quick_ways_agree_with_the_general_one(
    request: tuple[bytes, dict[str, DType]],
) -> None:
    body, inputs = request
    assert outcome(body, inputs, QUICK) == outcome(body, inputs, GENERAL)
    assert _outcome_in_pieces(body, inputs) == outcome(body, inputs, GENERAL)


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
    assert outcome(broken, inputs, QUICK) == outcome(broken, inputs, GENERAL)
    assert _outcome_in_pieces(broken, inputs) == outcome(broken, inputs, GENERAL)
    assert outcome(body[:place], inputs, QUICK) == outcome(body[:place], inputs, GENERAL)


@given(body=st.binary(), dtype=st.sampled_from(list(DType)))
def test_any_bytes_are_read_or_refused(body: bytes, dtype: DType) -> None:
    for text in (body, b'{"instances":' + body, b'{"inputs":[' + body):
        outcome(text, {"x": dtype}, QUICK)
