"""The features that a graph parses from `tf.Example`s."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lambda_serving.dtypes import DType
from lambda_serving.servables.graph_defs import by_name, constant, data_inputs, node_name, reachable

__all__ = ["Feature", "features"]

_SPARSE_VALUES = 2


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature that a graph parses from a `tf.Example`: its name, dtype and number of values."""

    name: str
    dtype: DType
    values: int


def features(graph: Any, outputs: Sequence[str]) -> list[Feature]:
    """The features parsed from examples to compute these tensors."""
    nodes = by_name(graph)
    found: list[Feature] = []
    for name in sorted(reachable(graph, map(node_name, outputs))):
        match nodes[name].op:
            case "ParseExampleV2":
                found += _parsed(nodes, nodes[name])
            case "ParseExample":
                found += _parsed_by_first_version(nodes, nodes[name])
    return found


def _parsed(nodes: dict[str, Any], node: Any) -> Iterator[Feature]:
    """Inputs: serialized, names, sparse keys, dense keys, ragged keys, defaults."""
    sparse, dense, ragged = (_keys(nodes, each) for each in data_inputs(node)[2:5])
    yield from _dense(node, dense)
    for keys, attribute in ((sparse, "sparse_types"), (ragged, "ragged_value_types")):
        for key, dtype in zip(keys, node.attr[attribute].list.type, strict=True):
            yield Feature(key, DType(dtype), _SPARSE_VALUES)


def _parsed_by_first_version(nodes: dict[str, Any], node: Any) -> Iterator[Feature]:
    """Inputs: serialized, names, each sparse key, each dense key, defaults."""
    sparse, dense = node.attr["Nsparse"].i, node.attr["Ndense"].i
    keys = [key for each in data_inputs(node)[2 : 2 + sparse + dense] for key in _keys(nodes, each)]
    yield from _dense(node, keys[sparse:])
    for key, dtype in zip(keys[:sparse], node.attr["sparse_types"].list.type, strict=True):
        yield Feature(key, DType(dtype), _SPARSE_VALUES)


def _dense(node: Any, keys: Sequence[str]) -> Iterator[Feature]:
    dtypes, shapes = node.attr["Tdense"].list.type, node.attr["dense_shapes"].list.shape
    for key, dtype, shape in zip(keys, dtypes, shapes, strict=True):
        sizes = [dim.size if dim.size >= 0 else 1 for dim in shape.dim]
        yield Feature(key, DType(dtype), int(np.prod(sizes, dtype=np.int64)))


def _keys(nodes: dict[str, Any], tensor: str) -> list[str]:
    """Names of features in a constant; none if they are computed."""
    node = nodes[node_name(tensor)]
    if node.op != "Const":
        return []
    return [key.decode("utf-8", "replace") for key in constant(node).reshape(-1)]
