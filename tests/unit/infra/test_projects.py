"""A project of a user's own, as AWS SAM reads it: it deploys what the repository does."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lambda_serving.project import template, vendored
from lambda_serving.project.folder import Project
from lambda_serving.project.starting import start
from support.template_rules import RULES, View

_ROOT = Path(__file__).parents[3]
_NAMES = ["half_plus_two", "3d", "no"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with models of odd names."""
    made = start(tmp_path_factory.mktemp("projects") / "My shop").project
    for name in _NAMES:
        made.write(template.with_block(made.read(), name, f"models/{name}"))
    return made


@pytest.fixture(scope="module")
def ours(project: Project, read: Callable[..., list[View]]) -> View:
    """Its template."""
    [view] = read(project.root / "template.yaml")
    return view


def _of_type(view: View, kind: str) -> list[dict[str, Any]]:
    return [
        each
        for resources in view["stacks"].values()
        for each in resources.values()
        if each["Type"] == kind
    ]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_has_no_complaint_about_a_project(
    rule: Callable[[View], list[str]], ours: View
) -> None:
    assert rule(ours) == []


def test_project_deploys_what_the_repository_does(ours: View, view: View) -> None:
    def system(view: View) -> dict[str, Any]:
        return {
            f"{path}/{name}": resource["Type"]
            for path, resources in view["stacks"].items()
            for name, resource in resources.items()
            if path.startswith("System")
        }

    def model(view: View, stack: str) -> dict[str, str]:
        return {name: each["Type"] for name, each in view["stacks"][stack].items()}

    assert system(ours) == system(view)
    assert model(ours, "HalfPlusTwo") == model(view, "HalfPlusTwo")
    assert {each["Properties"]["FunctionName"] for each in _of_type(ours, "AWS::Lambda::Function")
            if each["Metadata"].get("DockerBuildTarget") == "predict"} == {
        f"local-{name}" for name in _NAMES
    }  # fmt: skip


def test_images_are_built_of_files_that_are_there(ours: View, project: Project) -> None:
    functions = [
        each for each in _of_type(ours, "AWS::Lambda::Function") if "Dockerfile" in each["Metadata"]
    ]
    assert len(functions) == len(_NAMES) + 3
    for function in functions:
        built = function["Metadata"]
        context = project.root / "infra" / built["DockerContext"]
        assert context.resolve() == project.root.resolve()
        assert (context / built["Dockerfile"]).is_file()
        assert (context / built["DockerBuildArgs"]["FILES"] / "images/Dockerfile").is_file()


def test_code_of_other_functions_is_there(project: Project) -> None:
    text = (project.root / "infra/release.yaml").read_text()
    folders = re.findall(r"(?:CodeUri|ContentUri): (\S+)", text)
    assert len(folders) == 2
    assert all((project.root / "infra" / folder).is_dir() for folder in folders)
    texts = [path.read_text() for path in (project.root / "infra").glob("*.yaml")]
    assert not any("../" in each for each in texts)


@pytest.mark.parametrize("linter", [("cfn-lint",), ("sam", "validate", "--lint", "--template")])
def test_linters_take_a_project(
    linter: tuple[str, ...],
    project: Project,
    sam_says: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("SAM_CLI_TELEMETRY", "0")
    program, *arguments = linter
    said = sam_says(_ROOT / ".venv-sam/bin" / program, *arguments, project.root / "template.yaml")
    assert said == "" or "is a valid SAM Template" in said


def _stages() -> dict[str, str]:
    """The text of each stage of the Dockerfile, by its name."""
    text = (_ROOT / "images/Dockerfile").read_text()
    return dict(re.findall(r"^FROM \S+ AS (\S+)\n((?:(?!FROM ).*\n)*)", text, re.MULTILINE))


def test_dockerfile_finds_its_files_in_the_repository_and_in_a_project(project: Project) -> None:
    copied = [
        (stage, path)
        for stage, text in _stages().items()
        for line in re.findall(r"^COPY ((?!--from).*) \S+$", text, re.MULTILINE)
        for path in line.split()
        if path != "${MODEL}"
    ]
    assert len(copied) >= 10
    for stage, path in copied:
        assert path.startswith("${FILES}/"), path
        assert "ARG FILES\n" in _stages()[stage]
        for files in (_ROOT, project.root / "infra"):
            assert Path(path.replace("${FILES}", str(files))).exists(), path


def test_every_parameter_of_the_system_is_given_or_has_a_default() -> None:
    text = (_ROOT / "infra/system.yaml").read_text()
    parameters, _, rest = text.partition("\nConditions:")
    needed = re.findall(r"\n  (\w+):\n(?:    (?!Default).*\n)*(?=  \w|\Z)", f"{parameters}\n")
    assert rest
    root = vendored.root_template()
    given = root[root.index("  System:\n") : root.index("  ModelSettings:\n")]
    assert set(needed) <= set(re.findall(r"^        (\w+): !Ref", given, re.MULTILINE))
