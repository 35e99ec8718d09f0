"""Large messages read in pieces are what protobuf reads at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving import protos
from lambda_serving.api.rpc import large_requests
from lambda_serving.dtypes import Array
from lambda_serving.errors import InvalidArgument, ResourceExhausted
from lambda_serving.protos.tensor_proto import fill

_REQUESTS = [
    "PredictRequest",
    "ClassificationRequest",
    "RegressionRequest",
    "MultiInferenceRequest",
    "ReloadConfigRequest",
]


@pytest.fixture(autouse=True, scope="module")
def _small_pieces() -> Iterator[None]:
    with _pieces_of(8):
        yield


@contextmanager
def _pieces_of(size: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_requests, "_PIECE", size)
        yield


def _empty(name: str) -> Any:
    return protos.message(f"tensorflow.serving.{name}")()


def _no_bound(_: int) -> None: ...


def _agrees(name: str, body: bytes) -> None:
    ours = _empty(name)
    large_requests.read(ours, body, _no_bound)
    assert ours == type(ours).FromString(body)


def _number(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _number(rest) if rest else bytes([low])


def _field(number: int, content: bytes) -> bytes:
    return _number(number << 3 | 2) + _number(len(content)) + content


_INNER = st.recursive(
    st.binary(max_size=24),
    lambda content: st.lists(st.tuples(st.integers(1, 12), content), max_size=5).map(
        lambda fields: b"".join(_field(number, each) for number, each in fields)
    ),
    max_leaves=12,
)


@given(st.sampled_from(_REQUESTS), _INNER)
def test_any_bytes_are_refused_or_read_as_protobuf_reads_them(name: str, body: bytes) -> None:
    """Refused are groups and odd entries of maps, too."""
    ours, theirs = _empty(name), _empty(name)
    try:
        large_requests.read(ours, body, _no_bound)
    except InvalidArgument:
        return
    theirs.MergeFromString(body)
    _forget_unknown(ours, theirs)
    assert ours == theirs


def _forget_unknown(*messages: Any) -> None:
    """A large field that is not known is not read."""
    for each in messages:
        each.DiscardUnknownFields()


def _request(**inputs: Array) -> Any:
    request = _empty("PredictRequest")
    request.model_spec.name = "model"
    request.output_filter.extend(["y", "z"])
    for name, array in inputs.items():
        fill(request.inputs[name], array)
    return request


@pytest.mark.parametrize(
    "dtype", ["f4", "f8", "f2", "i1", "i4", "i8", "u4", "u8", "?", "c8", "c16", "O"]
)
def test_values_of_every_kind(dtype: str) -> None:
    numbers = np.arange(-300, 300)
    array: Array = (
        np.array([str(each).encode() for each in numbers], object)
        if dtype == "O"
        else numbers.astype(dtype)
    )
    _agrees("PredictRequest", _request(x=array, a=array[:5], other=array[::-1]).SerializeToString())


def test_last_entry_of_a_key_counts() -> None:
    one, two = (_request(x=np.arange(n, n + 30)).SerializeToString() for n in (0, 1000))
    _agrees("PredictRequest", one + two)


def test_repeated_occurrences_of_a_message_are_merged() -> None:
    tensor = _field(10, bytes(30))
    entry = _field(2, _field(1, b"x") + _field(2, tensor * 3))
    context = _field(2, _field(2, _field(1, b"\x0a\x00") * 9))
    examples = _field(2, _field(1, _field(1, b"\x0a\x00") * 9))
    _agrees("PredictRequest", _field(1, _field(1, b"one")) * 5 + entry)
    for body in (context + examples, examples + context + context, examples + examples):
        _agrees("ClassificationRequest", body)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("ClassificationRequest", lambda n: _field(2, _field(1, b"\x0a\x00" * n))),
        ("ClassificationRequest", lambda n: _field(2, _field(1, _field(1, b"\x0a\x00" * n)))),
        ("PredictRequest", lambda n: b"\x12\x00" * n),
        ("PredictRequest", lambda n: b"\x1a\x00" * n),
        ("PredictRequest", lambda n: b"\x78\x00" * n),
        ("PredictRequest", lambda n: _field(2, _field(2, b"\x42\x00" * n))),
        ("PredictRequest", lambda n: _field(2, _field(2, _field(2, b"\x12\x00" * n)))),
        ("MultiInferenceRequest", lambda n: b"\x0a\x00" * n),
        ("ReloadConfigRequest", lambda n: _field(1, _field(1, b"\x0a\x00" * n))),
    ],
)
def test_many_small_fields_count_as_what_they_take(name: str, body: Any) -> None:
    held = 0

    def hold(size: int) -> None:
        nonlocal held
        held += size
        if held > limit:
            raise ResourceExhausted("too much")

    limit, count = 2**20, 2**16
    message = _empty(name)
    with pytest.raises(ResourceExhausted):
        large_requests.read(message, body(count), hold)
    assert message == _empty(name)


def test_deeply_nested_message_is_refused() -> None:
    body = b""
    for _ in range(200):
        body = _field(15, _field(3, b"\x78\x00" * 40 + body))
    request = _field(2, _field(1, b"x") + _field(2, body))
    with pytest.raises(InvalidArgument):
        large_requests.read(_empty("PredictRequest"), request, _no_bound)


@pytest.mark.parametrize(
    "body",
    [
        b"\x0b\x0c",
        b"\x0a\x05a",
        b"\x80" * 12,
        b"\x0d\x00",
        _field(2, _field(1, b"a key and no value")),
        _field(2, _field(2, b"\x78\x00" * 9)),
    ],
)
def test_bytes_that_are_no_message_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument, match="PredictRequest"):
        large_requests.read(_empty("PredictRequest"), b"\x78\x00" * 9 + body, _no_bound)
