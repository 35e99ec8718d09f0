"""Builds shared objects that only need others, to set the order in which the linker searches them.

Source: the ELF specification, and glibc's elf/dl-lookup.c: for everything that one dlopen loads,
symbols are looked up in the opened object, then in the objects that it needs, in order.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

__all__ = ["shared_object"]

_HEADER, _SEGMENT, _ENTRY, _SYMBOL = 64, 56, 16, 24  # bytes of each, 64 bits
_NULL, _NEEDED, _HASH, _STRTAB, _SYMTAB, _STRSZ, _SYMENT = 0, 1, 4, 5, 6, 10, 11
_LOAD, _DYNAMIC, _GNU_STACK = 1, 2, 0x6474E551
_READ_WRITE = 6
_PAGE = 0x10000  # the largest one that Linux has, on ARM
_EI_CLASS, _MACHINE = slice(4, 8), slice(18, 20)


def shared_object(needed: Sequence[Path]) -> bytes:
    """A 64-bit ELF file without symbols, for the same processor as the first file in `needed`."""
    with needed[0].open("rb") as file:
        like = file.read(_HEADER)
    names = [bytes(path) + b"\0" for path in needed]
    strings = b"\0" + b"".join(names)
    segments, entries = 3, len(needed) + 6
    dynamic = _HEADER + segments * _SEGMENT
    symbols = dynamic + entries * _ENTRY
    table = symbols + _SYMBOL
    text = table + 16
    size = text + len(strings)
    offsets = [1 + sum(map(len, names[:index])) for index in range(len(names))]
    tags = [
        *((_NEEDED, offset) for offset in offsets),
        *((_HASH, table), (_STRTAB, text), (_SYMTAB, symbols)),
        *((_STRSZ, len(strings)), (_SYMENT, _SYMBOL), (_NULL, 0)),
    ]
    return b"".join(
        (
            b"\x7fELF" + like[_EI_CLASS] + bytes(8),
            struct.pack("<H", 3) + like[_MACHINE],  # ET_DYN
            struct.pack("<IQQQIHHHHHH", 1, 0, _HEADER, 0, 0, _HEADER, _SEGMENT, segments, 0, 0, 0),
            _segment(_LOAD, 0, size, _PAGE),
            _segment(_DYNAMIC, dynamic, entries * _ENTRY, 8),
            _segment(_GNU_STACK, 0, 0, 16),  # without it stacks would become executable
            *(struct.pack("<QQ", *tag) for tag in tags),
            bytes(_SYMBOL),
            struct.pack("<IIII", 1, 1, 0, 0),  # a hash table of no symbol
            strings,
        )
    )


def _segment(kind: int, offset: int, size: int, alignment: int) -> bytes:
    return struct.pack(
        "<IIQQQQQQ", kind, _READ_WRITE, offset, offset, offset, size, size, alignment
    )
