"""Loads the `model.tflite` of a version's folder as a `Servable`."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path

import ai_edge_litert

from lambda_serving.errors import FailedPrecondition
from lambda_serving.servables import signature_defs
from lambda_serving.servables.litert import compiled_folder
from lambda_serving.servables.litert.compiled_folder import MODEL_FILE, compiled_with
from lambda_serving.servables.litert.exported_signatures import as_exported
from lambda_serving.servables.litert.interpreters import Interpreters, open_model
from lambda_serving.servables.litert.model_file import FileSignature, ModelFile, read
from lambda_serving.servables.litert.signature_function import SignatureFunction
from lambda_serving.servables.servable import Servable, Signature
from lambda_serving.servables.signature_problems import signature_problems

__all__ = ["is_proven", "load_tflite"]


def load_tflite(
    folder: Path, interpreters: int, threads: int, released: Callable[[], object], *, trusted: bool
) -> Servable:
    """The servable of `model.tflite` in a folder.

    Up to so many `interpreters` run at once, each with so many `threads`. A `trusted` file stays
    mapped; another one is read, and first tried in a process of its own. `released` is called when
    the servable is closed and its memory is freed.

    Raises DataLoss for a damaged file, FailedPrecondition for one that cannot be served, and
    OSError for one that cannot be read.
    """
    exported = compiled_folder.exported(folder)
    plain_for_nan = exported is not None and exported.plain_for_nan
    source, file = _opened(folder / MODEL_FILE, trusted=trusted, plain_too=plain_for_nan)
    file, definitions = as_exported(file, exported)
    make = partial(open_model, source, file, threads)
    pool = Interpreters(make(), make, 1 if file.operations.keep_state else interpreters)
    plain = Interpreters(None, partial(make, plain=True), 1) if plain_for_nan else None
    signatures = _signatures(definitions, file.signatures)
    uncallable = signature_defs.uncallable(definitions)
    steady = file.operations.follow_shapes
    return Servable(
        signatures,
        {
            name: SignatureFunction(each, pool, follows_shapes=steady, for_nan=plain)
            for name, each in signatures.items()
        },
        definitions=definitions,
        uncallable=uncallable,
        problems=signature_problems(signatures, uncallable),
        close=partial(_close, (pool, plain) if plain else (pool,), released),
    )


def _opened(path: Path, *, trusted: bool, plain_too: bool) -> tuple[str | bytes, ModelFile]:
    """What LiteRT opens, the path or the content, and what the file says."""
    if trusted:
        with path.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as mapped:
            return os.fspath(path), _servable_file(mapped)
    from lambda_serving.servables.litert.trial import try_in_child  # functions do without

    content = path.read_bytes()
    file = _servable_file(content)
    try_in_child(content, plain_too=plain_too)
    return content, file


def _close(pools: Sequence[Interpreters], released: Callable[[], object]) -> None:
    for pool in pools:
        pool.close()
    released()


def _servable_file(content: bytes | mmap) -> ModelFile:
    """What `read` returns; raises FailedPrecondition if requests could end the process."""
    file = read(content)
    if division := file.operations.division:
        raise FailedPrecondition(
            f"Its operation {division} divides integers, and LiteRT ends the process when it"
            " divides the smallest one by -1. Serve the SavedModel instead"
        )
    return file


def is_proven(folder: Path) -> bool:
    """Whether `lambda-serving compile` ran a folder's model with this version of LiteRT.

    False if the file system is not read-only, as somebody may have changed the model since.
    """
    read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
    return bool(read_only) and compiled_with(folder) == ai_edge_litert.__version__


def _signatures(
    definitions: Mapping[str, bytes], file: Mapping[str, FileSignature]
) -> dict[str, Signature]:
    """The callable signatures, with inputs of any shape where the file declares none."""
    found = signature_defs.signatures(definitions)
    return {
        name: signature._replace(
            inputs={
                alias: spec._replace(shape=None) if alias in file[name].free else spec
                for alias, spec in signature.inputs.items()
            },
        )
        for name, signature in found.items()
    }
