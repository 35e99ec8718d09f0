"""The messages between a worker and its parent, over a UNIX socket.

A frame is a head, the topic in UTF-8 and the payload. The head is big-endian: kind (1 byte),
number (4), length of the topic (2), length of the payload (4). `joined` payloads are one payload
in which each is preceded by its length (4).
"""

import asyncio
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import IO, Self

__all__ = ["Frame", "Kind", "joined", "split"]

_HEAD = struct.Struct(">BIHI")
_LENGTH = struct.Struct(">I")


class Kind(IntEnum):
    """What a frame means; its sender in brackets."""

    START = auto()
    """(parent) The settings as JSON; the number is 1 for a worker that replaces another."""
    KEPT = auto()
    """(parent) Before START: the last payload that was gathered with `keep` under this topic."""
    READY = auto()
    """(worker) Loading is done; the number is 1 while a model has no version that answers."""
    LISTEN = auto()
    """(parent) Accept from these sockets: each byte of the payload is a worker's number."""
    SERVING = auto()
    """(worker) It accepts connections."""
    CLOSING = auto()
    """(worker) It is shutting down, and accepts no more connections."""
    FAILED = auto()
    """(worker) It ends with an error, whose code is the number and whose message the payload."""
    ASK = auto()
    """(worker) `Worker.gather`; its ANSWERS have the same number."""
    KEEP = auto()
    """(worker) The same with `keep`."""
    CALL = auto()
    """(parent) Asks one worker for a gather; its REPLY has the same number."""
    REPLY = auto()
    """(worker) That worker's answer."""
    ANSWERS = auto()
    """(parent) The answers of all workers, joined."""
    PING = auto()
    """(parent) Sent every second, to see whether the worker lives."""
    PONG = auto()
    """(worker) It lives. The number counts PINGs that its event loop has not handled; the payload
    is empty unless a model has no version that answers."""


@dataclass(frozen=True, slots=True)
class Frame:
    kind: Kind
    number: int = 0
    topic: str = ""
    payload: bytes = b""

    def __bytes__(self) -> bytes:
        topic = self.topic.encode()
        head = _HEAD.pack(self.kind, self.number, len(topic), len(self.payload))
        return head + topic + self.payload

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> Self | None:
        """The next frame; None at the end of the stream, even in the middle of a frame."""
        try:
            kind, number, *lengths = _HEAD.unpack(await reader.readexactly(_HEAD.size))
            topic, payload = [await reader.readexactly(length) for length in lengths]
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return cls(Kind(kind), number, topic.decode(), payload)

    @classmethod
    def read_from(cls, file: IO[bytes]) -> Self | None:
        """The same for a blocking file."""
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        kind, number, *lengths = _HEAD.unpack(head)
        topic, payload = [file.read(length) for length in lengths]
        return cls(Kind(kind), number, topic.decode(), payload)


def joined(payloads: Iterable[bytes]) -> bytes:
    return b"".join(_LENGTH.pack(len(each)) + each for each in payloads)


def split(payload: bytes) -> list[bytes]:
    """The payloads that `joined` put into this one."""
    found, at = [], 0
    while at < len(payload):
        (length,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size + length
        found.append(payload[at - length : at])
    return found
