"""A project appears whole, or not at all, and takes nothing away."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from lambda_serving import __version__
from lambda_serving.errors import AlreadyExists, InvalidArgument, Unavailable
from lambda_serving.project import vendored
from lambda_serving.project.environments import find_project
from lambda_serving.project.folder import Project
from lambda_serving.project.starting import start
from lambda_serving.store import temporary

_ROOT = Path(__file__).parents[3]
_START = """
import pathlib
from lambda_serving.project import starting
starting.start(pathlib.Path("new"))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return start(tmp_path_factory.mktemp("new") / "shop").project


def test_project_has_what_its_readme_says(project: Project) -> None:
    files = {path.name for path in project.root.iterdir()}
    assert files == {
        ".dockerignore",
        ".github",
        ".gitignore",
        "README.md",
        "infra",
        "models",
        "pytest.ini",
        "requirements.txt",
        "samconfig.toml",
        "template.yaml",
        "tests",
    }
    readme = (project.root / "README.md").read_text()
    named = re.findall(r"^\| `([\w./]+)`", readme, re.MULTILINE)
    assert {name.split("/")[0] for name in named} <= files
    texts = (path.read_text() for path in project.root.rglob("*") if _is_text(path))
    assert not any(re.search("@(STACK|VERSION)@", text) for text in texts)


def _is_text(path: Path) -> bool:
    return path.suffix in {".md", ".toml", ".txt", ".yml", ".ini"} and "layers" not in path.parts


def test_both_environments_have_a_stack_and_capabilities(project: Project) -> None:
    config = tomllib.loads((project.root / "samconfig.toml").read_text())
    stacks = {name: config[name]["deploy"]["parameters"] for name in ("dev", "prod")}
    assert {name: each["stack_name"] for name, each in stacks.items()} == {
        "dev": "shop-dev",
        "prod": "shop-prod",
    }
    assert all("AUTO_EXPAND" in each["capabilities"] for each in stacks.values())
    assert __version__ in (project.root / "requirements.txt").read_text()


def test_workflow_gives_a_token_to_the_deploying_job_alone(project: Project) -> None:
    workflow = yaml.safe_load((project.root / ".github/workflows/deploy.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    jobs = workflow["jobs"]
    assert {name: job.get("permissions", {}).get("id-token") for name, job in jobs.items()} == {
        "test": None,
        "deploy": "write",
    }
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert not any("${{" in run for run in runs)  # no text of others in a shell


def test_library_is_copied_as_it_is_imported(project: Project) -> None:
    library = project.root / "infra" / vendored.LIBRARY
    assert not (library / "project/files").exists()
    assert not list(library.rglob("*.pyc"))
    ended = subprocess.run(
        [sys.executable, "-Bc", "import lambda_serving as m; print(m.__file__, m.__version__)"],
        env={**os.environ, "PYTHONPATH": str(library.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    path, version = ended.stdout.split()
    assert (Path(path).is_relative_to(project.root), version) == (True, __version__)


def test_digests_are_those_that_sha256sum_checks(project: Project) -> None:
    lines = (project.root / "infra/version").read_text().partition("\n")[2]
    ended = subprocess.run(
        [str(shutil.which("sha256sum")), "--check", "--strict", "--quiet"],
        input=lines,
        cwd=project.root / "infra",
        text=True,
        check=False,
    )
    assert ended.returncode == 0
    assert lines.count("\n") > 100


@pytest.mark.parametrize("shallow", [False, True])
def test_copy_without_the_files_makes_no_projects(
    shallow: bool,  # noqa: FBT001 - pytest passes it by name
    project: Project,
    tmp_path: Path,
) -> None:
    library = project.root / "infra" / vendored.LIBRARY
    with temporary.folder() as near_the_root:
        (near_the_root / library.name).symlink_to(library)
        ended = subprocess.run(
            [sys.executable, "-c", _START],
            env={**os.environ, "PYTHONPATH": str(near_the_root if shallow else library.parent)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert "cannot make or upgrade projects" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_scripts_can_be_run(project: Project) -> None:
    for name in ("install-packages", "bin/lambda-serving"):
        assert os.access(project.root / "infra/images" / name, os.X_OK)
    assert not os.access(project.root / "template.yaml", os.X_OK)


def test_new_repository_keeps_its_files(tmp_path: Path) -> None:
    for name in (".git/config", ".gitignore", "README.md", "LICENSE", "models/a/1/saved_model.pb",
                 ".github/workflows/other.yml"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    started = start(tmp_path)
    assert started.kept == (".gitignore", "README.md")
    for name in (".gitignore", "README.md", "LICENSE", "models/a/1/saved_model.pb"):
        assert (tmp_path / name).read_text() == name
    assert {each.name for each in (tmp_path / ".github/workflows").iterdir()} == {
        "deploy.yml",
        "other.yml",
    }
    assert find_project(tmp_path / "models/a/1") == tmp_path


@pytest.mark.parametrize("name", ["template.yaml", "samconfig.toml", "infra/x", "infra"])
def test_folder_that_is_a_project_of_its_own_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(AlreadyExists, match=f"has {Path(name).parts[0]} already"):
        start(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_dangling_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "template.yaml").symlink_to(tmp_path / "elsewhere")
    (folder / "README.md").symlink_to(tmp_path / "readme")
    with pytest.raises(AlreadyExists, match=r"template\.yaml"):
        start(folder)
    (folder / "template.yaml").unlink()
    assert start(folder).kept == ("README.md",)
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "readme").exists()


@pytest.mark.parametrize("name", ["models", "tests", ".github"])
def test_file_in_the_place_of_a_folder_is_said_before_anything_is_written(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(AlreadyExists, match=f"{name} is there, and must be a folder"):
        start(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_project_in_a_project_is_refused(project: Project) -> None:
    with pytest.raises(AlreadyExists, match="is inside the project"):
        start(project.root / "models/inner")
    assert not (project.root / "models/inner").exists()


def test_file_or_link_to_nowhere_is_no_folder_for_a_project(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AlreadyExists, match="is a file"):
        start(tmp_path / "file")
    with pytest.raises(Unavailable, match="Could not make a project"):
        start(tmp_path / "link")
    with pytest.raises(Unavailable, match="Could not make a project"):
        start(tmp_path / "file/below")


@pytest.mark.parametrize("existed", [True, False])
def test_what_fails_leaves_nothing(
    existed: bool,  # noqa: FBT001 - as above
    tmp_path: Path,
) -> None:
    folder = tmp_path / "new"
    if existed:
        folder.mkdir()

    def fail(_: Project) -> None:
        raise InvalidArgument("no such model")

    with pytest.raises(InvalidArgument):
        start(folder, fail)
    assert [*tmp_path.rglob("*")] == ([folder] if existed else [])


@pytest.mark.parametrize("name", ["日本", "My shop (v2)!", "9lives", "-", "a" * 80, "pröd"])
def test_folder_of_any_name_gives_stacks_that_aws_takes(name: str, tmp_path: Path) -> None:
    text = (start(tmp_path / name).project.root / "samconfig.toml").read_text()
    stacks = re.findall(r'^stack_name = "(.*)"$', text, re.MULTILINE)
    assert len(set(stacks)) == 2
    assert all(re.fullmatch("[a-z][a-z0-9-]{0,22}", stack) for stack in stacks)
