"""The shape of the code: the rooms at the package's root, their order, and names on pages."""

import ast
import re
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import grimp
import pytest

_ROOT = Path(__file__).parents[2]
_PACKAGE = _ROOT / "layers/serving/python/lambda_serving"
_PAGES = sorted([*_ROOT.glob("*.md"), *(_ROOT / "docs").rglob("*.md")])
_FILES = [
    str(path.relative_to(_ROOT))
    for top in ("layers", "tests", "functions", "images", "infra", "examples")
    for path in (_ROOT / top).rglob("*")
    if path.suffix in {".py", ".yaml", ".sh"} and "node_modules" not in path.parts
]
_HISTORY = {"CHANGELOG.md"}
"""Pages that name what was there at the time."""


def _contracts() -> list[dict[str, Any]]:
    text = (_ROOT / "pyproject.toml").read_text()
    contracts: list[dict[str, Any]] = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    return contracts


def test_root_holds_few_rooms_and_the_shared_vocabulary() -> None:
    entries = [each for each in _PACKAGE.iterdir() if each.name != "__pycache__"]
    assert len([each for each in entries if each.is_dir()]) <= 16
    assert len([each for each in entries if each.is_file()]) <= 8


def test_picture_has_the_rows_of_the_contract() -> None:
    page = (_ROOT / "docs/architecture.md").read_text()
    [picture] = re.findall(r"```mermaid\n(.*?)```", page, re.DOTALL)
    drawn = {
        row: set(re.findall(r'^\s+(\w+)\["', inside, re.MULTILINE))
        for row, inside in re.findall(r"subgraph (\w+) .*?\n(.*?)\n    end\n", picture, re.DOTALL)
    }
    [arrows] = re.findall(r"^\s+(row\d+(?: --> row\d+)+)$", picture, re.MULTILINE)
    [layers] = [each["layers"] for each in _contracts() if each["type"] == "layers"]
    assert [drawn[row] for row in arrows.split(" --> ")] == [
        set(layer.split(" | ")) for layer in layers
    ]
    assert len(drawn) == len(layers)


def _rooms() -> list[str]:
    return [each.name for each in _PACKAGE.iterdir() if (each / "__init__.py").exists()]


def _named(page: str) -> Iterator[str]:
    """Modules, or what is in one, by their names from a room on: `store.s3_client`."""
    rooms = "|".join(_rooms())
    pattern = rf"`(?:lambda_serving\.)?((?:{rooms})(?:\.[A-Za-z_]\w*)+)(?:\(.*?\))?`"
    for name in re.findall(pattern, page):
        if not name.endswith((".py", ".json", ".yaml")):
            yield name


def _exists(name: str) -> bool:
    """Whether this is a module, or what one defines or hands on."""
    parts, path = name.split("."), _PACKAGE
    while parts and (path / parts[0]).is_dir():
        path /= parts.pop(0)
    module = path / "__init__.py"
    if parts and (path / f"{parts[0]}.py").exists():
        module = path / f"{parts.pop(0)}.py"
    return set(parts) <= _bound(module)


def _bound(module: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(module.read_text())))
    return (
        {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        | {node.name for node in nodes if isinstance(node, ast.AsyncFunctionDef)}
        | {node.asname or node.name for node in nodes if isinstance(node, ast.alias)}
        | {
            node.id
            for node in nodes
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
    )


@pytest.mark.parametrize("page", _PAGES, ids=lambda path: path.name)
def test_modules_and_files_that_a_page_names_are_there(page: Path) -> None:
    if page.name in _HISTORY:
        return
    text = page.read_text()
    assert [name for name in _named(text) if not _exists(name)] == []
    files = re.findall(r"`((?:[\w-]+/)+[\w.-]+\.(?:py|yaml|sh))(?:::\w+)?`", text)
    assert [file for file in files if not _is_there(file)] == []


def _is_there(file: str) -> bool:
    """By the end of its path, as pages shorten them."""
    return any(f"/{path}".endswith(f"/{file}") for path in _FILES)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions and for types alone count as well."""
    graph = grimp.build_graph("lambda_serving", cache_dir=None)
    assert len(graph.modules) > 200
    imports = {each: graph.find_modules_directly_imported_by(each) for each in graph.modules}
    TopologicalSorter(imports).prepare()  # else raises CycleError, with the circle


_MOST_LINES = 40
_FUNCTIONS = [
    (str(path.relative_to(_ROOT)), node)
    for top in ("layers", "functions")
    for path in sorted((_ROOT / top).rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
]


def _is_argued(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether its docstring has a sentence that says why it is long."""
    return bool(re.search(r"\bLong,? because \w+", ast.get_docstring(function) or ""))


def test_long_functions_say_why() -> None:
    long = [
        f"{path}: {function.name}"
        for path, function in _FUNCTIONS
        if (function.end_lineno or 0) - function.lineno >= _MOST_LINES and not _is_argued(function)
    ]
    assert len(_FUNCTIONS) > 1000
    assert long == []
