"""MNIST's handwritten digits, read from and written to IDX files.

An IDX file holds one array: two zero bytes, the type of a value (8: unsigned byte), the number of
dimensions, each dimension as a big-endian uint32, then the values in row-major order. MNIST has two
parts, `train` and `t10k`, each a file of images [n, 28, 28] and a file of labels [n]. A file may be
gzipped, its name then ends in `.gz`.
"""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Digits", "MnistError", "load", "save"]

_UNSIGNED_BYTE = 8
_CLASSES = 10


class MnistError(Exception):
    """A file that is missing or is not the MNIST file its name promises."""


@dataclass(frozen=True, slots=True)
class Digits:
    """Images uint8 [n, 28, 28], 255 is full ink and 0 is paper, with their labels uint8 [n]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def pixels(self) -> NDArray[np.float32]:
        """The images as the models take them: float32 [n, 28, 28, 1], from 0 to 1."""
        return self.images[..., np.newaxis].astype(np.float32) / np.float32(255)

    def first(self, count: int) -> "Digits":
        """The first `count` digits, or all where there are fewer."""
        return Digits(self.images[:count], self.labels[:count])


def load(folder: Path, part: str) -> Digits:
    """The digits of one part (`train`, `t10k`); raises MnistError naming the file at fault."""
    images_file = _find(folder, f"{part}-images-idx3-ubyte")
    labels_file = _find(folder, f"{part}-labels-idx1-ubyte")
    images = _read(images_file, dimensions=3)
    labels = _read(labels_file, dimensions=1)
    if images.shape[1:] != (28, 28):
        height, width = images.shape[1:]
        raise MnistError(f"{images_file} has images of {height}x{width}, expected 28x28")
    if len(images) != len(labels):
        raise MnistError(
            f"{images_file} has {len(images)} images but {labels_file} has {len(labels)} labels"
        )
    if labels.size and labels.max() >= _CLASSES:
        raise MnistError(f"{labels_file} has a label {labels.max()}, expected 0 to 9")
    return Digits(images, labels)


def save(folder: Path, part: str, digits: Digits) -> None:
    """Writes one part as two gzipped files that `load` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / f"{part}-images-idx3-ubyte.gz", digits.images)
    _write(folder / f"{part}-labels-idx1-ubyte.gz", digits.labels)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise MnistError(f"There is neither {name} nor {name}.gz in {folder}")


def _read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise MnistError(f"Could not read {path}: {error}") from error
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if data[:4] != magic:
        raise MnistError(f"{path} begins with {data[:4].hex()!r}, expected {magic.hex()!r}")
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise MnistError(f"{path} ends inside its header of {start} bytes")
    shape = struct.unpack(f">{dimensions}I", data[4:start])
    if len(data) - start != math.prod(shape):
        raise MnistError(
            f"{path} holds {len(data) - start} values, its header says {math.prod(shape)}"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _write(path: Path, array: NDArray[np.uint8]) -> None:
    header = bytes([0, 0, _UNSIGNED_BYTE, array.ndim]) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    # Without a time in the header the same digits give the same file.
    path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))
