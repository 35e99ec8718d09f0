"""SavedModels to servables: answers, restores by graph and by object graph, warnings."""

import gzip
import logging
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from lambda_serving import protos
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import DataLoss, FailedPrecondition, InvalidArgument
from lambda_serving.servables import saved_model
from lambda_serving.servables.servable import TensorSpec
from lambda_serving.servables.session_overrides import CONFIG
from support.answers import ANSWERS

_DIGITS = Path(__file__).parents[3] / "examples/mnist"


@pytest.mark.parametrize(("model", "signature", "inputs", "outputs"), ANSWERS)
def test_model_answers_what_it_computes(
    models_dir: Path,
    model: str,
    signature: str,
    inputs: dict[str, Array],
    outputs: dict[str, object],
) -> None:
    with saved_model.load(models_dir / model, cache=models_dir.parent) as servable:
        answer = servable.run(signature, inputs)
    assert {name: array.tolist() for name, array in answer.items()} == outputs


@pytest.mark.parametrize(
    ("model", "signature", "alias"),
    [("saved", "serving_default", "keras_tensor"), ("saved_with_signature", "call", "inputs")],
)
def test_sample_model_reads_handwriting(
    models_dir: Path, model: str, signature: str, alias: str
) -> None:
    def read(name: str, header: int) -> Array:
        packed = (_DIGITS / "digits" / f"t10k-100-{name}-ubyte.gz").read_bytes()
        return np.frombuffer(gzip.decompress(packed), np.uint8, offset=header)

    images = read("images-idx3", 16).reshape(-1, 28, 28, 1).astype(np.float32) / 255
    with saved_model.load(_DIGITS / model / "1", cache=models_dir.parent) as servable:
        guesses = servable.run(signature, {alias: images})["output_0"].argmax(axis=1)
    assert (guesses == read("labels-idx1", 8)).mean() > 0.9


def test_signatures_are_those_of_the_export(models_dir: Path) -> None:
    with saved_model.load(models_dir / "half_plus_two" / "123") as servable:
        names = list(servable.signatures)
        default = servable.signature("")
    assert names == [
        "classify_x_to_y",
        "regress_x2_to_y3",
        "regress_x_to_y",
        "regress_x_to_y2",
        "serving_default",
        "tensorflow/serving/regress",
    ]
    assert list(servable.definitions) == ["__saved_model_init_op", *names]
    assert default.inputs == {"x": TensorSpec(DType.FLOAT, (None,), "serving_default_x:0")}
    assert [(name, spec.dtype, spec.shape) for name, spec in default.outputs.items()] == [
        ("y", DType.FLOAT, (None,))
    ]
    assert default.method_name == "tensorflow/serving/predict"


_LOAD = """
    import sys
    from pathlib import Path

    import numpy as np

    from lambda_serving.servables import saved_model

    with saved_model.load(sys.argv[1], cache=Path(sys.argv[2])) as servable:
        print(servable.run("call", {"inputs": np.ones((1, 4), np.float32)})["output_0"].tolist())
"""


def _content(folder: Path) -> dict[Path, int]:
    """Everything below a folder and when it changed: a child process would change both."""
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_loadable_copy_is_made_by_two_processes_at_once_and_then_kept(
    models_dir: Path, tmp_path: Path
) -> None:
    export, cache = models_dir / "keras3_saved" / "1", tmp_path / "cache"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", dedent(_LOAD), str(export), str(cache)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [child.communicate()[0] for child in children] == ["[[16.0, 16.0]]\n"] * 2
    assert len(list((cache / "loadable").iterdir())) == 1

    before = _content(cache)
    with saved_model.load(export, cache=cache) as servable:
        answer = servable.run("call", {"inputs": np.ones((1, 4), np.float32)})
    assert answer["output_0"].tolist() == [[16.0, 16.0]]
    assert _content(cache) == before


def test_export_without_an_object_graph_that_helps_is_refused_and_nothing_is_kept(
    models_dir: Path, tmp_path: Path
) -> None:
    export, cache = tmp_path / "export", tmp_path / "cache"
    shutil.copytree(models_dir / "keras3_saved" / "1", export)
    model = protos.message("tensorflow.SavedModel").FromString(
        (export / "saved_model.pb").read_bytes()
    )
    del model.meta_graphs[0].object_graph_def.nodes[1:]
    (export / "saved_model.pb").write_bytes(model.SerializeToString())

    with pytest.raises(FailedPrecondition) as raised:
        saved_model.load(export, cache=cache)

    message = str(raised.value)
    assert message.startswith(
        f"Could not load the SavedModel in {export}: {export} needs its object graph to restore"
        " its variables, and Python TensorFlow could not do that: "
    )
    assert message.endswith(". Export it with model.export(path)")
    assert list((cache / "loadable").iterdir()) == []


@pytest.mark.parametrize("model", ["keras3_export/1", "legacy_keras/1", "vocabulary/1"])
def test_export_that_the_graph_restores_needs_no_copy(
    models_dir: Path, tmp_path: Path, model: str
) -> None:
    saved_model.load(models_dir / model, cache=tmp_path).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["keras3_saved", "keras3_export", "legacy_keras"])
