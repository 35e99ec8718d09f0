"""The examples that a graph parses."""

from typing import Any

from lambda_serving.compile.parsed_features import Feature, features
from lambda_serving.dtypes import DType
from support.graphs import add, graph, words


def _types(node: Any, key: str, *dtypes: DType) -> None:
    node.attr[key].list.type.extend(dtypes)


def _shape(node: Any, *sizes: int) -> None:
    shape = node.attr["dense_shapes"].list.shape.add()
    for size in sizes:
        shape.dim.add(size=size)


def test_features_are_those_that_the_graph_parses() -> None:
    made = graph()
    inputs = [
        words(made, "none"),
        words(made, "sparse", b"query"),
        words(made, "dense", b"age", b"grid"),
        words(made, "ragged", b"tags"),
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
    names = [words(made, "none"), words(made, "s", b"query"), words(made, "d", b"age")]
    parse = add(made, "ParseExample", "parse", "none", *names)
    parse.attr["Nsparse"].i, parse.attr["Ndense"].i = 1, 1
    _types(parse, "sparse_types", DType.STRING)
    _types(parse, "Tdense", DType.INT64)
    _shape(parse, 1)
    assert features(made, ["parse:0"]) == [
        Feature("age", DType.INT64, 1),
        Feature("query", DType.STRING, 2),
    ]
