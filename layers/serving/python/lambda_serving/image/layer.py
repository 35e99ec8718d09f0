"""Packs a folder as a layer of an image (OCI image spec, layer.md): a gzipped tar.

The same names and bytes give the same layer: names are sorted; times and owners, also in the gzip
header, are zero; modes are 0755 and 0644. Another build of zlib may compress differently, which
gives another digest for the same tar.
"""

import os
import stat
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from lambda_serving.errors import Aborted, InvalidArgument, Unavailable
from lambda_serving.image.reference import Blob

__all__ = ["Layer", "packed"]

_CHUNK = 2**20
# Weights have few repetitions, but some bytes are more frequent than others. Random float32 shrinks
# to 0.925 with runs and Huffman codes, twice as fast as to 0.929 with a search for matches.
_LEVEL, _STRATEGY = 1, zlib.Z_RLE
_GZIP = 31  # zlib's 32 kB window, with a gzip header without name or time
_WHITEOUT = ".wh."


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: `diff_id` is the digest of the tar, `blob` describes its gzip."""

    blob: Blob
    diff_id: str
    folder: Path
    parts: tuple[str, ...]

    def content(self) -> Iterator[bytes]:
        """The blob's bytes, packed again for each reader, so that they need no disk.

        Raises what `packed` raises, and Aborted if the bytes differ from the blob's.
        """
        digest, left = sha256(), self.blob.size
        for _, compressed in _packing(self.folder, self.parts):
            digest.update(compressed)
            left -= len(compressed)
            if left < 0:
                break
            yield compressed
        if left or f"sha256:{digest.hexdigest()}" != self.blob.digest:
            raise Aborted(
                f"{self.folder} changed while it was read. Append it when nothing writes to it"
            )


def packed(folder: Path, place: str) -> Layer:
    """The files of `folder` as a layer that puts them at `place`, an absolute path.

    Files of lower layers at `place` stay, unless the folder has the same name. Writes nothing.
    Raises InvalidArgument for a path that is not absolute, and for links, devices and names with a
    special meaning in layers; Aborted for a file that changes meanwhile; Unavailable when the
    folder cannot be read.
    """
    parts = _parts(place)
    diff_id, digest, size = sha256(), sha256(), 0
    for chunk, compressed in _packing(folder, parts):
        diff_id.update(chunk)
        digest.update(compressed)
        size += len(compressed)
    blob = Blob(f"sha256:{digest.hexdigest()}", size)
    return Layer(blob, f"sha256:{diff_id.hexdigest()}", folder, parts)


def _packing(folder: Path, parts: tuple[str, ...]) -> Iterator[tuple[bytes, bytes]]:
    """Pieces of the tar, each with the piece of the gzip that it produced."""
    compressor = zlib.compressobj(_LEVEL, wbits=_GZIP, strategy=_STRATEGY)
    try:
        for chunk in _tar(folder, parts):
            yield chunk, compressor.compress(chunk)
    except OSError as error:
        raise Unavailable(f"Could not pack {folder} as a layer: {error}") from error
    yield b"", compressor.flush()


def _parts(place: str) -> tuple[str, ...]:
    root, *parts = PurePosixPath(place).parts or ("",)
    if root != "/" or not parts or ".." in parts or "\0" in place:
        raise InvalidArgument(f"{place} is not the absolute path of a folder in an image")
    return tuple(parts)


def _tar(folder: Path, parts: tuple[str, ...]) -> Iterator[bytes]:
    for length in range(1, len(parts) + 1):
        yield _header("/".join(parts[:length]), tarfile.DIRTYPE)
    yield from _below(folder, "/".join(parts))
    yield tarfile.NUL * (2 * tarfile.BLOCKSIZE)


def _below(folder: Path, name: str) -> Iterator[bytes]:
    """Entries for the contents of a folder, which is `name` in the tar."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path, entry_name = Path(entry), f"{name}/{entry.name}"
        if entry.name.startswith(_WHITEOUT):
            raise InvalidArgument(
                f"{path} would delete files in an image, because its name begins with {_WHITEOUT}."
                " Rename it"
            )
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield _header(entry_name, tarfile.DIRTYPE)
            yield from _below(path, entry_name)
        elif stat.S_ISREG(mode):
            yield from _file(path, entry_name)
        else:
            raise InvalidArgument(
                f"{path} is neither a file nor a folder, but a link or a device. Replace it with a"
                " copy of its content"
            )


def _file(path: Path, name: str) -> Iterator[bytes]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        yield _header(name, tarfile.REGTYPE, size)
        left = size
        while left >= 0 and (chunk := file.read(_CHUNK)):
            left -= len(chunk)
            yield chunk
    if left:
        raise Aborted(f"{path} changed while it was read. Append it when nothing writes to it")
    yield tarfile.NUL * (-size % tarfile.BLOCKSIZE)


def _header(name: str, kind: bytes, size: int = 0) -> bytes:
    """A ustar header, with PAX records only if it cannot hold the name or size."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.size = kind, size
    entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
