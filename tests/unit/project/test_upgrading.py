"""An upgrade shows what it changes, and changes what no version wrote only by name."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lambda_serving import __version__
from lambda_serving.cli.remove import remove
from lambda_serving.cli.upgrade import upgrade
from lambda_serving.errors import FailedPrecondition
from lambda_serving.project import template, vendored
from lambda_serving.project.folder import Project
from lambda_serving.project.starting import start
from lambda_serving.project.upgrading import plan

_LIBRARY = f"infra/{vendored.LIBRARY}"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return start(tmp_path_factory.mktemp("fresh") / "shop").project.root


@pytest.fixture
def project(fresh: Path, tmp_path: Path) -> Project:
    """A project that has just been made."""
    return Project(Path(shutil.copytree(fresh, tmp_path / "shop", symlinks=True)))


@pytest.fixture
def ask(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `upgrade` in the project."""
    monkeypatch.chdir(project.root / "models")

    def ask(*arguments: str, stdin: str = "") -> Result:
        return CliRunner().invoke(upgrade, arguments, stdin, catch_exceptions=False)

    return ask


def _content(project: Project) -> dict[str, bytes]:
    return {
        str(path.relative_to(project.root)): path.read_bytes()
        for path in project.root.rglob("*")
        if path.is_file()
    }


def test_new_project_needs_no_upgrade(ask: Callable[..., Result]) -> None:
    assert ask().output == f"infra/ is that of lambda-serving {__version__}. Nothing to do\n"


def test_edits_are_shown_line_by_line_and_undone_when_confirmed(
    project: Project, ask: Callable[..., Result]
) -> None:
    before = _content(project)
    model, code = project.root / "infra/model.yaml", project.root / _LIBRARY / "errors.py"
    model.write_text(model.read_text().replace("Timeout: !Ref Timeout", "Timeout: 5"))
    code.write_text(code.read_text() + "SURPRISE = 1\n")
    (project.root / "infra/gpu.yaml").unlink()
    edited = _content(project)
    asked = ask(stdin="n\n")
    assert asked.exit_code == 1
    assert _content(project) == edited
    for line in (
        "infra/model.yaml: changed  (edited by hand)",
        "-      Timeout: 5",
        "+      Timeout: !Ref Timeout",
        f"{_LIBRARY}/errors.py: changed  (edited by hand)",
        "-SURPRISE = 1",
        "infra/gpu.yaml: added  (edited by hand)",
    ):
        assert line in asked.stdout.splitlines()
    assert "3 of these files were edited by hand" in asked.stderr
    assert ask(stdin="y\n").exit_code == 0
    assert _content(project) == before


def test_another_version_is_told_in_short_and_leaves_other_files(
    project: Project, ask: Callable[..., Result]
) -> None:
    """As if an older version had made the project: another file of code, one less, one more."""
    infra, code = project.root / "infra", project.root / _LIBRARY
    (code / "old.py").write_text("x = 1\n")
    (code / "errors.py").write_text("y = 1\n")
    (code / "dtypes.py").unlink()
    (infra / "system.yaml").write_text("Resources: {}\n")
    names = [
        str(path.relative_to(infra))
        for path in infra.rglob("*")
        if path.is_file() and path.name != "version"
    ]
    written = vendored.version_file({name: (infra / name).read_bytes() for name in names})
    (infra / "version").write_bytes(written.replace(__version__.encode(), b"0.0.9", 1))
    (infra / "mine.yaml").write_text("mine")
    (code / "__pycache__").mkdir()
    (code / "__pycache__/errors.pyc").write_bytes(b"\xff")
    said = ask("--yes").stdout
    assert f"{_LIBRARY}/old.py: removed\n" in said
    assert f"{_LIBRARY}/errors.py: changed\n" in said
    assert f"{_LIBRARY}/dtypes.py: added\n" in said
    assert "y = 1" not in said
    assert "-Resources: {}\n" in said
    assert "by hand" not in said
    assert not (code / "old.py").exists()
    assert (infra / "mine.yaml").read_text() == "mine"
    assert not plan(project).is_needed


def test_text_of_others_does_not_reach_the_terminal_as_commands(
    project: Project, ask: Callable[..., Result]
) -> None:
    (project.root / "infra/model.yaml").write_text("a: \x1b[2J\n")
    (project.root / "infra/version").write_text("\x1b[31m")
    assert "\x1b" not in ask(stdin="n\n").stdout


def test_version_alone_may_change(project: Project, ask: Callable[..., Result]) -> None:
    path = project.root / "infra/version"
    path.write_bytes(path.read_bytes().replace(__version__.encode(), b"0.0.9", 1))
    assert ask("--yes").stdout == "infra/: 0 files written\n"
    assert path.read_text().startswith(f"{__version__}\n")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"0.1\n../../x  ../../../etc/passwd\nzz\n"])
def test_version_of_any_content_is_read(content: bytes, project: Project) -> None:
    (project.root / "infra/version").write_bytes(content)
    planned = plan(project)
    assert planned.is_needed
    assert not any(".." in change.name for change in planned.changes)
    planned.write()
    assert not plan(project).is_needed


def test_link_out_of_the_project_is_not_followed(project: Project, tmp_path: Path) -> None:
    outside, infra = tmp_path / "outside", project.root / "infra"
    (infra / "requirements").rename(outside)
    (outside / "ops.txt").write_text("theirs")
    (infra / "requirements").symlink_to(outside)
    with pytest.raises(FailedPrecondition, match="leads out of"):
        plan(project).write()
    assert (outside / "ops.txt").read_text() == "theirs"


def test_link_in_the_place_of_a_file_is_replaced(project: Project, tmp_path: Path) -> None:
    theirs, path = tmp_path / "theirs", project.root / "infra/gpu.yaml"
    theirs.write_text("theirs")
    path.unlink()
    path.symlink_to(theirs)
    plan(project).write()
    assert (theirs.read_text(), path.is_symlink()) == ("theirs", False)


def test_removed_model_is_shown_and_its_versions_stay(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = project.read()
    project.write(template.with_block(before, "a", "models/a"))
    (project.root / "models/a/1").mkdir(parents=True)
    monkeypatch.chdir(project.root)
    said = CliRunner().invoke(remove, ["a"], catch_exceptions=False).output
    assert "-        ModelName: a\n" in said
    assert said.endswith("models/a stays. Delete it yourself if you need its versions no more\n")
    assert project.read() == before
    assert (project.root / "models/a/1").is_dir()
