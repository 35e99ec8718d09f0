"""The project that a folder lies in, and its environments, which are those of samconfig.toml."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambda_serving.errors import InvalidArgument, NotFound

__all__ = ["CONFIG", "DEFAULT", "Environment", "environment", "environments_of", "find_project"]

CONFIG = "samconfig.toml"
DEFAULT = "dev"
_SHARED = "default"
_MARKS = ("infra/version", "template.yaml")


@dataclass(frozen=True, slots=True)
class Environment:
    """Where one environment of a project is deployed.

    `region` and `profile` are empty where AWS's own settings decide. `overrides` are values of the
    template's parameters as sam takes them. `build` is the environment whose settings `sam build`
    uses: this one, or `default` if it has none; `builds_with_overrides` says whether values are
    among them.
    """

    name: str
    stack: str
    region: str = ""
    profile: str = ""
    overrides: tuple[str, ...] = ()
    build: str = _SHARED
    builds_with_overrides: bool = False


def find_project(start: Path) -> Path | None:
    """The root of the project that a folder lies in; None if it lies in none.

    A project has `infra/version` beside `template.yaml`.
    """
    folder = start.absolute()
    for each in (folder, *folder.parents):
        if all((each / mark).is_file() for mark in _MARKS):
            return each
    return None


def environments_of(project: Path) -> list[str]:
    """The names of a project's environments; none if samconfig.toml cannot be read."""
    try:
        return sorted(_tables(project / CONFIG))
    except (InvalidArgument, NotFound):
        return []


def environment(project: Path, name: str) -> Environment:
    """One environment of a project.

    Raises NotFound for one that samconfig.toml lacks, and InvalidArgument for a file that is not
    valid or names no stack. As in sam, settings for all commands are under `global`.
    """
    path = project / CONFIG
    tables = _tables(path)
    if name not in tables:
        raise NotFound(
            f"{path} has no environment {name!r}. It has: {', '.join(sorted(tables)) or 'none'}"
        )
    deploying = _parameters(tables[name], "deploy")
    stack = deploying.get("stack_name")
    if not isinstance(stack, str) or not stack:
        raise InvalidArgument(
            f"{path} names no stack for the environment {name!r}. Add stack_name to"
            f" [{name}.deploy.parameters]"
        )
    build = name if "build" in tables[name] else _SHARED
    return Environment(
        name,
        stack,
        str(deploying.get("region", "")),
        str(deploying.get("profile", "")),
        _overrides(deploying.get("parameter_overrides", ())),
        build,
        "parameter_overrides" in _parameters(tables.get(build, {}), "build"),
    )


def _tables(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except OSError as error:
        raise NotFound(f"Could not read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} is not valid: {error}") from error
    return {name: table for name, table in found.items() if isinstance(table, dict)}


def _parameters(environment: Mapping[str, Any], command: str) -> dict[str, Any]:
    """The settings of a command of sam, those for all commands among them."""
    found: dict[str, Any] = {}
    for name in ("global", command):
        table = environment.get(name, {})
        parameters = table.get("parameters", {}) if isinstance(table, dict) else {}
        found |= parameters if isinstance(parameters, dict) else {}
    return found


def _overrides(value: Any) -> tuple[str, ...]:
    """The values of parameters: sam takes one text, a list of texts, or a table."""
    match value:
        case str():
            return (value,) if value.strip() else ()
        case dict():
            quoted = {key: json.dumps(str(each), ensure_ascii=False) for key, each in value.items()}
            return tuple(f"{key}={each}" for key, each in quoted.items())
        case list() | tuple():
            return tuple(map(str, value))
    raise InvalidArgument(f"parameter_overrides is {value!r}, which sam does not take")
