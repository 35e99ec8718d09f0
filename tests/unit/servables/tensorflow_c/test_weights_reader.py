"""Weights read and checked in threads, shared by processes, and given back whatever happens."""

import os
import socket
from collections.abc import Callable, Iterator
from ctypes import string_at
from pathlib import Path

import numpy as np
import psutil
import pytest

from lambda_serving.dtypes import DType
from lambda_serving.errors import DataLoss
from lambda_serving.servables.tensorflow_c.mapped_weights import MappedFile, Values
from lambda_serving.servables.tensorflow_c.shared_memory import Shared, new_memory, seal
from lambda_serving.servables.tensorflow_c.weights_reader import file_name, reading

_SIZES = (5_000_000, 70_001, 4096, 33, 0)
_MB = 2**20
_MEMORY = "memfd:lambda-serving-"


@pytest.fixture
def shared() -> Iterator[Shared]:
    register = new_memory("register")
    yield Shared(register)
    os.close(register)


def _files(folder: Path, *sizes: int) -> list[MappedFile]:
    return [_file(folder, size) for size in sizes]


def _file(folder: Path, size: int) -> MappedFile:
    content = np.random.default_rng(size).bytes(size)
    name = file_name(DType.UINT8, (size,), content)
    (folder / name).write_bytes(content)
    return MappedFile(folder / name, DType.UINT8, (size,), feed="", assignment="")


def _read(files: list[MappedFile], shared: Shared | None = None) -> Values:
    with reading(files, shared) as values:
        read = values()
        return Values(dict(read.addresses), _taken(read))


def _taken(values: Values) -> Callable[[], object] | None:
    """Its end, no longer its own: as `assign` does."""
    values.addresses.clear()
    end, values.end = values.end, None
    return end


def _contents(values: Values) -> list[bytes]:
    return [string_at(address, file.size) for file, address in values.addresses.items()]


def _inodes() -> set[str]:
    """Those of the shared memory that this process maps."""
    maps = (line.split() for line in Path("/proc/self/maps").read_text().splitlines())
    return {line[4] for line in maps if len(line) > 5 and _MEMORY in line[5]}


def _open_memory() -> list[Path]:
    """The open files of this process that are shared memory, but no register."""
    links = [(path, str(path.readlink())) for path in _open_files()]
    return [path for path, link in links if _MEMORY in link and "register" not in link]


def _open_files() -> list[Path]:
    return [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]


@pytest.mark.parametrize("sharing", [False, True])
@pytest.mark.parametrize("sizes", [_SIZES, (0,), ()])
def test_values_are_the_contents_of_the_files(
    tmp_path: Path, shared: Shared, sizes: tuple[int, ...], *, sharing: bool
) -> None:
    files = _files(tmp_path, *sizes)
    values = _read(files, shared if sharing else None)
    assert _contents(values) == [file.path.read_bytes() for file in values.addresses]
    assert set(values.addresses) == set(files)
    assert bool(_inodes()) == (sharing and any(sizes))
    values.free()
    assert (_inodes(), _open_memory()) == (set(), [])


def _becomes_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _becomes_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _becomes_a_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


_SPOILS: list[tuple[Callable[[Path], object], str]] = [
    (lambda path: os.truncate(path, 100), "has 100 bytes, its tensor 50000000"),
    (lambda path: os.truncate(path, 0), "has 0 bytes"),
    (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "has 50000001 bytes"),
    (lambda path: path.write_bytes(bytes(50_000_000)), "does not match the digest in its name"),
    (lambda path: path.unlink(), "Could not read .*: No such file"),
    (_becomes_a_folder, "Could not read .*: Is a directory"),
    (_becomes_a_pipe, "has 0 bytes"),
    (_becomes_a_loop, "Could not read .*symbolic links"),
]


@pytest.mark.parametrize("sharing", [False, True])
@pytest.mark.parametrize(("spoil", "sentence"), _SPOILS)
def test_file_that_is_not_what_was_compiled_is_told_and_the_memory_given_back(
    tmp_path: Path,
    shared: Shared,
    spoil: Callable[[Path], object],
    sentence: str,
    *,
    sharing: bool,
) -> None:
    files = _files(tmp_path, 50_000_000, 40_000_000, 30_000)
    before = psutil.Process().memory_info().rss
    spoil(files[0].path)
    with pytest.raises(DataLoss, match=f"{files[0].path.name}.*{sentence}|{sentence}"):
        _read(files, shared if sharing else None)
    assert psutil.Process().memory_info().rss - before < 30 * _MB
    assert (_inodes(), _open_memory()) == (set(), [])


