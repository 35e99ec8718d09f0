"""A custom op library, built here with TensorFlow's C API for kernels, and a model that uses it."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest

from lambda_serving.errors import InvalidArgument, NotFound
from lambda_serving.servables import saved_model
from lambda_serving.servables.compiled_folder import MARKER
from lambda_serving.servables.tensorflow_c.op_libraries import load_op_library
from support.commands import compiled_or_slower
from support.server_process import COMMAND

_OP = """
    #include "tensorflow/c/kernels.h"
    #include "tensorflow/c/ops.h"

    static void Triple(void*, TF_OpKernelContext* context) {
      TF_Status* status = TF_NewStatus();
      TF_Tensor* x;
      TF_GetInput(context, 0, &x, status);
      int64_t n = TF_TensorElementCount(x);
      TF_Tensor* y = TF_AllocateOutput(context, 0, TF_FLOAT, &n, 1, n * sizeof(float), status);
      const float* from = static_cast<const float*>(TF_TensorData(x));
      float* to = static_cast<float*>(TF_TensorData(y));
      for (int64_t i = 0; i < n; ++i) to[i] = 3 * from[i];
      TF_DeleteTensor(x);
      TF_DeleteTensor(y);
      TF_DeleteStatus(status);
    }

    __attribute__((constructor)) static void Register() {
      TF_Status* status = TF_NewStatus();
      TF_OpDefinitionBuilder* op = TF_NewOpDefinitionBuilder("ServingTestTriple");
      TF_OpDefinitionBuilderAddInput(op, "x: float");
      TF_OpDefinitionBuilderAddOutput(op, "y: float");
      TF_OpDefinitionBuilderSetShapeInferenceFunction(op, TF_ShapeInferenceContextSetUnknownShape);
      TF_RegisterOpDefinition(op, status);
      TF_RegisterKernelBuilder(
          "ServingTestTriple",
          TF_NewKernelBuilder("ServingTestTriple", "CPU", nullptr, &Triple, nullptr), status);
      TF_DeleteStatus(status);
    }
"""

_SAVE = """
    import sys

    import tensorflow as tf

    triple = tf.load_op_library(sys.argv[1]).serving_test_triple

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def function(x):
        return {"y": triple(x=x)}

    tf.saved_model.save(tf.Module(), sys.argv[2], signatures={"serving_default": function})
"""

_SERVE = """
    import sys

    import numpy as np

    from lambda_serving.servables import saved_model
    from lambda_serving.servables.tensorflow_c.op_libraries import load_op_library

    for _ in range(2):
        load_op_library(sys.argv[1])
    with saved_model.load(sys.argv[2]) as servable:
        print(servable.run("", {"x": np.float32([1, 2])})["y"].tolist())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `triple.so` and the SavedModel `export`, `y = 3 x` by the op in it."""
    folder = tmp_path_factory.mktemp("op")
    spec = find_spec("tensorflow")
    assert spec is not None
    assert spec.submodule_search_locations
    tensorflow = Path(spec.submodule_search_locations[0])
    (folder / "triple.cc").write_text(dedent(_OP))
    subprocess.run(
        [
            *("g++", "-shared", "-fPIC", f"-I{tensorflow / 'include'}", "triple.cc"),
            *(f"-L{tensorflow}", "-l:libtensorflow_framework.so.2", "-o", "triple.so"),
        ],
        cwd=folder,
        check=True,
    )
    _child(_SAVE, folder)
    return folder


def _child(program: str, folder: Path, export: Path | None = None) -> str:
    """What a Python of its own prints: an op stays registered until its process ends."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(program), folder / "triple.so", export or folder / "export"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_model_with_a_custom_op_answers_once_its_library_is_loaded(folder: Path) -> None:
    assert _child(_SERVE, folder) == "[3.0, 6.0]\n"


def test_model_with_a_custom_op_fails_without_its_library_and_names_the_op(folder: Path) -> None:
    with pytest.raises(NotFound) as raised:
        saved_model.load(folder / "export")
    assert str(raised.value).startswith(
        f"Could not load the SavedModel in {folder / 'export'}: Op type not registered"
        " 'ServingTestTriple'"
    )


def test_model_with_a_custom_op_compiles_with_its_library(folder: Path, tmp_path: Path) -> None:
    def compile_to(name: str, *flags: str) -> "subprocess.CompletedProcess[str]":
        command: list[str | Path] = [COMMAND, "compile", folder / "export", tmp_path / name, *flags]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)

    without = compile_to("without")
    assert (without.returncode, (tmp_path / "without").exists()) == (1, False)
    assert "'ServingTestTriple'" in without.stderr
    assert without.stderr.rstrip().endswith("Name the library of this custom op in --op_libraries")

    done = compile_to("done", f"--op_libraries={folder / 'triple.so'}")
    assert compiled_or_slower(tmp_path / "done", done.stdout), done.stderr
    assert _child(_SERVE, folder, tmp_path / "done") == "[3.0, 6.0]\n"


_FAKE = "tensorflow_text/python/ops/_triple.so"


