"""Inputs drawn from signatures, and the examples that a graph parses."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from graphs import add, graph
from lambda_serving import protos
from lambda_serving.compile.samples import Feature, draw, features, strings
from lambda_serving.dtypes import DType
from lambda_serving.servable import Signature, TensorSpec


def _signature(**inputs: tuple[DType, tuple[int | None, ...] | None]) -> Signature:
    specs = {name: TensorSpec(dtype, shape, f"{name}:0") for name, (dtype, shape) in inputs.items()}
    return Signature("f", specs, {}, "", b"", {})


def test_free_dimensions_are_one_two_and_seven() -> None:
    signature = _signature(a=(DType.FLOAT, (None, 3, None)), b=(DType.INT64, None))
    drawn = list(draw(signature, [], [b""]))
    assert [{name: array.shape for name, array in each.items()} for each in drawn] == [
        {"a": (1, 3, 1), "b": (1,)},
        {"a": (2, 3, 2), "b": (2,)},
        {"a": (7, 3, 7), "b": (7,)},
    ]
    assert [each["a"].dtype for each in drawn] == [np.float32] * 3


def test_fixed_shapes_are_drawn_once_and_the_same_each_time() -> None:
    signature = _signature(a=(DType.FLOAT, (5, 2)))
    (first,), (second,) = draw(signature, [], [b""]), draw(signature, [], [b""])
    assert first["a"].shape == (5, 2)
    assert (first["a"] == second["a"]).all()


@pytest.mark.parametrize("dtype", [each for each in DType if each.name[0] not in "RV" and each])
def test_every_dtype_that_an_array_holds_is_drawn(dtype: DType) -> None:
    (drawn,) = draw(_signature(x=(dtype, (4,))), [], [b"a", b"b"])
    assert (DType.of(drawn["x"].dtype), drawn["x"].shape) == (dtype, (4,))


@pytest.mark.parametrize("dtype", [DType.RESOURCE, DType.VARIANT])
def test_nothing_is_drawn_for_other_dtypes(dtype: DType) -> None:
    assert list(draw(_signature(x=(dtype, (None,))), [], [b""])) == []


def test_strings_are_words_or_examples() -> None:
    signature = _signature(inputs=(DType.STRING, (None,)))
    for drawn in draw(signature, [], [b"a", b"b"]):
        assert set(drawn["inputs"]) <= {b"a", b"b"}
    wanted = [
        Feature("age", DType.INT64, 1),
        Feature("name", DType.STRING, 2),
        Feature("size", DType.FLOAT, 3),
    ]
    first, *_ = draw(signature, wanted, [b"a"])
    example = protos.message("tensorflow.Example").FromString(first["inputs"][0])
    found = example.features.feature
    assert len(found["age"].int64_list.value) == 1
    assert list(found["name"].bytes_list.value) == [b"a", b"a"]
    assert len(found["size"].float_list.value) == 3


def test_words_are_lines_of_assets(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/words.txt").write_bytes(b"apple\r\npear\n")
    assert {b"apple", b"pear", b""} <= set(strings(tmp_path, graph()))
    assert strings(tmp_path / "nowhere", graph())


def test_graph_that_decodes_images_gets_one(tmp_path: Path) -> None:
    made = graph()
    made.library.function.add().node_def.add(op="DecodePng")
    (image,) = strings(tmp_path, made)
    assert Image.open(BytesIO(image)).size == (3, 3)


def _keys(made: Any, name: str, *keys: bytes) -> str:
    node = add(made, "Const", name, dtype=DType.STRING)
    tensor = node.attr["value"].tensor
    tensor.dtype = DType.STRING
    tensor.tensor_shape.dim.add(size=len(keys))
    tensor.string_val.extend(keys)
    return name


def _types(node: Any, key: str, *dtypes: DType) -> None:
    node.attr[key].list.type.extend(dtypes)


def _shape(node: Any, *sizes: int) -> None:
    shape = node.attr["dense_shapes"].list.shape.add()
    for size in sizes:
        shape.dim.add(size=size)


def test_features_are_those_that_the_graph_parses() -> None:
    made = graph()
    inputs = [
        _keys(made, "none"),
        _keys(made, "sparse", b"query"),
        _keys(made, "dense", b"age", b"grid"),
        _keys(made, "ragged", b"tags"),
    ]
    parse = add(made, "ParseExampleV2", "parse", "serialized", *inputs, "default")
    _types(parse, "sparse_types", DType.STRING)
    _types(parse, "Tdense", DType.INT64, DType.FLOAT)
    _types(parse, "ragged_value_types", DType.INT64)
    _shape(parse)
    _shape(parse, 2, -1)
    for name in ("serialized", "default"):
        add(made, "Placeholder", name)
    add(made, "Identity", "out", "parse:0")
    add(made, "Identity", "other", "serialized")
    assert features(made, ["out:0"]) == [
        Feature("age", DType.INT64, 1),
        Feature("grid", DType.FLOAT, 2),
        Feature("query", DType.STRING, 2),
        Feature("tags", DType.INT64, 2),
    ]
    assert features(made, ["other:0"]) == []


def test_features_of_the_first_version_have_a_constant_each() -> None:
    made = graph()
    names = [_keys(made, "none"), _keys(made, "s", b"query"), _keys(made, "d", b"age")]
    parse = add(made, "ParseExample", "parse", "none", *names)
    parse.attr["Nsparse"].i, parse.attr["Ndense"].i = 1, 1
    _types(parse, "sparse_types", DType.STRING)
    _types(parse, "Tdense", DType.INT64)
    _shape(parse, 1)
    assert features(made, ["parse:0"]) == [
        Feature("age", DType.INT64, 1),
        Feature("query", DType.STRING, 2),
    ]
