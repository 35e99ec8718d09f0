"""Makes a loadable copy, once, of an export that only its object graph can restore.

TensorFlow Serving cannot serve such exports: its graph restore leaves variables without a value
that the graph reads ("Could not find variable dense/bias").
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_cache_path

from lambda_serving.errors import FailedPrecondition
from lambda_serving.installation import mending
from lambda_serving.servables.tensorflow_c import library
from lambda_serving.servables.tensorflow_c.op_libraries import loaded_op_libraries
from lambda_serving.store import temporary

__all__ = ["loadable_copy"]

_FOLDER = "loadable"


def loadable_copy(export_dir: Path, tags: Sequence[str], cache: Path | None) -> Path:
    """A folder with the same SavedModel, tagged `serve`, that the graph restore can load.

    A child process makes it, the only one that imports Python TensorFlow. It is kept in `cache`
    (default: the user's cache folder) under the digest of the export's content, for later loads.
    Raises FailedPrecondition, with the reason and the fix, when the child cannot make it.
    """
    digest = _digest(export_dir, tags)
    if cache and (copy := cache / _FOLDER / digest).exists():
        return copy
    if not library.has_python():
        raise FailedPrecondition(
            f"{export_dir} needs its object graph to restore its variables. That takes Python"
            " TensorFlow, and only its libraries are installed here. Export it with"
            " model.export(path), or compile it where lambda-serving is installed with all of"
            f" TensorFlow ({mending('tensorflow')}) and serve the result"
        )
    folder = (cache or _default_cache()) / _FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (copy := folder / digest).exists():
        _make(export_dir, copy, tags)
    return copy


def _default_cache() -> Path:
    """The user's cache folder; one below /tmp if the home is not writable, as on Lambda."""
    cache = user_cache_path("lambda-serving")
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        cache = Path(tempfile.gettempdir(), f"lambda-serving-{os.getuid()}")
        cache.mkdir(mode=0o700, exist_ok=True)
        if cache.stat().st_uid != os.getuid():  # anyone may create folders in /tmp
            raise FailedPrecondition(
                f"{cache} belongs to another user; choose a folder with --cache_dir"
            ) from None
    return cache


def _digest(export_dir: Path, tags: Sequence[str]) -> str:
    digest = hashlib.sha256(repr((library.version(), *tags)).encode())
    for path in sorted(export_dir.rglob("*")):
        if path.is_file():
            digest.update(repr(path.relative_to(export_dir).as_posix()).encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _make(export_dir: Path, copy: Path, tags: Sequence[str]) -> None:
    """Writes beside and renames, so that an interrupted child leaves no partial copy."""
    with temporary.folder("making-", copy.parent) as folder:
        made = folder / "export"
        child = subprocess.run(
            [
                sys.executable,
                "-P",
                "-m",
                "lambda_serving.servables.reexport",
                str(export_dir),
                str(made),
                ",".join(loaded_op_libraries()),
                *tags,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if child.returncode:
            reason = _reason(child.returncode, child.stderr)
            raise FailedPrecondition(
                f"{export_dir} needs its object graph to restore its variables, and Python"
                f" TensorFlow could not do that: {reason}. Export it with model.export(path)"
            )
        temporary.keep(made, copy)


def _reason(code: int, said: str) -> str:
    if code < 0:
        return f"it was ended by signal {-code}, perhaps because memory ran out"
    return (said.strip().splitlines() or [f"exit code {code}"])[-1]
