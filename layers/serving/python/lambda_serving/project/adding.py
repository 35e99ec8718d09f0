"""Takes a model into a project: its export, compiled on trial, golden answers, and its block."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from lambda_serving.compile.folders import copy_all
from lambda_serving.errors import FailedPrecondition, NotFound, translate_os_errors
from lambda_serving.project import golden_answers, template
from lambda_serving.project.folder import MODELS, Model, Project, is_below
from lambda_serving.project.names import check_model
from lambda_serving.release.golden import GOLDEN
from lambda_serving.store import temporary
from lambda_serving.store.manifest import MANIFEST, PUSH

__all__ = ["Added", "Compile", "add"]

Compile = Callable[[Path, Path], str]
"""Compiles the export in one folder into a new one, and says in a sentence what came of it."""


@dataclass(frozen=True, slots=True)
class Added:
    """The version that is now in the project, what compiling it showed, and what was written.

    `no_golden` says why no golden pair was recorded; it is empty if there is one.
    """

    version: Path
    compiled: str
    block_is_new: bool
    no_golden: str = ""


def add(
    project: Project,
    name: str,
    export: Path,
    compile_: Compile,
    progress: Callable[[str], None] = lambda _: None,
) -> Added:
    """Copies a SavedModel into the project as the next version of a model, and writes its block.

    The project keeps the export, because images are compiled for the processors they run on; it is
    compiled here only to see that it can be. An export that already lies among the model's versions
    stays where it is. If it has no golden pairs, one is recorded. When anything fails, the project
    is as it was.

    Raises FailedPrecondition if the export does not answer its golden pairs, if the model is on a
    GPU or if the template cannot be edited, and what the names' check, `template.with_block`,
    `compile_`, loading and `translate_os_errors` raise.
    """
    check_model(name)
    text = project.read()
    edited, folder = _with_block(text, name)
    model = _model(project, name, folder)
    with translate_os_errors(f"add {export} to {model.folder}"), _among(model) as work:
        version = _version(model, export)
        made = work / version.name
        progress("copying")
        _copy(export, made)
        progress("compiling")
        compiled = compile_(made, work / "compiled")
        shutil.rmtree(work / "compiled", ignore_errors=True)
        progress("asking for its golden answers")
        no_golden = _golden(Model(name, work), made)
        if edited != text:
            project.write(edited)
        try:
            _put(made, version)
        except OSError:
            project.write(text)
            raise
    return Added(version, compiled, edited != text, no_golden)


def _with_block(text: str, name: str) -> tuple[str, str]:
    """The template with a block of the model, and the folder that the block names."""
    block = next((each for each in template.blocks(text) if each.name == name), None)
    if block is None:
        folder = f"{MODELS}/{name}"
        return template.with_block(text, name, folder), folder
    if not block.folder:
        raise FailedPrecondition(
            f"The block of model {name} in template.yaml names no ModelFolder, so its versions are"
            " in the bucket. Push this one: lambda-serving push"
        )
    return text, block.folder


def _model(project: Project, name: str, folder: str) -> Model:
    model = Model(name, project.root / folder)
    if not is_below(model.folder, project.root):
        raise FailedPrecondition(
            f"The folder of model {name}, {folder}, is outside of the project, so no image can be"
            " built from it. Use a folder inside, without links"
        )
    return model


@contextmanager
def _among(model: Model) -> Iterator[Path]:
    """A temporary folder beside a model's versions, whose folder goes again if it stays empty."""
    created = [each for each in (model.folder, *model.folder.parents) if not each.exists()]
    model.folder.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.folder(".adding-", model.folder) as work:
            yield work
    finally:
        with suppress(OSError):  # not empty
            for each in created:
                each.rmdir()


def _version(model: Model, export: Path) -> Path:
    """Where the export lies among the versions, or the place of the next one."""
    versions = model.versions()
    for path in versions.values():
        if path.resolve() == export.resolve():
            return path
    return model.folder / str(max(versions, default=0) + 1)


def _copy(export: Path, made: Path) -> None:
    """Copies content, not links; what a push wrote does not belong to the export."""
    if not export.is_dir():
        raise NotFound(f"{export} is not a folder")
    made.mkdir()
    copy_all(export, made)
    for name in (MANIFEST, PUSH):
        (made / name).unlink(missing_ok=True)


def _golden(model: Model, made: Path) -> str:
    """Checks the golden pairs, or records one; why there is none, if it cannot."""
    if (made / GOLDEN).is_file():
        if told := golden_answers.differences(model):
            raise FailedPrecondition(
                f"The model does not give its golden answers: {told[0].removeprefix(f'{made}/')}."
                " Fix the model or the file"
            )
        return ""
    try:
        golden_answers.record(model.name, model.folder, made)
    except golden_answers.Unrecorded as reason:
        return str(reason)
    return ""


def _put(made: Path, version: Path) -> None:
    """Moves the version to its place; one that is there gets its golden pairs."""
    if not version.exists():
        made.rename(version)
    elif (made / GOLDEN).is_file() and not (version / GOLDEN).exists():
        (version / GOLDEN).parent.mkdir(exist_ok=True)
        shutil.copyfile(made / GOLDEN, version / GOLDEN)
