"""Small graphs for tests, written node by node."""

from pathlib import Path
from typing import Any

import numpy as np

from lambda_serving import protos
from lambda_serving.compile.graph_edits import add_constant
from lambda_serving.dtypes import Array, DType

__all__ = ["add", "constants", "graph", "node", "save", "words"]


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


def words(to: Any, name: str, *values: bytes) -> str:
    """A `Const` node of strings; returns its name."""
    made = add(to, "Const", name, dtype=DType.STRING)
    tensor = made.attr["value"].tensor
    tensor.dtype = DType.STRING
    tensor.tensor_shape.dim.add(size=len(values))
    tensor.string_val.extend(values)
    return name


def node(of: Any, name: str) -> Any:
    """The node of that name."""
    (found,) = (each for each in of.node if each.name == name)
    return found


def save(of: Any, folder: Path, **ends: dict[str, tuple[str, DType]]) -> None:
    """Writes a SavedModel without variables; `inputs` and `outputs` are tensors and dtypes by name.

    Their shapes are not known. Serialized examples, as input `inputs`, are for regression.
    """
    saved = protos.message("tensorflow.SavedModel")()
    saved.saved_model_schema_version = 1
    meta_graph = saved.meta_graphs.add(graph_def=of)
    meta_graph.meta_info_def.tags.append("serve")
    meta_graph.graph_def.versions.producer = 1000
    definition = meta_graph.signature_def["serving_default"]
    examples = ends["inputs"].get("inputs", ("", DType.INVALID))[1] is DType.STRING
    definition.method_name = f"tensorflow/serving/{'regress' if examples else 'predict'}"
    for end in ("inputs", "outputs"):
        for name, (tensor, dtype) in ends[end].items():
            info = getattr(definition, end)[name]
            info.name, info.dtype, info.tensor_shape.unknown_rank = tensor, dtype, True
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
