"""Brings a project's `infra/` to the installed library's, and shows the difference."""

import difflib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lambda_serving import __version__
from lambda_serving.errors import FailedPrecondition, translate_os_errors
from lambda_serving.project import vendored
from lambda_serving.project.folder import INFRA, VERSION, Project

__all__ = ["Change", "Upgrade", "plan"]

_IN_ONE_LINE = (vendored.LIBRARY, "requirements/")
"""What is only named when it changes: a version of the library tells more than its lines."""


@dataclass(frozen=True, slots=True)
class Change:
    """A file below `infra/`: its content before and after, None where there is none.

    `by_hand` says that it is not as the project's version of the library wrote it.
    """

    name: str
    before: bytes | None
    after: bytes | None
    by_hand: bool

    def told(self) -> str:
        """The change as a unified diff, or in one line for code, locked requirements and bytes."""
        verb = "added" if self.before is None else "removed" if self.after is None else "changed"
        hint = "  (edited by hand)" if self.by_hand else ""
        title = f"{INFRA}/{self.name}: {verb}{hint}"
        if self.name.startswith(_IN_ONE_LINE) and not self.by_hand:
            return f"{title}\n"
        try:
            before, after = ((each or b"").decode() for each in (self.before, self.after))
        except UnicodeDecodeError:
            return f"{title}\n"
        return "".join((f"{title}\n", *_diff(f"{INFRA}/{self.name}", before, after)))


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What would change in a project, and the versions of the library before and after."""

    project: Project
    before: str
    after: str
    changes: tuple[Change, ...]
    _version: bytes

    @property
    def is_needed(self) -> bool:
        """Whether a file would change, or only the version."""
        return bool(self.changes) or self.before != self.after

    def write(self) -> None:
        """Makes the changes, `infra/version` last; raises what `translate_os_errors` raises.

        Raises FailedPrecondition if a link leads out of the project.
        """
        infra = self.project.root / INFRA
        with translate_os_errors(f"upgrade {infra}"):
            for change in self.changes:
                _check_inside(infra, infra / change.name)
            for change in self.changes:
                _write(infra / change.name, change.after)
            _write(self.project.root / VERSION, self._version)


def plan(project: Project) -> Upgrade:
    """What the installed library would change; files that no version wrote are left alone.

    Raises what `vendored.read` and `translate_os_errors` raise.
    """
    infra = project.root / INFRA
    files = vendored.read()
    with translate_os_errors(f"read {infra}"):
        before, written = _read_version(project.root / VERSION)
        there = {name: _content(infra / name) for name in sorted(files.keys() | written.keys())}
    changes = tuple(
        Change(name, content, files.get(name), by_hand=_is_edited(content, written.get(name)))
        for name, content in there.items()
        if content != files.get(name)
    )
    return Upgrade(project, before, __version__, changes, vendored.version_file(files))


def _read_version(path: Path) -> tuple[str, dict[str, str]]:
    """The version, and the SHA-256 of each file by its name; lines of another form are skipped."""
    version, *lines = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    parts = (line.partition("  ") for line in lines)
    return version, {name: digest for digest, _, name in parts if _is_name(name)}


def _is_name(name: str) -> bool:
    """Whether this is the path of a file below a folder."""
    path = Path(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _is_edited(content: bytes | None, written: str | None) -> bool:
    found = None if content is None else hashlib.sha256(content).hexdigest()
    return found != written


def _diff(name: str, before: str, after: str) -> Iterator[str]:
    lines = before.splitlines(keepends=True), after.splitlines(keepends=True)
    for line in difflib.unified_diff(*lines, name, name):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _check_inside(infra: Path, path: Path) -> None:
    if not path.parent.resolve().is_relative_to(infra.resolve()):
        raise FailedPrecondition(f"{path} leads out of {infra} by a link. Replace the link")


def _write(path: Path, content: bytes | None) -> None:
    """Replaces a file, and not what a link leads to; None removes it."""
    if content is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.new")
    made.write_bytes(content)
    made.chmod(vendored.mode(content))
    made.replace(path)
