"""Models with free dimensions behind the first: compared on sizes that they can compute with."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from lambda_serving.compile.compiler import compile_saved_model
from lambda_serving.compile.freezer import Freezer
from lambda_serving.compile.report import Report
from lambda_serving.compile.timing import Race
from lambda_serving.compile.verify import Answers, Check, answers, check
from lambda_serving.servables import saved_model

_SAVE = """
    import sys

    import tensorflow as tf

    random = tf.random.Generator.from_seed(1)
    module = tf.Module()
    module.filters = [tf.Variable(random.normal([3, 3, 3, 3])) for _ in range(3)]
    module.tall = tf.Variable(random.normal([5, 4, 3]))

    def classify(x):  # of few pixels nothing is left, whose mean is no number
        for each in module.filters:
            x = tf.nn.relu(tf.nn.conv2d(x, each, 2, "VALID") + 0.1)
        return {"y": tf.reduce_mean(x, [1, 2])}

    def segment(x):
        x = tf.nn.max_pool2d(tf.nn.conv2d(x, module.filters[0], 1, "SAME"), 2, 2, "VALID")
        return {"y": tf.nn.relu(tf.nn.conv2d(x, module.filters[1], 1, "SAME"))}

    def listen(x):
        return {"y": tf.reduce_mean(tf.nn.conv1d(x, module.tall, 2, "VALID"), 1)}

    def function(compute, *shape):
        return tf.function(compute, input_signature=[tf.TensorSpec(shape, tf.float32, "x")])

    tf.saved_model.save(module, sys.argv[1], signatures={
        "serving_default": function(classify, None, None, None, 3),
        "segment": function(segment, None, None, None, 3),
        "listen": function(listen, None, None, 4),
    })
"""


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, freezer: Freezer
) -> tuple[Path, Path, Report]:
    """The export, what it compiles to, and the report."""
    folder = tmp_path_factory.mktemp("sizes")
    command = [sys.executable, "-c", dedent(_SAVE), str(folder / "1")]
    subprocess.run(command, check=True, capture_output=True)
    report = compile_saved_model(
        folder / "1", folder / "2", race=Race(1, 1, lambda _: False), freezer=freezer
    )
    return folder / "1", folder / "2", report


def test_sizes_of_all_kinds_are_compared(folders: tuple[Path, Path, Report]) -> None:
    _, _, report = folders
    assert report.reason is None
    compared = {name: check.compared + check.refused for name, check in report.checks.items()}
    assert compared == {"serving_default": 12, "segment": 12, "listen": 10}
    assert all(check.compared >= 3 for check in report.checks.values())


def test_any_size_is_answered_as_by_the_export(folders: tuple[Path, Path, Report]) -> None:
    source, compiled, _ = folders
    random, sizes = np.random.default_rng(1), (0, 1, 3, 5, 9, 15, 31, 50)

    def drawn(*shape: int) -> dict[str, np.ndarray]:
        return {"x": random.normal(size=shape).astype(np.float32)}

    images = [drawn(2, size, size + 2, 3) for size in sizes]
    inputs = {"serving_default": images, "segment": images}
    inputs["listen"] = [drawn(2, size, 4) for size in sizes]
    with saved_model.load(source) as export, saved_model.load(compiled) as other:
        wanted, got = answers(export, inputs), answers(other, inputs)

    def never() -> Answers:
        raise AssertionError

    checks: dict[str, Check] = check(wanted, got, never)
    assert {name: found.compared + found.refused for name, found in checks.items()} == {
        name: len(sizes) for name in inputs
    }
    assert all(found.compared >= 5 for found in checks.values())
