"""From an export to a project whose own test passes: `init --model`, `add`, Keras's files."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lambda_serving.cli.add import name_of
from lambda_serving.cli.init import init
from lambda_serving.errors import FailedPrecondition, InvalidArgument, NotFound, ServingError
from lambda_serving.project import adding, golden_answers, keras_files
from lambda_serving.project.folder import Model, Project
from lambda_serving.project.starting import start
from lambda_serving.release.golden import GOLDEN, read
from lambda_serving.servables import saved_model
from support import commands
from support.server_process import MNIST

_HALF = Path(__file__).parents[3] / "examples/half_plus_two/1"
_MAKE_KERAS = """
import sys
import keras
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones")])
for path in sys.argv[1:]:
    model.save(path)
keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x + 1)]).save("code.keras")
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A project made with a model by the command, and what it said. The model is compiled."""
    folder = tmp_path_factory.mktemp("made") / "my shop"
    code, said, errors = commands.run(init, [str(folder), "--model", str(_HALF)], {})
    assert code == 0, errors
    return Project(folder), said


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project without models."""
    return start(tmp_path / "shop").project


def _compile(_: Path, __: Path) -> str:
    return "It compiles"


def _add(project: Project, name: str, export: Path = _HALF) -> adding.Added:
    return adding.add(project, name, export, _compile)


def _files(project: Project) -> dict[str, bytes]:
    return {
        str(path.relative_to(project.root)): path.read_bytes()
        for path in project.root.rglob("*")
        if path.is_file() and "infra" not in path.parts
    }


def test_command_says_what_it_wrote(started: tuple[Project, str]) -> None:
    project, said = started
    assert "models/half_plus_two/1: the export\n" in said
    assert "template.yaml: a block for half_plus_two, and its URL in Outputs\n" in said
    [model] = project.models()
    [version] = model.versions().values()
    exported = {each.name: each for each in _HALF.rglob("*") if each.is_file()}
    copied = {each.name: each for each in version.rglob("*") if each.is_file()}
    assert copied.keys() == exported.keys() | {"golden.jsonl"}
    assert all(copied[name].read_bytes() == exported[name].read_bytes() for name in exported)


def test_test_of_the_project_passes_and_fails_with_another_answer(
    started: tuple[Project, str], tmp_path: Path
) -> None:
    """Both runs import the project's own copy of the library."""
    root = Path(shutil.copytree(started[0].root, tmp_path / "copy"))

    def run() -> subprocess.CompletedProcess[str]:
        environment = {key: os.environ[key] for key in os.environ if key != "PYTHONPATH"}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    good = run()
    assert (good.returncode, "1 passed" in good.stdout) == (0, True), good.stdout
    golden = root / "models/half_plus_two/1" / GOLDEN
    pair = json.loads(golden.read_text())
    [name] = pair["response"]
    pair["response"][name] = np.add(pair["response"][name], 1).tolist()
    golden.write_text(json.dumps(pair))
    bad = run()
    assert bad.returncode == 1
    assert "golden.jsonl, line 1: outputs" in bad.stdout


def test_second_export_is_the_next_version_in_the_same_block(project: Project) -> None:
    first, second = _add(project, "half"), _add(project, "half")
    assert [each.version.name for each in (first, second)] == ["1", "2"]
    assert (first.block_is_new, second.block_is_new) == (True, False)
    assert project.read().count("ModelName: half\n") == 1


def test_versions_go_where_the_block_says(project: Project) -> None:
    _add(project, "half")
    (project.root / "models/half").rename(project.root / "mine")
    project.write(project.read().replace("models/half", "mine"))
    assert _add(project, "half").version == project.root / "mine/2"


def test_export_that_lies_in_its_place_stays_there(project: Project) -> None:
    place = project.root / "models/half/7"
    shutil.copytree(_HALF, place)
    assert _add(project, "half", place).version == place
    assert [each.name for each in place.parent.iterdir()] == ["7"]
    assert (place / GOLDEN).is_file()


def test_golden_answers_of_the_export_are_checked_and_kept(
    project: Project, tmp_path: Path
) -> None:
    export = Path(shutil.copytree(_HALF, tmp_path / "export"))
    (export / GOLDEN).parent.mkdir()
    (export / GOLDEN).write_text(
        '{"request": {"instances": [2.0]}, "response": {"predictions": [9]}}'
    )
    before = _files(project)
    with pytest.raises(FailedPrecondition, match=r"predictions\[0\] is 3.0, expected 9"):
        _add(project, "half", export)
    assert _files(project) == before
    assert not (project.root / "models/half").exists()
    (export / GOLDEN).write_text(
        '{"request": {"instances": [2.0]}, "response": {"predictions": [3.0]}}'
    )
    version = _add(project, "half", export).version
    assert (version / GOLDEN).read_bytes() == (export / GOLDEN).read_bytes()


def test_what_links_lead_to_is_copied(project: Project, tmp_path: Path) -> None:
    export = tmp_path / "export"
    export.mkdir()
    for each in _HALF.iterdir():
        (export / each.name).symlink_to(each)
    version = _add(project, "half", export).version
    assert not any(each.is_symlink() for each in version.rglob("*"))


@pytest.mark.parametrize(
    ("name", "edit", "error", "told"),
    [
        ("a b", lambda text: text, InvalidArgument, "such as a_b"),
        ("half", lambda text: text.replace("&settings", ""), FailedPrecondition, "anchor"),
        ("half", lambda text: f"{text}]", InvalidArgument, "not YAML"),
        ("half", lambda _: "Resources: {}\n", FailedPrecondition, "anchor"),
    ],
)
def test_refused_model_changes_nothing(
    name: str,
    edit: Callable[[str], str],
    error: type[ServingError],
    told: str,
    project: Project,
) -> None:
    project.write(edit(project.read()))
    before = _files(project)
    with pytest.raises(error, match=told):
        _add(project, name)
    assert _files(project) == before
    assert list((project.root / "models").iterdir()) == []


