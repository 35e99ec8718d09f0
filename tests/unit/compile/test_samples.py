"""Inputs drawn from signatures."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lambda_serving import protos
from lambda_serving.compile.parsed_features import Feature
from lambda_serving.compile.samples import UNUSUAL, draw, nans, rejects, strings, unusual
from lambda_serving.dtypes import Array, DType
from lambda_serving.servables.servable import Signature, TensorSpec
from support.graphs import add, constants, graph, words


def _signature(**inputs: tuple[DType, tuple[int | None, ...] | None]) -> Signature:
    specs = {name: TensorSpec(dtype, shape, f"{name}:0") for name, (dtype, shape) in inputs.items()}
    return Signature("f", specs, {}, "", b"", {})


def _shapes(**inputs: tuple[DType, tuple[int | None, ...] | None]) -> list[Any]:
    """The shapes of each draw, in the order of the inputs."""
    drawn = draw(_signature(**inputs), [], [b""])
    return [tuple(array.shape for array in each.values()) for each in drawn]


def test_rows_are_one_two_and_seven() -> None:
    found = _shapes(a=(DType.FLOAT, (None, 3)), b=(DType.INT64, None))
    assert found == [((1, 3), (1,)), ((2, 3), (2,)), ((7, 3), (7,))]


def test_sequences_have_lengths_of_their_own_and_then_those_of_rows() -> None:
    found = _shapes(words=(DType.INT64, (None, None)), mask=(DType.BOOL, (None, None, 4)))
    assert found == [
        ((rows, length), (rows, length, 4))
        for rows, length in ((1, 128), (2, 33), (1, 16), (1, 1), (2, 2), (7, 7))
    ]


def test_images_have_sizes_that_a_network_can_halve_and_no_two_sides_alike() -> None:
    found = _shapes(image=(DType.FLOAT, (None, None, None, 3)))
    assert found == [
        ((rows, height, height + (8 if height > 7 else 0), 3),)
        for rows, height in ((1, 224), (1, 96), (1, 64), (2, 33), (1, 32), (1, 1), (2, 2), (7, 7))
    ]


def test_volumes_are_drawn_as_large_as_is_quick() -> None:
    found = _shapes(volume=(DType.FLOAT, (1, None, None, None, 1)))
    assert ((1, 64, 72, 80, 1),) in found
    assert max(size for (shape,) in found for size in shape) < 96


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


def test_words_are_keys_of_tables_in_the_graph(tmp_path: Path) -> None:
    made = graph()
    add(made, "HashTableV2", "table")
    add(made, "InitializeTableV2", "fill", "table", words(made, "keys", b"cat"), "values")
    add(made, "LookupTableImportV2", "other", "table", "numbers", "values")
    constants(made, numbers=np.array([1], np.int64), values=np.array([1], np.int64))
    assert b"cat" in strings(tmp_path, made)


def test_graph_that_decodes_images_gets_one(tmp_path: Path) -> None:
    made = graph()
    made.library.function.add().node_def.add(op="DecodePng")
    (image,) = strings(tmp_path, made)
    assert Image.open(BytesIO(image)).size == (3, 3)


def test_unusual_values_are_put_into_every_array_that_holds_them() -> None:
    inputs: dict[str, Array] = {
        "a": np.ones((2, 3), np.float32),
        "b": np.ones(1, np.complex64),
        "c": np.ones(3, np.int32),
        "empty": np.ones((0, 3), np.float32),
    }
    drawn = list(unusual(inputs))
    assert len(drawn) == len(UNUSUAL)
    for each, value in zip(drawn, UNUSUAL, strict=True):
        for name, index in (("a", 3), ("b", 0)):
            np.testing.assert_equal(each[name].flat[index], inputs[name].dtype.type(value))
            assert (each[name] == 1).sum() == each[name].size - 1
        assert each["c"] is inputs["c"]
    assert (inputs["a"] == 1).all()
    assert list(unusual({"c": inputs["c"], "empty": inputs["empty"]})) == []


def test_operation_that_draws_until_a_number_fits_is_found_in_functions_too() -> None:
    made = graph()
    add(made, "RandomUniform", "drawn")
    assert not rejects(made)
    made.library.function.add().node_def.add(name="drawn", op="RandomGamma")
    assert rejects(made)


def test_nan_is_at_either_end_and_everywhere() -> None:
    inputs = {"x": np.ones((2, 2), np.float32), "i": np.ones(2, np.int32)}
    found = list(nans(inputs))
    assert [np.isnan(each["x"]).ravel().tolist() for each in found] == [
        [True, False, False, False],
        [False, False, False, True],
        [True] * 4,
    ]
    assert all(each["i"] is inputs["i"] for each in found)
    assert list(nans({"i": inputs["i"], "none": np.ones((0, 2), np.float32)})) == []
