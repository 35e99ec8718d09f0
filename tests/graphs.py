"""Small graphs for tests, written node by node."""

from typing import Any

import numpy as np

from lambda_serving import protos
from lambda_serving.compile.graphs import add_constant
from lambda_serving.dtypes import Array, DType

__all__ = ["add", "constants", "graph", "node"]


def graph() -> Any:
    """An empty `GraphDef`."""
    return protos.message("tensorflow.GraphDef")()


def add(to: Any, op: str, name: str, *inputs: str, **attributes: Any) -> Any:
    """A new node; attributes are `bytes`, `bool`, a `DType` or, for functions, `str`."""
    made = to.node.add(op=op, name=name, input=inputs)
    for key, value in attributes.items():
        match value:
            case DType():
                made.attr[key].type = value
            case bool():
                made.attr[key].b = value
            case bytes():
                made.attr[key].s = value
            case str():
                made.attr[key].func.name = value
    return made


def constants(to: Any, **values: Any) -> None:
    """`Const` nodes by name, of floats unless an array says otherwise."""
    for name, value in values.items():
        array: Array = value if isinstance(value, np.ndarray) else np.array(value, np.float32)
        add_constant(to, name, array)


def node(of: Any, name: str) -> Any:
    """The node of that name."""
    (found,) = (each for each in of.node if each.name == name)
    return found
