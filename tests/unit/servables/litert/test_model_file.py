"""Files of LiteRT models are read without trust: any bytes give signatures or a sentence."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving.errors import DataLoss, FailedPrecondition
from lambda_serving.servables.litert.model_file import read

# The root table at byte 12 has a vtable at byte 8 without fields.
_EMPTY = b"\x0c\0\0\0TFL3" + b"\x04\0\x04\0" + b"\x04\0\0\0"


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(content: bytes) -> None:
    with pytest.raises(DataLoss, match="no LiteRT model"):
        read(content.replace(b"TFL3", b""))
    with suppress(DataLoss, FailedPrecondition):
        read(content[:4] + b"TFL3" + content[4:])


@given(st.lists(st.tuples(st.integers(8, 15), st.integers(0, 255))))
def test_any_table_is_refused_in_words(changes: list[tuple[int, int]]) -> None:
    content = bytearray(_EMPTY)
    for place, byte in changes:
        content[place] = byte
    with pytest.raises((DataLoss, FailedPrecondition)):
        read(bytes(content))


def test_file_without_version_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match="version 0 of the format, and LiteRT reads"):
        read(_EMPTY)