@pytest.fixture(scope="module")
def installed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `triple.so` is a library of the package tensorflow_text."""
    packages = tmp_path_factory.mktemp("packages")
    (packages / _FAKE).parent.mkdir(parents=True)
    (packages / "tensorflow_text" / "__init__.py").write_text("1 / 0  # nobody imports it\n")
    (packages / _FAKE).with_name("_other.so").write_bytes(b"no library, and nobody opens it")
    shutil.copy(folder / "triple.so", packages / _FAKE)
    return packages


def _run(packages: Path, *command: str | Path) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(packages), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_op_of_an_installed_package_is_found_without_a_flag(
    folder: Path, installed: Path, tmp_path: Path
) -> None:
    shown = _run(installed, COMMAND, "inspect", folder / "export", "--json")
    assert (shown.returncode, json.loads(shown.stdout)["versions"][0]["problems"]) == (0, [])

    compiled = tmp_path / "compiled"
    done = _run(installed, sys.executable, "-c", dedent(_COMPILE), folder / "export", compiled)
    assert done.returncode == 0, done.stderr
    assert json.loads((compiled / MARKER).read_text())["op_libraries"] == [_FAKE]

    for export in (folder / "export", compiled):
        answer = _run(installed, sys.executable, "-c", dedent(_ANSWER), export)
        assert answer.stdout == "[3.0, 6.0]\n", answer.stderr


_COMPILE = """
    import sys
    from pathlib import Path

    from lambda_serving.compile.compiler import compile_saved_model
    from lambda_serving.compile.timing import Race

    export, compiled = map(Path, sys.argv[1:])
    report = compile_saved_model(export, compiled, race=Race(1, 1, lambda _: False))
    assert report.after, report.reason
"""

_ANSWER = """
    import sys

    import numpy as np

    from lambda_serving.servables import saved_model

    with saved_model.load(sys.argv[1]) as servable:
        print(servable.run("", {"x": np.float32([1, 2])})["y"].tolist())
    assert "tensorflow_text" not in sys.modules
"""


def test_package_that_does_not_fit_is_named(folder: Path, tmp_path: Path) -> None:
    library = tmp_path / "tensorflow_decision_forests/tensorflow/ops/inference/inference.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"no library, though it names ServingTestTriple")
    done = _run(tmp_path, COMMAND, "inspect", folder / "export")
    assert done.returncode == 1
    said = "It has ops of tensorflow-decision-forests, which is incompatible with TensorFlow"
    assert said in done.stderr
    assert f"Could not load op library {library}: {library}: " in done.stderr


@pytest.mark.skipif(find_spec("tensorflow_text") is None, reason="tensorflow-text is not installed")
def test_small_text_regression_answers_as_an_export_and_compiled(tmp_path: Path) -> None:
    """Of the kind of TensorFlow Serving's `tf_text_regression`."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(_TEXT), tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    wanted = json.loads(done.stdout.splitlines()[-1])
    made = subprocess.run(
        [sys.executable, "-c", dedent(_COMPILE), tmp_path / "export", tmp_path / "compiled"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    for name in ("export", "compiled"):
        answer = subprocess.run(
            [sys.executable, "-c", dedent(_ASK), tmp_path / name],
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout) == wanted


_TEXT = """
    import json
    import sys

    import tensorflow as tf
    import tensorflow_text

    class Regression(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(tf.reshape(tf.range(16.0), [16, 1]))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def serve(self, text):
            folded = tensorflow_text.normalize_utf8(tensorflow_text.case_fold_utf8(text), "NFKC")
            words = tensorflow_text.WhitespaceTokenizer().tokenize(folded)
            pairs = tensorflow_text.ngrams(
                words, 2, reduction_type=tensorflow_text.Reduction.STRING_JOIN
            )
            buckets = words.with_values(
                tf.one_hot(tf.strings.to_hash_bucket_fast(words.values, 16), 16)
            )
            y = tf.reduce_sum(buckets, axis=1) @ self.weights
            return {"y": y, "pairs": pairs.row_lengths(), "folded": folded}

    regression = Regression()
    tf.saved_model.save(regression, sys.argv[1] + "/export", signatures=regression.serve)
    answers = regression.serve(tf.constant(["Hello Wide World", "", "STRASSE straße"]))
    folded = [each.decode() for each in answers["folded"].numpy()]
    print(json.dumps([answers["y"].numpy().tolist(), answers["pairs"].numpy().tolist(), folded]))
"""
_ASK = """
    import json
    import sys

    import numpy as np

    from lambda_serving.servables import saved_model

    with saved_model.load(sys.argv[1]) as servable:
        text = np.array(["Hello Wide World", "", "STRASSE straße"], object)
        answers = servable.run("", {"text": text})
    folded = [each.decode() for each in answers["folded"]]
    print(json.dumps([answers["y"].tolist(), answers["pairs"].tolist(), folded]))
"""


def test_file_that_is_no_library_is_refused(folder: Path) -> None:
    path = folder / "triple.cc"
    with pytest.raises(InvalidArgument) as raised:
        load_op_library(str(path))
    assert str(raised.value) == f"Could not load op library {path}: {path}: invalid ELF header"


def test_library_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.so"
    with pytest.raises(InvalidArgument) as raised:
        load_op_library(str(path))
    assert str(raised.value) == (
        f"Could not load op library {path}: {path}: cannot open shared object file: No such file"
        " or directory"
    )