def test_model_that_cannot_be_compiled_changes_nothing(project: Project) -> None:
    def fail(_: Path, __: Path) -> str:
        raise InvalidArgument("is compiled already")

    before = _files(project)
    with pytest.raises(InvalidArgument):
        adding.add(project, "half", _HALF, fail)
    assert _files(project) == before
    assert list((project.root / "models").iterdir()) == []


def test_folder_outside_of_the_project_gets_no_versions(project: Project, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (project.root / "models").rmdir()
    (project.root / "models").symlink_to(tmp_path / "disk")
    with pytest.raises(FailedPrecondition, match="is outside of the project"):
        _add(project, "half")
    assert list((tmp_path / "disk").iterdir()) == []


def test_template_that_cannot_be_written_leaves_the_project_as_it_was(project: Project) -> None:
    template = project.root / "template.yaml"
    (project.root / ".template.yaml.new").mkdir()  # where it is written first
    before = template.read_bytes()
    with pytest.raises(ServingError, match="Could not write"):
        _add(project, "half")
    assert template.read_bytes() == before
    assert list((project.root / "models").iterdir()) == []


def test_model_on_a_server_has_its_versions_in_the_bucket(project: Project) -> None:
    _add(project, "half")
    text = project.read().replace("ModelFolder: models/half", "Target: gpu")
    project.write(text)
    with pytest.raises(FailedPrecondition, match="names no ModelFolder"):
        _add(project, "half")


@pytest.mark.parametrize(
    "name",
    [
        "dense",
        "examples",
        "identity_bfloat16",
        "identity_bool",
        "identity_half",
        "identity_int64",
        "keras3_export",
        "multi",
        "no_default",
        "vocabulary",
        "warmed",
    ],
)
def test_pair_is_recorded_in_the_form_that_pushes_read(
    name: str, models_dir: Path, tmp_path: Path
) -> None:
    model, version = _copied(models_dir / name, tmp_path)
    golden_answers.record(model.name, model.folder, version)
    [pair] = read((version / GOLDEN).read_bytes(), name)
    assert pair.response.keys() == {"outputs"}
    assert golden_answers.differences(model) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("counter", "does not answer the same request in the same way"),
        ("dice", "does not answer the same request in the same way"),
        ("identity_complex64", "no request to make up for its signature"),
        ("references", "no request to make up for its signature"),
    ],
)
def test_model_that_has_no_answer_to_keep_says_why(
    name: str, why: str, models_dir: Path, tmp_path: Path
) -> None:
    model, version = _copied(models_dir / name, tmp_path)
    with pytest.raises(golden_answers.Unrecorded, match=why):
        golden_answers.record(model.name, model.folder, version)
    assert not (version / GOLDEN).exists()
    assert golden_answers.differences(model) == []


def _copied(model: Path, folder: Path) -> tuple[Model, Path]:
    """A copy of a model to write into, and its version."""
    shutil.copytree(model, folder / model.name)
    [version] = (folder / model.name).iterdir()
    return Model(model.name, folder / model.name), version


@pytest.fixture(scope="module")
def keras_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in both of Keras's formats, and one that needs code."""
    folder = tmp_path_factory.mktemp("keras")
    subprocess.run(
        [sys.executable, "-c", _MAKE_KERAS, "net.keras", "net.h5"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.mark.parametrize("name", ["net.keras", "net.h5"])
def test_file_of_keras_is_exported(name: str, keras_folder: Path, tmp_path: Path) -> None:
    keras_files.export(keras_folder / name, tmp_path / "export")
    with saved_model.load(tmp_path / "export") as servable:
        [spec] = servable.signatures["serving_default"].inputs
        [answer] = servable.run("serving_default", {spec: np.ones((1, 3), np.float32)}).values()
    assert answer.tolist() == [[3.0, 3.0]]


def test_file_of_keras_that_holds_code_is_refused(keras_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"Keras cannot export .*code\.keras.*Lambda"):
        keras_files.export(keras_folder / "code.keras", tmp_path / "export")


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("none.keras", NotFound, "does not exist"),
        ("weights.weights.h5", InvalidArgument, "weights without a model"),
    ],
)
def test_file_that_is_no_model_of_keras_is_refused_at_once(
    name: str, error: type[ServingError], told: str, tmp_path: Path
) -> None:
    (tmp_path / "weights.weights.h5").write_bytes(b"")
    with pytest.raises(error, match=told):
        keras_files.export(tmp_path / name, tmp_path / "export")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("exports/my model/1", "my_model"),
        ("exports/recommender", "recommender"),
        ("Net.v2.keras", "Net_v2"),
        ("s3://bucket/models/shop/3", "shop"),
        ("/", "model"),
        ("v1.2", "v1_2"),
    ],
)
def test_model_gets_the_name_of_its_folder(source: str, name: str) -> None:
    assert name_of(source) == name


def test_project_is_not_made_for_a_model_that_is_none(tmp_path: Path) -> None:
    code, _, said = commands.run(init, [str(tmp_path / "p"), "--model", str(MNIST / "node")], {})
    assert (code, "holds neither saved_model.pb" in said) == (1, True)
    assert list(tmp_path.iterdir()) == []
    code, _, said = commands.run(init, [str(tmp_path / "p"), "--name", "x"], {})
    assert (code, "--name is the name of a --model" in said) == (2, True)
