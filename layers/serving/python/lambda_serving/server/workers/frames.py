"""What a worker and its parent tell one another on a UNIX socket.

A frame is a head, the topic in UTF-8 and the payload. The head, big end first: the kind (1 byte),
a number (4), the length of the topic (2), the length of the payload (4). Several payloads are one
as each with its length (4) before it.
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
    """What a frame says; its direction in brackets."""

    START = auto()
    """(parent) The settings as JSON; the number is 1 for a worker in place of one that served."""
    KEPT = auto()
    """(parent) Before START: what was gathered last under this topic to be kept."""
    READY = auto()
    """(worker) It could answer; the number is 1 while a model is lacking."""
    LISTEN = auto()
    """(parent) The payload's bytes are the numbers of the sockets to accept from."""
    SERVING = auto()
    """(worker) It answers."""
    CLOSING = auto()
    """(worker) It is about to end, and accepts no more."""
    FAILED = auto()
    """(worker) It ends because of an error: its code is the number, its message the payload."""
    ASK = auto()
    """(worker) `Worker.gather`; the number is that of its ANSWERS."""
    KEEP = auto()
    """(worker) The same, to be kept for those that start later."""
    CALL = auto()
    """(parent) Part of a gather; the number is that of its REPLY."""
    REPLY = auto()
    """(worker) The answer of one."""
    ANSWERS = auto()
    """(parent) Those of all, joined."""
    PING = auto()
    """(parent) A question, every second, whether it lives."""
    PONG = auto()
    """(worker) It does; the number counts PINGs that its event loop has not seen, the payload is
    empty unless a model is lacking."""


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
        """The next frame, None at the end, be it in the middle of one."""
        try:
            kind, number, *lengths = _HEAD.unpack(await reader.readexactly(_HEAD.size))
            topic, payload = [await reader.readexactly(length) for length in lengths]
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return cls(Kind(kind), number, topic.decode(), payload)

    @classmethod
    def read_from(cls, file: IO[bytes]) -> Self | None:
        """The same, of a file that blocks."""
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        kind, number, *lengths = _HEAD.unpack(head)
        topic, payload = [file.read(length) for length in lengths]
        return cls(Kind(kind), number, topic.decode(), payload)


def joined(payloads: Iterable[bytes]) -> bytes:
    return b"".join(_LENGTH.pack(len(each)) + each for each in payloads)


def split(payload: bytes) -> list[bytes]:
    """The payloads of which `joined` made this one."""
    found, at = [], 0
    while at < len(payload):
        (length,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size + length
        found.append(payload[at - length : at])
    return found
