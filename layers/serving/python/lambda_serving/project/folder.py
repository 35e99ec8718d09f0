"""A project on the disk: where it is, its models, and their versions."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from lambda_serving.errors import FailedPrecondition, translate_os_errors
from lambda_serving.project import template
from lambda_serving.store.names import by_version

__all__ = ["INFRA", "MODELS", "TEMPLATE", "VERSION", "Model", "Project", "is_below"]

TEMPLATE, INFRA, MODELS = "template.yaml", "infra", "models"
VERSION = f"{INFRA}/version"
"""The file that marks a project; its first line is the version of the library in `infra/`."""
_GPU = "gpu"
_EXPORTS = ("saved_model.pb", "saved_model.pbtxt")
_COMPILED = "assets.extra/compiled.json"  # of servables.compiled_folder, which imports numpy
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a project: its name in URLs, and the folder of its versions, which holds some."""

    name: str
    folder: Path

    def versions(self) -> dict[int, Path]:
        """The versions, in rising order; empty if the folder is not there."""
        return _versions(self.folder)


@dataclass(frozen=True, slots=True)
class Project:
    """The project in the folder `root`."""

    root: Path

    def read(self) -> str:
        """The template's text, with its line ends; raises what `translate_os_errors` raises."""
        path = self.root / TEMPLATE
        with translate_os_errors(f"read {path}"):
            try:
                return path.read_bytes().decode()
            except UnicodeDecodeError as error:
                raise FailedPrecondition(
                    f"{path} is not UTF-8: {error}. Save it as such"
                ) from error

    def write(self, text: str) -> None:
        """Replaces the template as a whole; raises what `translate_os_errors` raises."""
        path = (self.root / TEMPLATE).resolve()
        made = path.with_name(f".{path.name}.new")
        with translate_os_errors(f"write {path}"):
            try:
                made.write_bytes(text.encode())
                made.chmod(path.stat().st_mode)
                made.replace(path)
            finally:
                made.unlink(missing_ok=True)

    def models(self) -> list[Model]:
        """The models that functions serve, in the order of the template.

        Raises FailedPrecondition if the folder of one is not there or holds no export, as `sam
        build` would find out much later, and what `template.blocks` raises.
        """
        return [
            self._model(block) for block in template.blocks(self.read()) if block.target != _GPU
        ]

    def _model(self, block: template.Block) -> Model:
        model = Model(block.name, self.root / block.folder)
        if problem := self._problem(block, model):
            raise FailedPrecondition(
                f"{TEMPLATE}, line {block.line}: the block of model {block.name} says ModelFolder"
                f" {block.folder or 'nothing'}, {problem}"
            )
        return model

    def _problem(self, block: template.Block, model: Model) -> str | None:
        """What is wrong with the folder of a block, and what to do; None if nothing is."""
        if not block.folder or "\0" in block.folder or not is_below(model.folder, self.root):
            return f"which is no folder of this project. Say {MODELS}/{block.name}, or another one"
        if not model.folder.is_dir():
            there = [path.name for path in (self.root / MODELS).glob("*/")]
            near = difflib.get_close_matches(model.folder.name, there, 1)
            meant = f". Did you mean {MODELS}/{near[0]}?" if near else ""
            return f"but there is no such folder{meant or '. Correct it, or put an export there'}"
        if not (versions := model.versions()):
            names = sorted(each.name for each in model.folder.iterdir())[:_SHOWN]
            return (
                "but that folder has no versions, folders whose names are numbers. It holds:"
                f" {', '.join(names) or 'nothing'}"
            )
        newest = versions[max(versions)]
        if not any((newest / name).is_file() for name in _EXPORTS):
            return f"but its version {newest.name} holds no SavedModel: saved_model.pb is missing"
        if (newest / _COMPILED).exists():
            return f"but its version {newest.name} is compiled already. Put the export there"
        return None


def is_below(path: Path, root: Path) -> bool:
    """Whether a path, with its links followed, is inside a folder."""
    return path.resolve() != root.resolve() and path.resolve().is_relative_to(root.resolve())


def _versions(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    found = by_version([each.name for each in folder.iterdir() if each.is_dir()])
    return {number: folder / found[number] for number in sorted(found)}