@pytest.mark.parametrize("sharing", [False, True])
def test_unused_values_are_released(tmp_path: Path, shared: Shared, *, sharing: bool) -> None:
    files = _files(tmp_path, 50_000_000)
    before = psutil.Process().memory_info().rss
    with (
        pytest.raises(KeyError, match="TensorFlow"),
        reading(files, shared if sharing else None),
    ):
        raise KeyError("TensorFlow says no")
    assert psutil.Process().memory_info().rss - before < 30 * _MB
    assert (_inodes(), _open_memory()) == (set(), [])


def test_second_load_shares_what_the_first_has_read(tmp_path: Path, shared: Shared) -> None:
    files = _files(tmp_path, *_SIZES)
    first = _read(files, shared)
    for file in files:
        file.path.unlink()
    second = _read(files, shared)
    assert len(_inodes()) == 1
    assert _contents(second) == _contents(first)
    first.free()
    third = _read(files, shared)  # of the second, as the first has ended
    assert len(_inodes()) == 1
    second.free()
    third.free()
    assert (_inodes(), _open_memory()) == (set(), [])
    with pytest.raises(DataLoss, match="Could not read"):
        _read(files, shared)


def test_nobody_can_change_what_is_shared(tmp_path: Path, shared: Shared) -> None:
    values = _read(_files(tmp_path, 10_000), shared)
    (path,) = _open_memory()
    descriptor = os.open(path, os.O_RDWR)
    changes: list[Callable[[], object]] = [
        lambda: os.pwrite(descriptor, b"x", 0),
        lambda: os.ftruncate(descriptor, 0),
        lambda: os.ftruncate(descriptor, 20_000),
    ]
    for change in changes:
        with pytest.raises(PermissionError):
            change()
    os.close(descriptor)
    values.free()


def _not_sealed(name: str) -> int:
    return new_memory(name, 10_000)


def _of_another_name(_: str) -> int:
    descriptor = new_memory("0" * 32, 10_000)
    seal(descriptor)
    return descriptor


def _no_memory(_: str) -> int:
    return os.open(__file__, os.O_RDONLY)


def _socket(_: str) -> int:
    return socket.socket(socket.AF_UNIX).detach()


@pytest.mark.parametrize("other", [_not_sealed, _of_another_name, _no_memory, _socket, None])
def test_other_file_in_place_of_shared_memory_is_not_used(
    tmp_path: Path, shared: Shared, other: Callable[[str], int] | None
) -> None:
    files = _files(tmp_path, 10_000)
    values = _read(files, shared)
    (path,) = _open_memory()
    name = str(path.readlink()).removeprefix(f"/{_MEMORY}").removesuffix(" (deleted)")
    values.free()
    opened = -1
    if other:
        opened = other(name)
        os.dup2(opened, int(path.name))  # the number that the register still knows
    values = _read(files, shared)
    assert _contents(values) == [files[0].path.read_bytes()]
    values.free()
    if other:
        os.close(opened)
        if opened != int(path.name):
            os.close(int(path.name))
    assert _open_memory() == []


@pytest.mark.parametrize("left", [b"a", b"a ", b"a /pr", b"\n\n", b"a /proc/self/fd/0"])
def test_register_that_was_cut_short_is_written_anew(
    tmp_path: Path, shared: Shared, left: bytes
) -> None:
    os.pwrite(shared.register, left, 0)
    files = _files(tmp_path, 10_000)
    first, second = _read(files, shared), _read(files, shared)
    assert len(_inodes()) == 1
    first.free()
    second.free()


def test_endless_read_holds_up_nobody_for_ever(
    tmp_path: Path, shared: Shared, caplog: pytest.LogCaptureFixture
) -> None:
    files = _files(tmp_path, 10_000)
    with shared.locked():
        values = _read(files, Shared(shared.register, seconds=0.1))
    assert _contents(values) == [files[0].path.read_bytes()]
    assert _inodes() == set()
    assert "is not shared with other workers: " in caplog.text
    values.free()
