"""Rows of a file, many at once: what each is by itself, or nothing."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_serving.api.codec import decode_row, decode_rows
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import ServingError
from lambda_serving.servables.servable import Signature, TensorSpec


def _signature(**inputs: DType) -> Signature:
    specs = {name: TensorSpec(dtype, None, f"{name}:0") for name, dtype in inputs.items()}
    return Signature("serving_default", specs, {}, "", b"", {})


_ONE = _signature(x=DType.FLOAT)


def _one_by_one(rows: Sequence[bytes], signature: Signature) -> dict[str, Array]:
    each = [decode_row(row, signature) for row in rows]
    return {name: np.concatenate([arrays[name] for arrays in each]) for name in signature.inputs}


def _assert_same(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("rows", "signature"),
    [
        ([b"1"], _ONE),
        ([b"[]", b"[]"], _ONE),
        ([b"1", b" 2.5", b"1e40\r"], _ONE),
        ([b"[1, 2]", b"[3,4]"], _ONE),
        ([b"[[1],[2]]", b"[[-3],[0.1]]"], _ONE),
        ([b'{"x": [1]}', b'{"x":[2]}'], _ONE),
        ([b"[300]", b"[-1]"], _signature(x=DType.UINT8)),
        (
            [b'{"x": [1, 2], "y": [1]}', b'{"x": [3, 4], "y": [9007199254740993]}'],
            _signature(x=DType.FLOAT, y=DType.INT64),
        ),
    ],
)
def test_numbers_of_one_shape_are_decoded_together(
    rows: Sequence[bytes], signature: Signature
) -> None:
    arrays = decode_rows(rows, signature)
    assert arrays is not None
    _assert_same(arrays, _one_by_one(rows, signature))


@pytest.mark.parametrize(
    "rows",
    [
        [b"1,2"],
        [b"1,2", b"3"],
        [b"1,2", b""],
        [b"1", b""],
        [b""],
        [b"[1,2],[3", b"4]"],
        [b"[[1],[2]", b"[3],[4]]"],
        [b"[1],[2]", b"[3]"],
        [b"[1]", b"[2],[3]"],
        [b"[1]", b"[1,2]"],
        [b"[1]", b"2"],
        [b"[1]", b"[true]"],
        [b"[1]", b'["x"]'],
        [b"[1]", b"[NaN]"],
        [b"[1]", b"[1]]}"],
        [b'1],"x":[1', b"2"],
        [b'{"x": [1]}', b'{"y": [1]}'],
        [b'{"x": [1]', b'"x": [1]}'],
    ],
)
def test_others_are_left_to_be_decoded_one_by_one(rows: Sequence[bytes]) -> None:
    assert decode_rows(rows, _ONE) is None


def test_a_row_out_of_range_is_left_to_be_decoded_alone() -> None:
    assert decode_rows([b"1", b"2147483648"], _signature(x=DType.INT32)) is None


_VALUES = st.recursive(
    st.sampled_from(["1", "2.5", "-0", "300", "1e39", "true", '"x"', '"["', "NaN"]),
    lambda inner: st.lists(inner, min_size=1, max_size=2).map(lambda items: f"[{','.join(items)}]"),
    max_leaves=4,
)
_ROWS = st.one_of(_VALUES, _VALUES.map('{{"x":{}}}'.format), st.just('{"x":1,"a2":2}'))


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(_ROWS, min_size=1, max_size=4),
    cuts=st.lists(st.integers(0, 60), max_size=3),
    dtype=st.sampled_from([DType.FLOAT, DType.INT32, DType.UINT8, DType.BOOL]),
)
def test_rows_that_are_cut_elsewhere_never_become_others(
    rows: list[str], cuts: list[int], dtype: DType
) -> None:
    signature, text = _signature(x=dtype), ",".join(rows)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    cut = [text[start:end] for start, end in pairwise(places)]
    at_commas = [piece.removeprefix(",") for piece in cut]
    for lines in (rows, cut, at_commas):
        values = [line.encode() for line in lines]
        if (arrays := decode_rows(values, signature)) is None:
            continue
        try:
            expected = _one_by_one(values, signature)
        except ServingError as error:
            pytest.fail(f"{lines} were decoded as {arrays}, and alone: {error}")
        _assert_same(arrays, expected)
