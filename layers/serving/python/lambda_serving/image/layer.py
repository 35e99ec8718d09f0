"""A folder as a layer of an image (OCI image spec, layer.md): a gzip of a tar.

The same names and bytes give the same layer: names are sorted; times, owners and the gzip
header's time are zero; modes are 0755 and 0644. The bytes of the gzip are those of this machine's
zlib: another build of it may compress otherwise, which gives another digest for the same tar.
"""

import os
import stat
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from lambda_serving.errors import Aborted, InvalidArgument, Unavailable
from lambda_serving.image.reference import Blob

__all__ = ["Layer", "packed"]

_CHUNK = 2**20
# Weights hold few repetitions but bytes that are more frequent than others: of random float32,
# runs and Huffman codes leave 0.925 at twice the speed at which a search for matches leaves 0.929.
_LEVEL, _STRATEGY = 1, zlib.Z_RLE
_GZIP = 31  # zlib's window of 32 kB, with the header of a gzip that has neither name nor time
_WHITEOUT = ".wh."


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: `diff_id` is the digest of the tar, `blob` is what a registry gets."""

    blob: Blob
    diff_id: str
    folder: Path
    parts: tuple[str, ...]

    def content(self) -> Iterator[bytes]:
        """The blob's bytes, made anew from the folder by each reader, so that no disk holds them.

        Raises what `packed` does, Aborted also when they are not those of the blob any more.
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

    What lies there in the layers below stays, unless a file has its name. Nothing is written.
    Raises InvalidArgument for a path that is not absolute and for what no layer of ours holds:
    links, devices, names that a layer has a meaning for; Aborted for a file that is written to
    meanwhile; Unavailable when the folder cannot be read.
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
    """Pieces of the tar, each with what of the gzip came out for it."""
    compressor = zlib.compressobj(_LEVEL, wbits=_GZIP, strategy=_STRATEGY)
    with _translate_errors(folder):
        for chunk in _tar(folder, parts):
            yield chunk, compressor.compress(chunk)
    yield b"", compressor.flush()


@contextmanager
def _translate_errors(folder: Path) -> Iterator[None]:
    """Tells what the disk refuses."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"Could not pack {folder} as a layer: {error}") from error


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
    """Entries for all in a folder, which is `name` in the tar."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path, entry_name = Path(entry), f"{name}/{entry.name}"
        if entry.name.startswith(_WHITEOUT):
            raise InvalidArgument(
                f"{path} would delete files in an image, as the names that begin with {_WHITEOUT}"
                " do. Rename it"
            )
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield _header(entry_name, tarfile.DIRTYPE)
            yield from _below(path, entry_name)
        elif stat.S_ISREG(mode):
            yield from _file(path, entry_name)
        else:
            raise InvalidArgument(
                f"{path} is neither a file nor a folder, but a link or a device. Put a copy of"
                " what it means in its place"
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
    """A ustar header; PAX records come before it only where it cannot hold a name or a size."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.size = kind, size
    entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
