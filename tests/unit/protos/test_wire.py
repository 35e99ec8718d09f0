"""Fields found many at once are those that are found one by one, and those that protobuf reads."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving import protos
from lambda_serving.api.rpc import large_requests
from lambda_serving.errors import InvalidArgument
from lambda_serving.protos import wire, wire_blocks
from lambda_serving.protos.wire import Malformed
from lambda_serving.protos.wire_blocks import Fields

_Found = list[tuple[int, int, int, int]]


@pytest.fixture(autouse=True, scope="module")
def _small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire_blocks, "_FEW", 2)
        patch.setattr(wire_blocks, "_BLOCK", 64)
        patch.setattr(wire_blocks, "_RUN", 48)
        patch.setattr(large_requests, "_PIECE", 16)
        yield


def _varint(number: int, groups: int = 1) -> bytes:
    """A number, in so many bytes at least."""
    more = number > 0x7F or groups > 1
    low = number & 0x7F | (0x80 if more else 0)
    return bytes([low]) + (_varint(number >> 7, groups - 1) if more else b"")


def _field(number: int, kind: int, value: bytes, groups: int) -> bytes:
    length = _varint(len(value), groups) if kind == wire.LENGTH else b""
    return _varint(number << 3 | kind) + length + value


_VALUES = st.one_of(
    st.tuples(
        st.just(wire.VARINT), st.builds(_varint, st.integers(0, 2**64 - 1), st.integers(1, 10))
    ),
    st.tuples(st.just(wire.FIXED64), st.binary(min_size=8, max_size=8)),
    st.tuples(st.just(wire.FIXED32), st.binary(min_size=4, max_size=4)),
    st.tuples(st.just(wire.LENGTH), st.binary(max_size=20)),
    st.tuples(st.just(wire.LENGTH), st.binary(min_size=120, max_size=140)),
)
_FIELDS = st.builds(
    lambda number, value, groups: _field(number, value[0], value[1], groups),
    st.sampled_from([1, 2, 5, 8, 15, 16, 17, 2000, 2**29 - 1]),
    _VALUES,
    st.sampled_from([1, 1, 1, 2, 3]),
)
_BODIES = st.lists(
    st.tuples(_FIELDS, st.sampled_from([1, 1, 3, 40])).map(lambda each: each[0] * each[1]),
    max_size=30,
).map(b"".join)


def _one_by_one(body: bytes) -> _Found:
    return [(n, kind, content, end) for n, kind, _, content, end in wire.fields(body, 0, len(body))]


def _at_once(body: bytes) -> _Found:
    found: _Found = []
    for part in wire_blocks.parts(body, 0, len(body)):
        if isinstance(part, Fields):
            columns = (part.numbers, part.kinds, part.contents, part.ends)
            found += zip(*(column.tolist() for column in columns), strict=True)
        else:
            number, kind, _, content, end = part
            found.append((number, kind, content, end))
    return found


def _outcome(find: Callable[[bytes], _Found], body: bytes) -> _Found | None:
    try:
        return find(body)
    except Malformed:
        return None


@given(
    body=_BODIES, cut=st.integers(0, 60), wrong=st.sampled_from([b"", b"\x0b", b"\x00", b"\xff"])
)
def test_fields_found_at_once_are_those_found_one_by_one(
    body: bytes, cut: int, wrong: bytes
) -> None:
    for each in (body, body[: len(body) - cut], body[:cut] + wrong + body[cut:]):
        assert _outcome(_at_once, each) == _outcome(_one_by_one, each)


@pytest.mark.parametrize("name", ["PredictRequest", "ClassificationRequest"])
@given(body=_BODIES, cut=st.integers(0, 60))
def test_fields_read_are_those_that_protobuf_reads(name: str, body: bytes, cut: int) -> None:
    message = protos.message(f"tensorflow.serving.{name}")
    for each in (body, body[: len(body) - cut]):
        ours, theirs = message(), message()
        try:
            large_requests.read(ours, each, lambda _: None)
        except InvalidArgument:
            continue
        theirs.MergeFromString(each)
        theirs.DiscardUnknownFields()
        ours.DiscardUnknownFields()
        assert ours == theirs


@pytest.mark.parametrize(
    "element",
    [b"\x42\x00", b"\x42\x03abc", b"\x2d\x00\x00\x80\x3f", b"\x42\x00\x42\x01a", b"\x38\x81\x01"],
)
def test_many_short_fields_count_and_read_as_they_do_one_by_one(element: bytes) -> None:
    tensor = protos.message("tensorflow.TensorProto")
    body = element * 500
    held: list[int] = []
    read = tensor()
    large_requests.read(read, body, held.append)
    assert read == tensor.FromString(body)
    assert sum(held) == sum(32 + end - content for _, _, content, end in _one_by_one(body))
