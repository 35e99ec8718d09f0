"""Decides which fetches of a graph may be computed twice without a lasting effect.

TensorFlow's registry shows which operations may have an effect: stateful ones, and those that take
references. The ones below only read, call functions, or keep state that ends with the run; any
other, such as a custom op, is assumed to have an effect.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

from lambda_serving import protos
from lambda_serving.errors import ServingError
from lambda_serving.servables.graph_defs import nodes_run
from lambda_serving.servables.tensorflow_c.library import content_of, deleted, library, status
from lambda_serving.servables.tensorflow_c.op_libraries import ops
from lambda_serving.servables.tensorflow_c.prototypes import Output

__all__ = ["are_repeatable"]

_READING = """
HashTable HashTableV2 LookupTableExport LookupTableExportV2 LookupTableFind LookupTableFindV2
LookupTableSize LookupTableSizeV2 MutableHashTableOfTensorsV2 MutableHashTableV2 QueueSize
QueueSizeV2 ReadVariableOp ResourceGather ResourceGatherNd VarHandleOp VarIsInitializedOp Variable
VariableShape VariableV2
"""
_CALLING = frozenset(("Case", "If", "StatefulPartitionedCall", "While"))
_OF_THE_RUN = frozenset(("Assert", "Empty", "_Arg", "_Retval"))
_OF_THE_RUN_BEGINNINGS = ("Stack", "TensorArray")


def are_repeatable(graph: int, fetches: Iterable[Output]) -> bool:
    """Whether a `TF_Graph` computes these outputs without a lasting effect; False if unknown."""
    name_of = library().TF_OperationName
    names = [name_of(fetch.oper).decode() for fetch in fetches]
    try:
        definition = _definition(graph)
    except ServingError:  # the graph is too large for a message
        return False
    functions = {each.signature.name for each in definition.library.function}
    nodes = nodes_run(definition, names)
    return not any(_has_effect(node) for node in nodes if node.op not in functions)


def _has_effect(node: Any) -> bool:
    known, random = _without_effect()
    if node.op in random:  # with a seed, a repeated run would advance a known sequence
        return bool(node.attr["seed"].i or node.attr["seed2"].i)
    return node.op not in known and not node.op.startswith(_OF_THE_RUN_BEGINNINGS)


@cache
def _without_effect() -> tuple[frozenset[str], frozenset[str]]:
    """Operations that never have an effect, and those that have one only with a seed."""
    known, random = {*_READING.split(), *_CALLING, *_OF_THE_RUN}, set()
    for op in ops():
        if not op.is_stateful and not any(taken.is_ref for taken in op.input_arg):
            known.add(op.name)
        elif {"seed", "seed2"} <= {attribute.name for attribute in op.attr}:
            random.add(op.name)
    return frozenset(known), frozenset(random)


def _definition(graph: int) -> Any:
    """The `tensorflow.GraphDef`."""
    lib = library()
    with deleted(lib.TF_NewBuffer()) as buffer:
        with status() as st:
            lib.TF_GraphToGraphDef(graph, buffer, st)
        return protos.message("tensorflow.GraphDef").FromString(content_of(buffer))
