"""Makes a new project."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lambda_serving import __version__
from lambda_serving.errors import AlreadyExists, translate_os_errors
from lambda_serving.project import template, vendored
from lambda_serving.project.environments import CONFIG, find_project
from lambda_serving.project.folder import INFRA, MODELS, TEMPLATE, VERSION, Project
from lambda_serving.project.names import stack_like
from lambda_serving.store import temporary

__all__ = ["Started", "start", "starter_template"]


@dataclass(frozen=True, slots=True)
class Started:
    """A new project, and the files that were there before and were kept."""

    project: Project
    kept: tuple[str, ...]


def start(folder: Path, fill: Callable[[Project], None] = lambda _: None) -> Started:
    """Makes a project in a folder, which need not exist; it appears once it is complete.

    `fill` adds to the project before it appears. A folder may hold other files, such as those of a
    new repository; a README.md in it is kept.

    Raises AlreadyExists if a template, a samconfig.toml or a folder `infra` is there, or a project
    around the folder, and what `fill`, `vendored.read` and `translate_os_errors` raise.
    """
    _check(folder)
    created = not folder.exists()
    with translate_os_errors(f"make a project in {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.folder(".lambda-serving-", folder) as work:
                _write(work, stack_like(folder.resolve().name))
                fill(Project(work))
                return Started(Project(folder), tuple(_moved(work, folder)))
        except BaseException:
            if created:
                with suppress(OSError):  # not empty
                    folder.rmdir()
            raise


def starter_template() -> str:
    """The template of a project without models: the repository's without its examples."""
    text = vendored.root_template()
    for block in template.blocks(text):
        text = template.without_block(text, block.name)
    return text


def _check(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise AlreadyExists(f"{folder} is a file. Name a folder for the project")
    for name in (TEMPLATE, CONFIG, INFRA):
        if (folder / name).is_symlink() or (folder / name).exists():
            raise AlreadyExists(
                f"{folder} has {name} already, which a project needs for itself. Use another folder"
            )
    if around := find_project(folder):
        raise AlreadyExists(f"{folder} is inside the project {around}. Use a folder outside")


def _write(root: Path, stack: str) -> None:
    files = vendored.read()
    starters = {
        name: text.replace("@STACK@", stack).replace("@VERSION@", __version__)
        for name, text in vendored.starters().items()
    }
    starters[TEMPLATE] = starter_template()
    written = {name: text.encode() for name, text in starters.items()}
    written |= {f"{INFRA}/{name}": content for name, content in files.items()}
    written[VERSION] = vendored.version_file(files)
    (root / MODELS).mkdir()
    for name, content in written.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(vendored.mode(content))


def _moved(work: Path, folder: Path) -> list[str]:
    """Moves all files to the folder, the mark of a project last; those that are there stay."""
    for path in filter(Path.is_dir, work.rglob("*")):
        target = folder / path.relative_to(work)
        if (target.exists() or target.is_symlink()) and not target.is_dir():
            raise AlreadyExists(f"{target} is there, and must be a folder. Use another folder")
    kept = []
    for path in sorted(work.rglob("*"), key=lambda path: (path == work / VERSION, path)):
        target = folder / path.relative_to(work)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        elif target.exists() or target.is_symlink():
            kept.append(str(path.relative_to(work)))
        else:
            path.rename(target)
    return kept
