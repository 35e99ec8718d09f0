from pathlib import Path

import pytest

from lambda_serving.errors import InvalidArgument, NotFound
from lambda_serving.project.environments import (
    Environment,
    environment,
    environments_of,
    find_project,
)


def _project(folder: Path, config: str = "") -> Path:
    (folder / "infra").mkdir(parents=True)
    for name in ("infra/version", "template.yaml"):
        (folder / name).touch()
    (folder / "samconfig.toml").write_text(config)
    return folder


def test_project_is_found_from_any_folder_in_it(tmp_path: Path) -> None:
    project = _project(tmp_path / "mine")
    within = project / "models/MLP/1"
    within.mkdir(parents=True)
    assert [find_project(each) for each in (within, project, tmp_path)] == [project, project, None]


def test_relative_folder_is_looked_for_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = _project(tmp_path / "mine")
    monkeypatch.chdir(project / "infra")
    assert find_project(Path()) == project


def test_nearest_project_counts(tmp_path: Path) -> None:
    inner = _project(_project(tmp_path / "outer") / "inner")
    assert find_project(inner / "infra") == inner


def test_environment_has_what_sam_would_use(tmp_path: Path) -> None:
    config = """
    version = 0.1
    [dev.global.parameters]
    stack_name = "for-all"
    region = "eu-west-1"
    [dev.deploy.parameters]
    stack_name = "mine-dev"
    profile = "work"
    parameter_overrides = "Access=OPEN MemorySize=3008"
    [default.deploy.parameters]
    region = "us-east-1"
    """
    project = _project(tmp_path, config)
    assert environment(project, "dev") == Environment(
        "dev", "mine-dev", "eu-west-1", "work", ("Access=OPEN MemorySize=3008",)
    )
    assert environments_of(project) == ["default", "dev"]


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        ('["Access=OPEN", "MemorySize=3008"]', ("Access=OPEN", "MemorySize=3008")),
        ('{ Access = "OPEN", MemorySize = 3008 }', ('Access="OPEN"', 'MemorySize="3008"')),
        ('{ CorsOrigins = "a b" }', ('CorsOrigins="a b"',)),
        ('""', ()),
    ],
)
def test_overrides_may_be_written_in_all_ways_of_sam(
    tmp_path: Path, overrides: str, found: tuple[str, ...]
) -> None:
    config = f'[dev.deploy.parameters]\nstack_name = "s"\nparameter_overrides = {overrides}\n'
    assert environment(_project(tmp_path, config), "dev").overrides == found


@pytest.mark.parametrize(
    ("table", "build", "has_overrides"),
    [
        ("", "default", False),
        ('[default.build.parameters]\nparameter_overrides = "Runtime=litert"', "default", True),
        ('[default.global.parameters]\nparameter_overrides = "Runtime=litert"', "default", True),
        ('[dev.build.parameters]\nparameter_overrides = "Runtime=litert"', "dev", True),
        ("[dev.build.parameters]\nparallel = true", "dev", False),
        ("[default.build.parameters]\nparallel = true", "default", False),
    ],
)
def test_build_has_settings_of_its_own_or_the_shared_ones(
    tmp_path: Path, table: str, build: str, *, has_overrides: bool
) -> None:
    config = f'[dev.deploy.parameters]\nstack_name = "s"\n{table}\n'
    found = environment(_project(tmp_path, config), "dev")
    assert (found.build, found.builds_with_overrides) == (build, has_overrides)


@pytest.mark.parametrize(
    ("config", "kind", "reason"),
    [
        ('[prod.deploy.parameters]\nstack_name = "p"', NotFound, "has no environment 'dev'.*prod"),
        ("", NotFound, "It has: none"),
        ("[dev.deploy.parameters]", InvalidArgument, "names no stack for the environment 'dev'"),
        ("[dev.deploy.parameters]\nstack_name = 3", InvalidArgument, "names no stack"),
        ("dev = 3", NotFound, "has no environment 'dev'"),
        ("[dev]\ndeploy = 3", InvalidArgument, "names no stack"),
        ("[dev", InvalidArgument, "samconfig.toml is not valid: "),
        (
            '[dev.deploy.parameters]\nstack_name = "s"\nparameter_overrides = 3',
            InvalidArgument,
            "parameter_overrides is 3",
        ),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, config: str, kind: type[Exception], reason: str
) -> None:
    with pytest.raises(kind, match=reason):
        environment(_project(tmp_path, config), "dev")


@pytest.mark.parametrize("content", [None, b"\xff", b"["])
def test_unreadable_file_has_no_environments(tmp_path: Path, content: bytes | None) -> None:
    project = _project(tmp_path)
    path = project / "samconfig.toml"
    path.unlink() if content is None else path.write_bytes(content)
    assert environments_of(project) == []
    with pytest.raises((InvalidArgument, NotFound), match=r"samconfig\.toml"):
        environment(project, "dev")
