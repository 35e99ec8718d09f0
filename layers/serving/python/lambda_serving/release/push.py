"""A SavedModel becomes a version in a store: checked, copied, and only then complete."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from lambda_serving.api import codec
from lambda_serving.errors import AlreadyExists, FailedPrecondition, ServingError
from lambda_serving.release import golden
from lambda_serving.release.golden import GOLDEN
from lambda_serving.servables import saved_model
from lambda_serving.servables.servable import Servable
from lambda_serving.store.manifest import MANIFEST, PUSH, File, Found, Manifest, Reading, differing
from lambda_serving.store.push_target import VersionFolder

__all__ = ["Progress", "Pushed", "push"]

Progress = Callable[[str, int, int], None]
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Pushed:
    """The files of the version, which of them were copied now, and problems, with their fix.

    `new` is False when the version was complete before: then nothing was done. `golden_pairs` is
    how many the export carries, all of which the model answers as it should.
    """

    manifest: Manifest
    new: bool = True
    copied: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    golden_pairs: int = 0


def push(
    source: Path,
    version: VersionFolder,
    load: Callable[[Path], Servable] = saved_model.load,
    progress: Progress = lambda *_: None,
    approve: Callable[[Mapping[str, bytes]], None] = lambda _: None,
) -> Pushed:
    """Copies the SavedModel in `source` to the folder of `version`, its manifest last.

    The model is loaded first, with its warm-up, and must match its golden pairs. Files that an
    interrupted push left there are not copied again. `progress` is called with the current stage,
    bytes done and bytes in all; `approve` with the model's serialized `SignatureDef`s by name,
    before anything is written.

    Raises AlreadyExists when other bytes are there or are being pushed there, Aborted when
    `source` changes meanwhile, FailedPrecondition when the model does not match a golden pair, and
    what `Manifest.of`, `golden.read`, `load`, `approve` and the store raise. Then no manifest is
    written: to readers, the version is not complete.
    """
    progress("reading", 0, 0)
    manifest = Manifest.of(source)
    found = version.look()
    _check_ours(version, found, manifest)
    if found.complete:
        return Pushed(manifest, new=False)
    pairs = _golden(source, manifest)
    progress("loading", 0, 0)
    with load(source) as servable:
        problems = tuple(servable.problems)
        progress("checking golden answers", 0, 0)
        _check_golden(servable, pairs, source / GOLDEN)
        definitions = servable.definitions
    progress("comparing signatures", 0, 0)
    approve(definitions)
    _check_same(version, PUSH, version.put_manifest(PUSH, manifest), manifest)
    left = {name: file for name, file in manifest.files.items() if name not in found.files}
    version.put(source, left, _sum(left, progress))
    _check_same(version, MANIFEST, version.put_manifest(MANIFEST, manifest), manifest)
    return Pushed(manifest, copied=tuple(left), problems=problems, golden_pairs=len(pairs))


def _golden(source: Path, manifest: Manifest) -> list[golden.Pair]:
    if GOLDEN not in manifest.files:
        return []
    path = source / GOLDEN
    return golden.read(Reading(path, manifest.files[GOLDEN]).read(), path)


def _check_golden(servable: Servable, pairs: Sequence[golden.Pair], path: Path) -> None:
    """Raises FailedPrecondition when an answer does not match its pair."""
    if told := golden.check(pairs, partial(_answer, servable)):
        raise FailedPrecondition(
            f"The model does not match its golden answers in {path}, {told}."
            " Fix the model or the file"
        )


def _answer(servable: Servable, request: str) -> Any:
    """The body of `rest`'s answer to a predict request, errors included."""
    try:
        document = codec.parse(request.encode())
        signature = servable.signature(document.signature_name)
        form, inputs = codec.decode(document, signature)
        text = codec.encode(servable.run(signature.name, inputs), form)
    except ServingError as error:
        return {"error": str(error)}
    return json.loads(text.decode("utf-8", "replace"))


def _sum(files: Mapping[str, File], progress: Progress) -> Callable[[int], None]:
    """Takes bytes copied, from any thread, and tells their sum."""
    lock, done, total = Lock(), 0, Manifest(files).size

    def add(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            progress("copying", done, total)

    return add


def _check_ours(version: VersionFolder, found: Found, manifest: Manifest) -> None:
    if found.pushed:
        _check_same(version, MANIFEST if found.complete else PUSH, found.pushed, manifest)
    others = [name for name, file in found.files.items() if manifest.files.get(name) != file]
    if others:
        raise AlreadyExists(
            f"{version} holds files that are not those of this SavedModel: {_shown(others)}."
            " Remove them, or push under a new version number"
        )


def _check_same(version: VersionFolder, name: str, pushed: Manifest, manifest: Manifest) -> None:
    """Raises AlreadyExists when the manifest that lies there under `name` is not ours."""
    if others := differing(pushed.files, manifest.files):
        state = "holds" if name == MANIFEST else "has an unfinished push, perhaps under way, of"
        raise AlreadyExists(
            f"{version} {state} other files than this SavedModel: {_shown(others)} differ. A"
            " version never changes: push under a new version number"
        )


def _shown(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
