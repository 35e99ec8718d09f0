"""Damaged files: each is read as it was, has bad rows, or is refused in a sentence."""

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from lambda_serving.batch_job.chunks import Chunk
from lambda_serving.batch_job.readers import RowFormat, chunks
from lambda_serving.dtypes import DType
from lambda_serving.errors import DataLoss, InvalidArgument, ServingError
from lambda_serving.protos.tfrecord import record
from lambda_serving.servables.servable import Signature, TensorSpec

_ROWS = 5
_NUMBERS = Signature("s", {"x": TensorSpec(DType.FLOAT, (None, 2), "x")}, {}, "", b"", {})
_STRINGS = Signature("s", {"x": TensorSpec(DType.STRING, (None,), "x")}, {}, "", b"", {})


def _npz(save: Callable[..., None]) -> bytes:
    file = io.BytesIO()
    save(file, x=np.arange(2 * _ROWS, dtype=np.float32).reshape(_ROWS, 2))
    return file.getvalue()


_FILES = {
    "npz": (RowFormat.NPZ, _NUMBERS, _npz(np.savez)),
    "compressed npz": (RowFormat.NPZ, _NUMBERS, _npz(np.savez_compressed)),
    "tfrecord": (RowFormat.TFRECORD, _STRINGS, b"".join(record(b"row %d" % i) for i in range(5))),
    "jsonl": (RowFormat.JSONL, _NUMBERS, b'[1, 2.5]\n{"x": [0, 1e3]}\n' * 2 + b"[-1,2]"),
}


def _rows(kind: str, content: bytes) -> list[Any] | None:
    """The rows of a file, with the errors of bad ones; None for a file that is refused."""
    row_format, signature, _ = _FILES[kind]
    found: dict[int, Any] = {}
    try:
        for chunk in chunks(io.BytesIO(content), row_format, signature, 2):
            _add(chunk, found)
    except (DataLoss, InvalidArgument) as error:
        assert 10 < len(str(error)) < 1000
        return None
    return [found[number] for number in sorted(found)]


def _add(chunk: Chunk, found: dict[int, Any]) -> None:
    for part in chunk.parts:
        for place, values in zip(part.places, part.arrays["x"].tolist(), strict=True):
            found[chunk.first + place] = values
    for place, error in chunk.errors.items():
        found[chunk.first + place] = error


def _mutants(content: bytes) -> Iterator[bytes]:
    """Each byte changed, the file cut at each place, and 300 others with several changes."""
    for place in range(len(content)):
        yield content[:place]
        for mask in (1, 0x20, 0x80, 0xFF):
            yield content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :]
    chance = random.Random(13)  # noqa: S311 - the same ones each time
    for _ in range(300):
        start, end = sorted(chance.randrange(len(content)) for _ in range(2))
        rubbish = chance.randbytes(chance.randrange(20))
        yield content[:start] + rubbish + content[chance.choice((start, end)) :]


@pytest.mark.filterwarnings("ignore:Reading `.npy`")  # of a header like those of Python 2
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", _FILES)
def test_damaged_file_is_read_as_it_was_or_refused(kind: str) -> None:
    content = _FILES[kind][2]
    whole = _rows(kind, content)
    assert whole
    assert len(whole) == _ROWS
    for mutant in _mutants(content):
        rows = _rows(kind, mutant)
        if kind == "tfrecord":  # which may end behind any record
            assert rows is None or all(row in whole for row in rows), mutant
        elif kind != "jsonl":  # which has no checksum
            assert rows in (None, whole), mutant


