"""TensorProtos to arrays and back, against TensorFlow's makers and its `Tensor::FromProto`."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_serving import protos
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import InvalidArgument
from lambda_serving.protos.tensor_proto import LARGEST, claim, fill, to_array

_NUMERIC = [
    DType.FLOAT,
    DType.DOUBLE,
    DType.INT32,
    DType.UINT8,
    DType.INT16,
    DType.INT8,
    DType.COMPLEX64,
    DType.INT64,
    DType.BOOL,
    DType.BFLOAT16,
    DType.UINT16,
    DType.COMPLEX128,
    DType.HALF,
    DType.UINT32,
    DType.UINT64,
    DType.QINT8,
    DType.QUINT8,
    DType.QINT16,
    DType.QUINT16,
    DType.QINT32,
    DType.INT4,
    DType.UINT4,
    DType.INT2,
    DType.UINT2,
    DType.FLOAT8_E5M2,
    DType.FLOAT8_E4M3FN,
    DType.FLOAT8_E4M3FNUZ,
    DType.FLOAT8_E4M3B11FNUZ,
    DType.FLOAT8_E5M2FNUZ,
    DType.FLOAT4_E2M1FN,
]
_NOT_MADE = {DType.FLOAT8_E4M3FNUZ, DType.FLOAT8_E4M3B11FNUZ, DType.FLOAT8_E5M2FNUZ}
"""Those that `make_tensor_proto` does not know."""
_OF_FEW_BITS = {
    DType.INT4: range(-8, 8),
    DType.UINT4: range(16),
    DType.INT2: range(-2, 2),
    DType.UINT2: range(4),
    DType.FLOAT4_E2M1FN: (0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.5, -6),
}
_SHAPES = [(), (0,), (5,), (2, 0, 3), (2, 3, 1, 2)]


def _proto(dtype: int, *sizes: int, **fields: Any) -> Any:
    proto = protos.message("tensorflow.TensorProto")(dtype=int(dtype), **fields)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


def _sample(dtype: DType, shape: tuple[int, ...]) -> Array:
    """Arrays of arbitrary bits, infinities and NaNs among them; booleans of both values."""
    size = int(np.prod(shape))
    random = np.random.default_rng(5)
    if dtype is DType.BOOL:
        return random.integers(0, 2, size).astype(bool).reshape(shape)
    if dtype in _OF_FEW_BITS:
        return random.choice([*_OF_FEW_BITS[dtype]], shape).astype(dtype.numpy)
    return np.frombuffer(random.bytes(size * dtype.numpy.itemsize), dtype.numpy).reshape(shape)


def _same(got: Array, wanted: Array) -> bool:
    if got.dtype.name in ("int2", "int4"):  # the bits beside the value's own may differ
        assert got.dtype == wanted.dtype
        got, wanted = got.astype("i1"), wanted.astype("i1")
    return (got.dtype, got.shape, got.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())


def _as_tensorflow_reads(proto: Any) -> Array:
    """The op `ParseTensor` is `Tensor::FromProto` and nothing else."""
    import tensorflow as tf

    tensor = tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(proto.dtype))
    dtype = tensor.dtype.as_numpy_dtype
    if proto.dtype == DType.STRING:
        return np.asarray(tensor.numpy(), dtype)
    array: Array = np.asarray(tensor.numpy())
    return array.astype(dtype)


@pytest.mark.parametrize("shape", _SHAPES, ids=str)
@pytest.mark.parametrize("dtype", _NUMERIC)
def test_content_gives_the_array_it_was_made_of(dtype: DType, shape: tuple[int, ...]) -> None:
    array = _sample(dtype, shape)
    proto = _proto(dtype, *shape, tensor_content=array.tobytes())
    assert _same(to_array(proto), array)


@pytest.mark.parametrize("shape", _SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [*sorted(set(_NUMERIC) - _NOT_MADE), DType.STRING])
def test_proto_that_tensorflow_makes_gives_its_array(dtype: DType, shape: tuple[int, ...]) -> None:
    import tensorflow as tf

    if dtype is DType.STRING:
        flat = [b"", b"\0", b"\xff\xfe", b"text", b"x" * 300] * 3
        array: Array = np.array(flat[: int(np.prod(shape))], object).reshape(shape)
    else:
        array = (
            np.nan_to_num(_sample(dtype, shape))
            if dtype.numpy.kind == "f"
            else (_sample(dtype, shape))
        )
    made = tf.make_tensor_proto(array, int(dtype), shape)

    got = to_array(_proto(dtype).FromString(made.SerializeToString()))

    if dtype is DType.STRING:
        assert (got.shape, got.ravel().tolist()) == (shape, array.ravel().tolist())
        assert got.tolist() == tf.make_ndarray(made).tolist()
    else:
        assert _same(got, array)
        assert _same(got, tf.make_ndarray(made))


_VALUES: dict[str, tuple[DType, dict[str, Any]]] = {
    "float": (DType.FLOAT, {"float_val": [1.5, float("inf"), -0.0]}),
    "double": (DType.DOUBLE, {"double_val": [1.5, 1e300]}),
    "int32": (DType.INT32, {"int_val": [-(2**31), 2**31 - 1]}),
    "uint8 that wraps": (DType.UINT8, {"int_val": [300, -1]}),
    "int8 that wraps": (DType.INT8, {"int_val": [300, -200]}),
    "int16 that wraps": (DType.INT16, {"int_val": [70000, -70000]}),
    "uint16 that wraps": (DType.UINT16, {"int_val": [70000, -1]}),
    "int64": (DType.INT64, {"int64_val": [-(2**63), 2**63 - 1]}),
    "uint32": (DType.UINT32, {"uint32_val": [2**32 - 1, 1]}),
    "uint64": (DType.UINT64, {"uint64_val": [2**64 - 1, 1]}),
    "bool": (DType.BOOL, {"bool_val": [False, True]}),
    "string": (DType.STRING, {"string_val": [b"a\0", b"\xff", b""]}),
    "complex64": (DType.COMPLEX64, {"scomplex_val": [1.0, 2.0, 3.0, 4.0]}),
    "complex64 cut in half": (DType.COMPLEX64, {"scomplex_val": [1.0, 2.0, 3.0]}),
    "complex128": (DType.COMPLEX128, {"dcomplex_val": [1.0, 2.0, 3.0, 4.0]}),
    "half": (DType.HALF, {"half_val": [0x3C00, 0xC000]}),
    "half of too many bits": (DType.HALF, {"half_val": [0x13C00, -1]}),
    "bfloat16": (DType.BFLOAT16, {"half_val": [0x3F80, 0xC000]}),
    "qint8 that wraps": (DType.QINT8, {"int_val": [300, -200]}),
    "quint8 that wraps": (DType.QUINT8, {"int_val": [300, -1]}),
    "qint16 that wraps": (DType.QINT16, {"int_val": [70000, -70000]}),
    "quint16 that wraps": (DType.QUINT16, {"int_val": [70000, -1]}),
    "qint32": (DType.QINT32, {"int_val": [-(2**31), 2**31 - 1]}),
    "int4": (DType.INT4, {"int_val": [-8, 7]}),
    "uint4": (DType.UINT4, {"int_val": [0, 15]}),
    "int2": (DType.INT2, {"int_val": [-2, 1]}),
    "uint2": (DType.UINT2, {"int_val": [0, 3]}),
    "float8_e5m2": (DType.FLOAT8_E5M2, {"float8_val": b"\x3c\xbd"}),
    "float4_e2m1fn": (DType.FLOAT4_E2M1FN, {"float8_val": b"\x03\x0f"}),
}


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 4), (0,), (0, 3)], ids=str)
@pytest.mark.parametrize("case", _VALUES)
def test_fewer_values_repeat_the_last_and_more_are_ignored(
    case: str, shape: tuple[int, ...]
) -> None:
    dtype, fields = _VALUES[case]
    proto = _proto(dtype, *shape, **fields)
    got, wanted = to_array(proto), _as_tensorflow_reads(proto)
    if dtype is DType.STRING:
        assert (got.dtype.kind, got.shape, got.tolist()) == ("O", shape, wanted.tolist())
    else:
        assert _same(got, wanted)


@pytest.mark.parametrize("dtype", [*_NUMERIC, DType.STRING])
def test_no_values_are_zeros(dtype: DType) -> None:
    proto = _proto(dtype, 2, 2)
    assert to_array(proto).dtype == dtype.numpy
    assert to_array(proto).tolist() == _as_tensorflow_reads(proto).tolist()


@pytest.mark.parametrize(
    "content",
    [b"\x01\0\x02abb", b"\0\0\0", b"\x80\x01\0\0" + b"x" * 128, b"\x81\x00\0\0y"],
)
def test_strings_may_come_as_content(content: bytes) -> None:
    proto = _proto(DType.STRING, 3, tensor_content=content)
    assert to_array(proto).tolist() == _as_tensorflow_reads(proto).tolist()


@pytest.mark.parametrize(
    "proto",
    [
        _proto(DType.FLOAT, 0, tensor_content=b"ab"),
        _proto(DType.STRING, 0, tensor_content=b"ab"),
        _proto(DType.INT32, 2, tensor_content=b"\1\0\0\0\2\0\0\0", int_val=[7, 7]),
    ],
    ids=["content of no numbers", "content of no strings", "content before values"],
)
def test_content_counts_only_where_there_are_elements_and_then_before_values(proto: Any) -> None:
    got, wanted = to_array(proto), _as_tensorflow_reads(proto)
    assert (got.shape, got.tolist()) == (wanted.shape, wanted.tolist())


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (
            _proto(DType.FLOAT, 2, tensor_content=b"1234567"),
            "tensor_content has 7 bytes, float of shape [2] needs 8",
        ),
        (
            _proto(DType.DOUBLE, tensor_content=b"123456789"),
            "tensor_content has 9 bytes, double of shape [] needs 8",
        ),
        (_proto(DType.FLOAT, -1, float_val=[1]), "A tensor's shape must be fully known"),
        (_proto(DType.INVALID, 1), "A tensor of dtype 0 is not supported"),
        (_proto(DType.RESOURCE, 1), "A tensor of dtype 20 is not supported"),
        (_proto(DType.VARIANT, 1), "A tensor of dtype 21 is not supported"),
        (_proto(100 + DType.FLOAT, 1), "A tensor of dtype 101 is not supported"),
        (_proto(9999, 1), "A tensor of dtype 9999 is not supported"),
        (
            _proto(DType.FLOAT, 1 << 62, 4, float_val=[1]),
            f"A tensor of shape [{1 << 62}, 4] takes {1 << 66} bytes, over the limit of {LARGEST}",
        ),
        (
            _proto(DType.STRING, 1 << 61, string_val=[b"x"]),
            f"A tensor of shape [{1 << 61}] takes {1 << 66} bytes, over the limit of {LARGEST}",
        ),
    ],
)
def test_broken_proto_is_refused(proto: Any, message: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        to_array(proto)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    "content", [b"\x01\x02ab", b"\x01\x01abc", b"\x01", b"\xff\xff\xff\xff\xff\x01ab", b"\xff" * 9]
)
def test_broken_content_of_strings_is_refused_as_tensorflow_does(content: bytes) -> None:
    import tensorflow as tf

    proto = _proto(DType.STRING, 2, tensor_content=content)
    with pytest.raises(InvalidArgument) as raised:
        to_array(proto)
    assert str(raised.value) == "tensor_content does not hold 2 strings"
    with pytest.raises(tf.errors.InvalidArgumentError):
        _as_tensorflow_reads(proto)


@pytest.mark.parametrize("shape", [(), (2,)], ids=str)
def test_unknown_rank_is_not_looked_at(shape: tuple[int, ...]) -> None:
    proto = _proto(DType.FLOAT, *shape, float_val=[1])
    proto.tensor_shape.unknown_rank = True
    assert _same(to_array(proto), _as_tensorflow_reads(proto))


@pytest.mark.parametrize(
    "sizes",
    [
        [1] * 65,
        [0] * 300,
        [0, 1 << 62, 1 << 62],
        [1 << 62, 0, 1 << 62],
        [(1 << 63) - 1],
        [1 << 32, 1 << 32],
        [-1],
        [3, -(1 << 63)],
        [0, -1],
        [1 << 40, 0],
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [*_NUMERIC, DType.STRING])
def test_shape_that_no_tensor_has_is_refused(dtype: DType, sizes: list[int]) -> None:
    """Whatever the values: the last shape has no elements, but a product of it overflows."""
    for content in (b"", b"x"):
        with pytest.raises(InvalidArgument):
            to_array(_proto(dtype, *sizes, tensor_content=content))


_ANY_SIZES = st.lists(
    st.one_of(st.integers(-1, 3), st.sampled_from([1 << 20, 1 << 31, 1 << 62, (1 << 63) - 1])),
    max_size=70,
)
_BITS_32, _BITS_64 = st.integers(-(1 << 31), (1 << 31) - 1), st.integers(-(1 << 63), (1 << 63) - 1)
_ANY_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "tensor_content": st.binary(max_size=40),
        "version_number": _BITS_32,
        "float_val": st.lists(st.floats(width=32), max_size=5),
        "double_val": st.lists(st.floats(), max_size=5),
        "int_val": st.lists(_BITS_32, max_size=5),
        "string_val": st.lists(st.binary(max_size=5), max_size=5),
        "scomplex_val": st.lists(st.floats(width=32), max_size=5),
        "dcomplex_val": st.lists(st.floats(), max_size=5),
        "int64_val": st.lists(_BITS_64, max_size=5),
        "bool_val": st.lists(st.booleans(), max_size=5),
        "half_val": st.lists(_BITS_32, max_size=5),
        "uint32_val": st.lists(st.integers(0, (1 << 32) - 1), max_size=5),
        "uint64_val": st.lists(st.integers(0, (1 << 64) - 1), max_size=5),
    },
)


@given(
    dtype=st.one_of(st.integers(0, 30), _BITS_32),
    sizes=_ANY_SIZES,
    fields=_ANY_VALUES,
    unknown_rank=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_any_proto_is_an_array_that_fits_or_an_invalid_argument(
    dtype: int, sizes: list[int], fields: dict[str, Any], *, unknown_rank: bool
) -> None:
    proto = _proto(dtype, *sizes, **fields)
    proto.tensor_shape.unknown_rank = unknown_rank
    try:
        claimed = claim(proto, max_bytes=100_000)
        array = claimed.array()
    except InvalidArgument:
        return
    assert array.shape == tuple(sizes)
    assert array.nbytes <= claimed.size <= 100_000


@pytest.mark.parametrize("shape", _SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [*_NUMERIC, DType.STRING])
@pytest.mark.parametrize("as_content", [False, True], ids=["values", "content"])
def test_filled_proto_is_read_by_tensorflow_as_the_array(
    dtype: DType, shape: tuple[int, ...], *, as_content: bool
) -> None:
    strings = np.resize(np.array([b"", b"\0", b"\xff", b"x" * 300], object), shape)
    array = strings if dtype is DType.STRING else _sample(dtype, shape)
    proto = _proto(dtype)
    fill(proto, array, as_content=as_content)
    got = _as_tensorflow_reads(proto)
    assert proto.HasField("tensor_shape")
    if dtype is DType.STRING:
        assert (got.shape, got.tolist()) == (shape, array.tolist())
    else:
        assert _same(got, array)


@pytest.mark.parametrize("count", [0, 1, 31, 32, 5000])
@pytest.mark.parametrize(
    ("dtype", "field", "values_of"),
    [
        (DType.FLOAT, "float_val", lambda array: array.tolist()),
        (DType.DOUBLE, "double_val", lambda array: array.tolist()),
        (DType.BOOL, "bool_val", lambda array: array.tolist()),
        (DType.COMPLEX64, "scomplex_val", lambda array: array.view(np.float32).tolist()),
        (DType.COMPLEX128, "dcomplex_val", lambda array: array.view(np.float64).tolist()),
    ],
)
def test_values_written_from_memory_are_those_that_the_library_writes(
    dtype: DType, field: str, values_of: Any, count: int
) -> None:
    array = (np.arange(count) % 2 + 0.25 * (dtype is not DType.BOOL)).astype(dtype.numpy)
    got, wanted = _proto(dtype), _proto(dtype, count)
    fill(got, array)
    getattr(wanted, field).extend(values_of(array))
    assert got.SerializeToString() == wanted.SerializeToString()


_MEBIBYTE = 2**20


@pytest.mark.parametrize(
    "proto",
    [
        *[_proto(dtype, 1 << 30) for dtype in _NUMERIC],
        _proto(DType.FLOAT, 1 << 40, float_val=[1]),
        _proto(DType.COMPLEX128, 1 << 20, dcomplex_val=[1, 2]),
        _proto(DType.STRING, 1 << 16),
        _proto(DType.STRING, 1 << 16, string_val=[b"x"]),
        _proto(DType.STRING, 100, string_val=[b"x" * 100_000]),
        _proto(DType.STRING, 100, string_val=[b"", b"x" * 100_000]),
        _proto(DType.STRING, 1 << 16, tensor_content=bytes(1 << 16)),
    ],
    ids=lambda proto: f"{DType(proto.dtype).label} {proto.tensor_shape.dim[0].size}",
)
def test_proto_that_stands_for_more_than_allowed_is_refused_before_memory_is_taken(
    proto: Any,
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidArgument, match="bytes, over the limit of 1048576"):
            to_array(proto, _MEBIBYTE)
        assert tracemalloc.get_traced_memory()[1] < _MEBIBYTE
    finally:
        tracemalloc.stop()


def test_array_that_repeats_itself_over_the_limit_is_refused() -> None:
    proto = _proto(DType.FLOAT, 1 << 40, float_val=[1.0])
    with pytest.raises(InvalidArgument) as raised:
        to_array(proto, 4000)
    assert str(raised.value) == (
        f"A tensor of shape [{1 << 40}] takes {1 << 42} bytes, over the limit of 4000"
    )
