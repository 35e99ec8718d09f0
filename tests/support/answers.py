"""The answers of each model of `build_models.py`, however it is loaded."""

import numpy as np

from lambda_serving import protos
from lambda_serving.dtypes import Array

__all__ = ["ANSWERS"]


def _floats(*values: object) -> Array:
    return np.array(values, np.float32)


def _strings(*values: bytes) -> Array:
    return np.array(values, object)


_EXAMPLE = protos.message("tensorflow.Example")


def _example(**features: float | bytes) -> bytes:
    example = _EXAMPLE()
    for name, value in features.items():
        match value:
            case bytes():
                example.features.feature[name].bytes_list.value.append(value)
            case int():
                example.features.feature[name].int64_list.value.append(value)
            case float():
                example.features.feature[name].float_list.value.append(value)
    serialized: bytes = example.SerializeToString()
    return serialized


_FIVE = np.ones((5, 2, 2), np.float32)

ANSWERS: list[tuple[str, str, dict[str, Array], dict[str, object]]] = [
    ("half_plus_two/123", "", {"x": _floats(1, 2, 5)}, {"y": [2.5, 3.0, 4.5]}),
    ("half_plus_three/123", "", {"x": _floats(1, 2, 5)}, {"y": [3.5, 4.0, 5.5]}),
    ("two_versions/1", "", {"x": _floats(2)}, {"y": [3.0]}),
    ("two_versions/2", "", {"x": _floats(2)}, {"y": [4.0]}),
    (
        "half_plus_two/123",
        "regress_x_to_y",
        {"inputs": _strings(_example(x=4.0))},
        {"outputs": [[4.0]]},
    ),
    ("half_plus_two/123", "regress_x2_to_y3", {"inputs": _floats([6])}, {"outputs": [[6.0]]}),
    ("dense/1", "", {"x": _floats([1, 2, 3, 4])}, {"y": [[4.0, 6.0]]}),
    ("dense/1", "", {"x": np.zeros((0, 4), np.float32)}, {"y": []}),
    (
        "multi/1",
        "",
        {
            "int_tensor": np.array([[7]], np.int32),
            "str_tensor": _strings(b"a\0", b"\xff"),
            "float_tensor": np.array(0.5, np.float32),
        },
        {
            "float_out": 0.5,
            "int_out": [[7]],
            "str_out": [b"a\0", b"\xff"],
            "str_out_bytes": [b"a\0", b"\xff"],
        },
    ),
    ("bytes_out/1", "", {"s": _strings(b"\x89PNG")}, {"image_bytes": [b"\x89PNG"]}),
    ("shapes/1", "", {"x": _floats(1)}, {"a": [1.0], "b": [2.0]}),
    ("shapes/1", "scalar", {"x": _floats(1, 2)}, {"total": 3.0}),
    ("shapes/1", "mismatch", {"x": _floats(1)}, {"a": [1.0], "b": [1.0, 1.0]}),
    ("shapes/1", "half_out", {"x": _floats(0.5)}, {"y": [0.5]}),
    ("shapes/1", "empty_batch", {"x": _floats([1, 2])}, {"y": []}),
    ("no_default/1", "other", {"x": _floats(1)}, {"y": [2.0]}),
    (
        "examples/1",
        "classes_only",
        {"inputs": _strings(_example(age=1))},
        {"classes": [[b"car", b"bike"]]},
    ),
    (
        "examples/1",
        "echo_query",
        {"inputs": _strings(_example(query=b"why"), _example())},
        {"classes": [[b"why"], [b""]]},
    ),
    (
        "examples/1",
        "regress",
        {"inputs": _strings(_example(age=2, ratings=0.5))},
        {"outputs": [2.5]},
    ),
    (
        "vocabulary/1",
        "",
        {"words": _strings(b"c", b"a", b"none")},
        {"ids": [2, 0, -1]},
    ),
    ("while_loop/1", "", {"x": np.array([5, 100])}, {"y": [8, 128]}),
    ("legacy_keras/1", "", {"input_1": _floats([1, 2, 3, 4])}, {"output_1": [[5.0, 6.0]]}),
    ("keras3_export/1", "", {"inputs": _floats([1, 2, 3, 4])}, {"output_0": [[34.0, 34.0]]}),
    ("keras3_export/1", "serve", {"inputs": _floats([0, 0, 0, 0])}, {"output_0": [[4.0, 4.0]]}),
    ("keras3_saved/1", "call", {"inputs": _floats([1, 2, 3, 4])}, {"output_0": [[34.0, 34.0]]}),
    ("keras3_sequential_fixed_batch/1", "", {"inputs": _FIVE}, {"output_0": [[5.0, 5.0]] * 5}),
    ("warmed/1", "", {"x": _floats(2)}, {"y": [3.0]}),
    ("shared_weights/1", "", {"x": _floats([1] * 128)}, {"y": [[2.0] * 128]}),
    ("shared_weights/1", "twice", {"x": _floats([1] * 128)}, {"y": [[4.0] * 128]}),
    ("loop_over_variable/1", "", {"x": _floats(1, -6)}, {"y": [7.0, 0.0]}),
    ("counter/1", "", {"x": _floats(1)}, {"y": [2.0]}),
    ("positive/1", "", {"x": _floats(1)}, {"y": [2.0]}),
    ("tf1/1", "", {"x": _floats([1, 2])}, {"y": [[3.0, 3.0]]}),
    ("every_dtype/1", "reference", {}, {"y": 2.5}),
    ("composites/1", "plain", {"x": _floats(1.5)}, {"y": [3.0]}),
    ("tf1/1", "lookup", {"words": _strings(b"c", b"none")}, {"ids": [2, -1]}),
]