def _archive(member: bytes, name: str = "x.npy", **fields: Any) -> bytes:
    """A zip file of one member, fields of whose entry in the directory are as they are given."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, member)
        for field, value in fields.items():
            setattr(archive.getinfo(name), field, value)
    return file.getvalue()


def _array(shape: str, descr: str = "'<f4'", data: bytes = b"", fortran: str = "False") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


_TEN = bytes(4 * 2 * _ROWS)
_HEADER = len(_array(f"({2**37}, 2)"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (_archive(_array("(-4, 2)", data=_TEN)), r"The array x has the shape \[-4, 2\]"),
        (_archive(_array("(5, -2)", data=_TEN)), "has the shape"),
        (_archive(_array("(-5, -2)", data=_TEN)), "has the shape"),
        (
            _archive(_array("(1000, 2)", data=_TEN)),
            "has 1000 rows of 8 bytes by its",
        ),
        (_archive(_array(f"({2**62}, {2**62})", data=_TEN)), "bytes by its header"),
        (_archive(_array("(0, 2)", data=_TEN)), "has 0 rows of 8 bytes by its header, and 40"),
        (_archive(_array("(4, 2)", data=_TEN)), "has 4 rows of 8 bytes by its header, and 40"),
        (_archive(_array(f"({2**40}, 0)")), f"has {2**40} rows without values"),
        (_archive(_array("(5,)", "'|O'", _TEN)), "holds object, and the signature takes"),
        (_archive(_array("(5,)", "[('a', '<f4')]", _TEN)), "holds .*a.*, and the signature takes"),
        (_archive(_array("(5,)", "('<f4', (2,))", _TEN)), "the signature takes"),
        (_archive(_array("(5,)", "'<M8[s]'", _TEN)), "the signature takes"),
        (_archive(_array("(5,)", "'<V8'", _TEN)), "the signature takes"),
        (_archive(_array("(5, 2)", data=_TEN, fortran="True")), "in Fortran's order"),
        (_archive(_array("(" * 400 + ")" * 400)), "This is not an npz file: "),
        (_archive(_array("(5, 2", data=_TEN)), "This is not an npz file: "),
        (_archive(_array("(5, 2)", "'nonsense'", _TEN)), "This is not an npz file: "),
        (_archive(_array("()")), "has no dimension of rows"),
        (
            _archive(_array("(1, 134217728)"), file_size=2**29 + len(_array("(1, 134217728)"))),
            "A row of the array x has",
        ),
        (_archive(b"\x93NUMPY\x09\x00"), "has an unknown format"),
        (_archive(b""), "This is not an npz file: "),
        (_archive(_array("(5, 2)", data=_TEN), flag_bits=1), "not an npz file: .*encrypted"),
        (_archive(_array("(5, 2)", data=_TEN), compress_type=97), "This is not an npz file: "),
        (_archive(_array("(5, 2)", data=_TEN), compress_type=14), "This is not an npz file: "),
        (_archive(_array("(5, 2)", data=_TEN), compress_type=12), "This is not an npz file: "),
        (_archive(_array("(5, 2)", data=_TEN), file_size=2**40), "by its header, and"),
        (_archive(_array(f"({2**37}, 2)", data=_TEN), file_size=2**40 + _HEADER), "cut short"),
        (
            _archive(_array("(5, 2)", data=_TEN), CRC=zlib.crc32(b"")),
            "not an npz file: Bad CRC",
        ),
        (_archive(_array("(5, 2)", data=_TEN), header_offset=2**31), "This is not an npz file: "),
        (_archive(_array("(5, 2)", data=_TEN), "../x.npy"), "There is no array for the input x"),
    ],
)
def test_npz_that_claims_what_it_does_not_hold_is_refused_in_a_sentence(
    content: bytes, said: str
) -> None:
    with pytest.raises((DataLoss, InvalidArgument), match=said) as raised:
        list(chunks(io.BytesIO(content), RowFormat.NPZ, _NUMBERS, 2))
    assert isinstance(raised.value, ServingError)


class _Disk(io.BytesIO):
    """A file whose read of number `last` and all behind it fail."""

    def __init__(self, content: bytes, last: int) -> None:
        super().__init__(content)
        self.reads, self._last = 0, last

    def read(self, size: int | None = -1, /) -> bytes:
        self._count()
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        self._count()
        return super().readline(size)

    def _count(self) -> None:
        self.reads += 1
        if self.reads >= self._last:
            raise OSError(5, "Input/output error")


@pytest.mark.parametrize("kind", _FILES)
def test_disk_that_fails_midway_is_reported(kind: str) -> None:
    row_format, signature, content = _FILES[kind]
    whole = _Disk(content, 1000)
    list(chunks(whole, row_format, signature, 2))
    with pytest.raises(DataLoss, match="Could not read on: Input/output error"):
        list(chunks(_Disk(content, whole.reads), row_format, signature, 2))
