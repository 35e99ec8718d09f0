"""What a project holds below `infra/`: the system's templates, what its images need, the library.

In a wheel, `files/vendored` holds what lies outside of the package; `setup.py` copies it there. An
editable install reads it where it lies, below the root of the repository. The library itself is
copied from the folder that Python imports, so that a project deploys the code it was tried with.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import lambda_serving
from lambda_serving import __version__
from lambda_serving.errors import FailedPrecondition, translate_os_errors
from lambda_serving.project.folder import INFRA, TEMPLATE

__all__ = ["LIBRARY", "digests", "mode", "read", "root_template", "starters", "version_file"]

LIBRARY = "layers/serving/python/lambda_serving"
_PACKAGE = Path(lambda_serving.__file__).parent
_FILES = _PACKAGE / "project/files"
_LIST = _FILES / "vendored.txt"
_NOT_COPIED = "project/files"
_DOT = "dot-"
"""Before the names of files that start with a dot, which packagers leave out."""
_MOVED = {
    "../layers/": "layers/",
    "../functions/": "functions/",
    "Dockerfile: images/": f"Dockerfile: {INFRA}/images/",
    "FILES: .": f"FILES: {INFRA}",
}
"""How templates name files that lie beside their folder in the repository, and below it here."""


def read() -> dict[str, bytes]:
    """The content of each file, by its path below `infra/`, without the file `version`.

    Raises FailedPrecondition in a copy of the library without these files, such as a project's own,
    and what `translate_os_errors` raises.
    """
    root = _source()
    with translate_os_errors(f"read the files of projects in {root}"):
        beside = {name: path.read_bytes() for name, path in _beside(root) if name != TEMPLATE}
        library = {name: path.read_bytes() for name, path in _library()}
    return {
        name.removeprefix(f"{INFRA}/"): _moved(name, content) for name, content in beside.items()
    } | library


def root_template() -> str:
    """The template of the repository, which deploys its examples; raises what `read` raises."""
    root = _source()
    with translate_os_errors(f"read {root / TEMPLATE}"):
        return (root / TEMPLATE).read_text(encoding="utf-8")


def starters() -> dict[str, str]:
    """What a new project has outside of `infra/`, by path, with `@STACK@` and `@VERSION@` in it.

    Raises what `read` raises.
    """
    _source()  # or this copy of the library makes no projects
    folder = _FILES / "project"
    with translate_os_errors(f"read the files of projects in {folder}"):
        return {
            path.relative_to(folder).as_posix().replace(_DOT, "."): path.read_text(encoding="utf-8")
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }


def version_file(files: Mapping[str, bytes]) -> bytes:
    """The content of `infra/version`: the library's version, and a SHA-256 of each file."""
    lines = [f"{digest}  {name}" for name, digest in sorted(digests(files).items())]
    return "\n".join((__version__, *lines, "")).encode()


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """The SHA-256 of each file in hexadecimal."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def mode(content: bytes) -> int:
    """The permissions of a file: scripts are executable, whatever installed them."""
    return 0o755 if content.startswith(b"#!") else 0o644


def _source() -> Path:
    """The folder that stands for the root of the repository."""
    for folder in (_FILES / "vendored", *_PACKAGE.parents[3:4]):
        if (folder / INFRA / "system.yaml").is_file() and _LIST.is_file():
            return folder
    raise FailedPrecondition(
        f"The copy of lambda-serving in {_PACKAGE} cannot make or upgrade projects. Use an"
        " installed one: pip install lambda-serving"
    )


def _beside(root: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of each file of the list, which lie outside of the package."""
    for pattern in _LIST.read_text().split():
        found = [path for path in sorted(root.glob(pattern)) if path.is_file()]
        if not found:
            raise FailedPrecondition(f"{root} lacks {pattern}. Install lambda-serving again")
        yield from ((path.relative_to(root).as_posix(), path) for path in found)


def _library() -> Iterator[tuple[str, Path]]:
    """Name and path of each file of the package, but for what only makes projects and bytecode."""
    for path in sorted(_PACKAGE.rglob("*")):
        name = PurePosixPath(path.relative_to(_PACKAGE))
        left_out = "__pycache__" in name.parts or name.is_relative_to(_NOT_COPIED)
        if path.is_file() and not left_out:
            yield f"{LIBRARY}/{name}", path


def _moved(name: str, content: bytes) -> bytes:
    if not (name.startswith(f"{INFRA}/") and name.endswith(".yaml")):
        return content
    text = content.decode()
    for there, here in _MOVED.items():
        text = text.replace(there, here)
    return text.encode()
