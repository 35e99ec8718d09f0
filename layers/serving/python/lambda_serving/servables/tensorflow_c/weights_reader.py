"""Reads and checks the contents of weights while TensorFlow starts.

Threads read and hash whole files without Python's lock. They start before TensorFlow's library is
opened, because no thread can start while the linker works. Processes that share memory read only
once: the first one seals what it has read, the others map it.
"""

import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import accumulate

from lambda_serving.dtypes import DType
from lambda_serving.errors import DataLoss
from lambda_serving.servables.tensorflow_c import memory
from lambda_serving.servables.tensorflow_c.mapped_weights import MappedFile, Values, opened
from lambda_serving.servables.tensorflow_c.shared_memory import Shared, new_memory, seal

__all__ = ["file_name", "reading"]

_log = logging.getLogger(__name__)
_DIGEST_CHARACTERS = 32


def file_name(dtype: DType, shape: tuple[int, ...], content: bytes | memoryview) -> str:
    """The name of a tensor's file, derived from its content."""
    identity = hashlib.sha256(repr((dtype.name, shape)).encode())
    identity.update(content)
    return identity.hexdigest()[:_DIGEST_CHARACTERS]


@contextmanager
def reading(
    files: Sequence[MappedFile], shared: Shared | None = None
) -> Iterator[Callable[[], Values]]:
    """Reads files during the block; the function that it yields waits for their values.

    With `shared`, the values lie in memory shared with other processes if possible, and are read
    before the block. Both raise DataLoss when a file is missing, or its size or content does not
    match its tensor or name, and ResourceExhausted when there is no memory. Values that are unused
    at the end of the block are released.
    """
    laid_out, size = _laid_out(files)
    with ExitStack() as at_end:
        if shared and size:
            try:
                values = _shared(laid_out, size, shared)
            except OSError as error:
                folder = files[0].path.parent
                _log.warning("%s is not shared with other workers: %s", folder, error)
            else:
                at_end.callback(values.free)
                yield lambda: values
                return
        private = Values(_from(memory.private(size) if size else 0, laid_out))
        at_end.callback(private.free)
        finish = at_end.enter_context(_threads_reading(private.addresses))
        yield lambda: finish() or private


def _shared(laid_out: Mapping[MappedFile, int], size: int, shared: Shared) -> Values:
    """The values that another load has read, else reads them; raises OSError if sharing fails."""
    digests = hashlib.sha256("".join(file.path.name for file in laid_out).encode())
    name = digests.hexdigest()[:_DIGEST_CHARACTERS]
    with shared.locked() as found:
        descriptor = found.open(name)
        if descriptor is None:
            descriptor = _sealed(laid_out, size, name)
        try:
            found.add(name, descriptor)
            address = memory.map_file(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
    return Values(_from(address, laid_out), end=partial(os.close, descriptor))


def _sealed(laid_out: Mapping[MappedFile, int], size: int, name: str) -> int:
    """Reads files into new memory and seals it; returns its descriptor."""
    descriptor = new_memory(name, size)
    try:
        address = memory.map_file(descriptor, size, writable=True)
        try:
            with _threads_reading(_from(address, laid_out)) as finish:
                finish()
        finally:
            memory.unmap(address, size)
        seal(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _laid_out(files: Sequence[MappedFile]) -> tuple[dict[MappedFile, int], int]:
    """The offset of each file in memory, the largest first, and the total size."""
    ordered = sorted(set(files), key=lambda file: (-file.size, file.path.name))
    *starts, size = accumulate((memory.pages(file.size) for file in ordered), initial=0)
    return dict(zip(ordered, starts, strict=True)), size


def _from(address: int, laid_out: Mapping[MappedFile, int]) -> dict[MappedFile, int]:
    return {file: address + start for file, start in laid_out.items()}


@contextmanager
def _threads_reading(addresses: Mapping[MappedFile, int]) -> Iterator[Callable[[], None]]:
    """Reads and checks files on threads; yields a function that waits for all of them.

    One processor is left for the block. While it waits, it reads files too.
    """
    threads = ThreadPoolExecutor(max(1, _processors() - 1), "weights")
    try:
        reads = {file: threads.submit(_read, file, at) for file, at in addresses.items()}

        def finish() -> None:
            for file in reversed(reads):
                if reads[file].cancel():
                    _read(file, addresses[file])
            for read in reads.values():
                if not read.cancelled():
                    read.result()

        yield finish
    finally:
        threads.shutdown(cancel_futures=True)


def _read(file: MappedFile, address: int) -> None:
    with opened(file) as content:
        into, at = memory.view(address, file.size), 0
        while count := content.readinto(into[at:]):
            at += count
    if at < file.size or file_name(file.dtype, file.shape, into) != file.path.name:
        raise DataLoss(
            f"{file.path} does not match the digest in its name, so it has changed since it was"
            " compiled: copy it again"
        )


def _processors() -> int:
    """How many this process may use, where the system tells."""
    if sys.platform == "darwin":
        return os.cpu_count() or 1
    return len(os.sched_getaffinity(0))
