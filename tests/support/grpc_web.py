"""Bodies of gRPC-Web, as a client writes and reads them."""

import struct
from typing import Any

from lambda_serving import protos
from support.rpc_client import METHODS, arrays

__all__ = ["BINARY", "TEXT", "frame", "frames", "outputs"]

BINARY = "application/grpc-web+proto"
TEXT = "application/grpc-web-text"
_HEAD = ">BI"
_RESPONSE = protos.message(f"tensorflow.serving.{METHODS['Predict'][2]}")


def frame(content: bytes, flags: int = 0) -> bytes:
    return struct.pack(_HEAD, flags, len(content)) + content


def frames(body: bytes) -> list[tuple[int, bytes]]:
    """Flags and content of each."""
    found, start = [], 0
    while start < len(body):
        flags, length = struct.unpack_from(_HEAD, body, start)
        start += struct.calcsize(_HEAD) + length
        found.append((flags, body[start - length : start]))
    return found


def outputs(body: bytes) -> dict[str, list[Any]]:
    """The outputs in an answer of Predict that is OK."""
    (flags, content), trailers = frames(body)
    assert (flags, trailers) == (0, (128, b"grpc-status:0\r\n"))
    return {name: array.tolist() for name, array in arrays(_RESPONSE.FromString(content)).items()}
