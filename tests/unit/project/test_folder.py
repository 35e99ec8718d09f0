"""Blocks whose folder is wrong are found without building or deploying anything."""

from pathlib import Path

import pytest

from lambda_serving.errors import FailedPrecondition, Unavailable
from lambda_serving.project import template
from lambda_serving.project.folder import Project
from lambda_serving.project.starting import starter_template
from lambda_serving.servables.compiled_folder import MARKER


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """The model `shop`, with two versions."""
    for version in (1, 2, 10):
        (tmp_path / f"models/shop/{version}").mkdir(parents=True)
        (tmp_path / f"models/shop/{version}/saved_model.pb").write_bytes(b"")
    made = Project(tmp_path)
    (tmp_path / "template.yaml").write_text(starter_template())
    made.write(template.with_block(made.read(), "shop", "models/shop"))
    return made


def _says(project: Project, folder: str) -> None:
    project.write(project.read().replace("ModelFolder: models/shop", f"ModelFolder: {folder}"))


def test_model_is_told_with_its_versions(project: Project) -> None:
    [model] = project.models()
    assert (model.name, [*model.versions()]) == ("shop", [1, 2, 10])


def test_folders_of_our_own_template_are_there() -> None:
    root = Path(__file__).parents[3]
    assert [model.name for model in Project(root).models()] == ["MLP", "HalfPlusTwo"]


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("models/shpo", r"line \d+: .* shop says ModelFolder models/shpo, .* mean models/shop\?"),
        ("models/other/thing", "no such folder. Correct it, or put an export there"),
        ('""', "says ModelFolder nothing, which is no folder of this project. Say models/shop"),
        ("..", "which is no folder of this project"),
        (".", "which is no folder of this project"),
        ("/tmp", "which is no folder of this project"),  # noqa: S108 - it stays as it is
        ("models/shop/1", "has no versions, folders whose names are numbers. It holds: saved_mo"),
        ("models", "has no versions, .* It holds: shop"),
        ("template.yaml", "no such folder"),
        ('"models/sh\\0op"', "which is no folder of this project"),
    ],
)
def test_folder_with_a_typo_is_found(folder: str, told: str, project: Project) -> None:
    _says(project, folder)
    with pytest.raises(FailedPrecondition, match=told):
        project.models()


def test_newest_version_without_a_model_is_found(project: Project) -> None:
    (project.root / "models/shop/11").mkdir()
    with pytest.raises(FailedPrecondition, match=r"version 11 holds no SavedModel"):
        project.models()


def test_version_that_is_compiled_already_is_found(project: Project) -> None:
    (project.root / "models/shop/10" / MARKER).parent.mkdir()
    (project.root / "models/shop/10" / MARKER).write_text("{}")
    with pytest.raises(FailedPrecondition, match=r"version 10 is compiled already"):
        project.models()


def test_link_that_leaves_the_project_is_no_folder_of_it(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (project.root / "models/link").symlink_to(tmp_path_factory.mktemp("outside"))
    _says(project, "models/link")
    with pytest.raises(FailedPrecondition, match="no folder of this project"):
        project.models()


def test_model_on_a_server_needs_no_folder(project: Project) -> None:
    _says(project, "nowhere\n        Target: gpu")
    assert project.models() == []


def test_template_keeps_its_line_ends_and_its_link(project: Project, tmp_path: Path) -> None:
    there = tmp_path / "shared.yaml"
    path = project.root / "template.yaml"
    path.rename(there)
    path.symlink_to(there)
    project.write("a: 1\r\nb: 2\n")
    assert (path.is_symlink(), there.read_bytes()) == (True, b"a: 1\r\nb: 2\n")
    assert project.read() == "a: 1\r\nb: 2\n"


def test_template_in_another_encoding_is_told(project: Project) -> None:
    (project.root / "template.yaml").write_bytes("ü".encode("latin-1"))
    with pytest.raises(FailedPrecondition, match="is not UTF-8"):
        project.read()


def test_template_that_is_not_there_is_told(project: Project) -> None:
    (project.root / "template.yaml").unlink()
    with pytest.raises(Unavailable, match="Could not read"):
        project.read()
