"""The shapes of a graph's tensors: as TensorFlow infers them, or for inputs of any shape."""

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["INPUTS", "Infer", "Shape", "Shapes", "forget_shapes", "shapes"]

Shape = Sequence[int | None] | None
"""None for an unknown rank; a size is None if unknown."""
Shapes = Callable[[str], Shape]
"""The shape of a tensor by its name."""
Infer = Callable[..., Shapes]
"""Infers the shapes of a graph; with `declared=False`, for inputs of any shape."""
INPUTS = frozenset(("Placeholder", "PlaceholderWithDefault"))
_RESULTS = {
    **dict.fromkeys(("Case", "If", "StatelessCase", "StatelessIf"), "Tout"),
    **dict.fromkeys(("StatelessWhile", "While"), "T"),
}
"""Operations that call functions, and the attribute with the dtypes of their outputs."""


def shapes(graph: Any, *, declared: bool = True) -> Shapes:
    """The shapes of a graph's tensors; with `declared=False`, those for inputs of any shape."""
    import tensorflow as tf

    copy = type(graph)()
    copy.CopyFrom(graph)
    if not declared:
        forget_shapes(copy)
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(copy, name="")

    def shape(tensor: str) -> Shape:
        name = tensor if ":" in tensor else f"{tensor}:0"
        found = imported.get_tensor_by_name(name).shape
        return None if found.rank is None else found.as_list()

    return shape


def forget_shapes(graph: Any) -> None:
    """Removes the shapes that a graph declares but does not enforce.

    The attributes of a loop or a branch name the shapes seen when it was traced; nothing checks
    them at run time.
    """
    bodies = (node for function in graph.library.function for node in function.node_def)
    for node in (*graph.node, *bodies):
        if node.op in INPUTS:
            node.attr["shape"].shape.Clear()
            node.attr["shape"].shape.unknown_rank = True
        elif node.op in _RESULTS:
            shapes = node.attr["output_shapes"].list.shape
            del shapes[:]
            for _ in node.attr[_RESULTS[node.op]].list.type:
                shapes.add(unknown_rank=True)