def test_export_without_its_variables_is_named_incomplete(
    models_dir: Path, tmp_path: Path, model: str
) -> None:
    export = tmp_path / "export"
    shutil.copytree(models_dir / model / "1", export)
    shutil.rmtree(export / "variables")
    with pytest.raises(DataLoss) as raised:
        saved_model.load(export, cache=tmp_path / "cache")
    assert str(raised.value).startswith(
        f"Could not load the SavedModel in {export}: variables/variables.index is missing, but"
    )
    assert str(raised.value).endswith("The export was copied in part: copy it again")


_NO_DEFAULT = "there is no signature 'serving_default': every request must name its signature"


@pytest.mark.parametrize(
    ("model", "problems"),
    [
        ("dense/1", []),
        ("no_default/1", [f"{_NO_DEFAULT} ('other')"]),
        (
            "keras3_sequential_fixed_batch/1",
            [
                (
                    "the graph restore leaves the variables NAMES without a"
                    " value, so TensorFlow Serving cannot serve this export. Its object"
                    " graph was used instead, which starts Python TensorFlow once. Export with"
                    " model.export(path)"
                ),
                (
                    "input 'inputs' of signature 'serving_default' takes only 5 rows at once,"
                    " often the batch size of its training. model.export(path) keeps it free"
                ),
            ],
        ),
    ],
)
def test_problems_are_logged_with_their_fix(
    models_dir: Path, caplog: pytest.LogCaptureFixture, model: str, problems: list[str]
) -> None:
    caplog.set_level(logging.WARNING, "lambda_serving")
    with saved_model.load(models_dir / model, cache=models_dir.parent) as servable:
        found = list(servable.problems)
    assert [re.sub(r"variables [\w/, ]+ without", "variables NAMES without", p) for p in found] == (
        problems
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"{models_dir / model}: {problem}" for problem in found
    ]


def test_warm_up_that_fails_fails_the_load_and_may_be_left_out(models_dir: Path) -> None:
    export = models_dir / "warmup_fails" / "1"
    with pytest.raises(InvalidArgument) as raised:
        saved_model.load(export)
    assert str(raised.value).startswith(
        f"Could not load the SavedModel in {export}: Warm-up record 0 of"
        f" {export}/assets.extra/tf_serving_warmup_requests failed: Matrix size-incompatible"
    )
    saved_model.load(export, warm_up=False).close()


@pytest.mark.parametrize("off", [False, True])
def test_export_may_turn_the_optimiser_off(models_dir: Path, tmp_path: Path, *, off: bool) -> None:
    """The optimiser inlines functions: without it, errors name the function they come from."""
    export_dir = shutil.copytree(models_dir / "positive" / "1", tmp_path / "1")
    saved = protos.message("tensorflow.serving.SavedModelConfig")()
    saved.session_overrides.disable_meta_optimizer = off
    saved.session_overrides.batch_op_rewriter_config = b"\x20\x01"
    (export_dir / CONFIG).parent.mkdir()
    (export_dir / CONFIG).write_bytes(saved.SerializeToString())
    with (
        saved_model.load(export_dir) as servable,
        pytest.raises(InvalidArgument, match="positive numbers only") as raised,
    ):
        servable.run("", {"x": np.array([-1], np.float32)})
    assert ("__inference_signature_wrapper" in str(raised.value)) is off


@pytest.fixture(scope="module")
def libraries_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `site-packages` like those of the images that predict: of TensorFlow only its libraries."""
    packages = tmp_path_factory.mktemp("packages")
    spec = find_spec("tensorflow")
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent
    (packages / "tensorflow").mkdir()
    for library in installed.glob("libtensorflow_*.so.2"):
        (packages / "tensorflow" / library.name).symlink_to(library)
    for each in installed.parent.iterdir():
        if not each.name.startswith(("tensorflow", "keras")):
            (packages / each.name).symlink_to(each)
    return packages


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            ["inspect", "{model}"],
            "needs its object graph to restore its variables. That takes Python",
        ),
        (
            ["inspect", "{model}", "--cache_dir=/proc/x"],
            " and serve the result",
        ),
        (
            ["compile", "{model}", "{out}"],
            "Compiling needs Python TensorFlow, and only its libraries are",
        ),
    ],
)
def test_where_only_the_libraries_are_it_says_what_to_do(
    models_dir: Path, tmp_path: Path, libraries_only: Path, command: list[str], said: str
) -> None:
    paths = {"model": models_dir / "keras3_saved" / "1", "out": tmp_path / "out"}
    done = subprocess.run(
        [sys.executable, "-S", "-m", "lambda_serving", *(each.format(**paths) for each in command)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={
            "PYTHONPATH": f"{Path(saved_model.__file__).parents[2]}:{libraries_only}",
            "PATH": "/nowhere",
            "HOME": "/proc/none",
        },
    )
    assert (done.returncode, "AttributeError" in done.stderr) == (1, False)
    assert said in done.stderr.splitlines()[-1]
