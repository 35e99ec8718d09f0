"""TFRecord files: payloads, each with its length and two checksums.

Source: tensorflow/core/lib/io/record_reader.cc. A record is its length (8 bytes), the masked
CRC-32C of these, the payload, and the payload's masked CRC-32C, all little endian.
"""

import struct
from collections.abc import Iterator
from typing import IO

from lambda_serving.errors import DataLoss

__all__ = ["record", "records"]

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")


def records(file: IO[bytes], most: int) -> Iterator[bytes]:
    """The payloads of an uncompressed file, in order.

    Raises DataLoss, naming the record, if it is broken or has over `most` bytes.
    """
    number = 1
    while header := file.read(_HEADER.size):
        if len(header) < _HEADER.size:
            raise DataLoss(f"Record {number} is cut short")
        length, crc = _HEADER.unpack(header)
        if crc != _masked_crc(header[:8]):
            raise DataLoss(f"Record {number} does not start like one of a TFRecord file")
        if length > most:
            raise DataLoss(f"Record {number} has {length} bytes, over the limit of {most}")
        payload, footer = file.read(length), file.read(_CRC.size)
        if len(footer) < _CRC.size:
            raise DataLoss(f"Record {number} is cut short")
        if _CRC.unpack(footer)[0] != _masked_crc(payload):
            raise DataLoss(f"Record {number} does not match its checksum")
        yield payload
        number += 1


def record(payload: bytes) -> bytes:
    """A payload as an uncompressed record of a file."""
    length = struct.pack("<Q", len(payload))
    header = length + _CRC.pack(_masked_crc(length))
    return header + payload + _CRC.pack(_masked_crc(payload))


def _masked_crc(data: bytes) -> int:
    import google_crc32c  # imported only if there are such files

    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
