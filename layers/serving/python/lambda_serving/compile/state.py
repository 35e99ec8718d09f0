"""Finds state, other than variables, that a graph keeps between calls or takes from a checkpoint.

TensorFlow's registry shows which operations may keep state: those that are stateful, return
handles, or take references. The ones below are known to work in a compiled graph, or to keep
nothing when a call ends; any other, such as a custom op, is assumed to keep state.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any

from lambda_serving.dtypes import DType
from lambda_serving.servables.graph_defs import nodes_run, op_set, reachable

__all__ = ["MUTABLE_TABLES", "Definition", "draws_by_seed", "remembering"]

Definition = Callable[[str], Any]
"""Returns the `OpDef` of an operation by name, None for a function of the graph."""

MUTABLE_TABLES = frozenset(("MutableHashTableOfTensorsV2", "MutableHashTableV2"))
"""Tables that a checkpoint may fill and whose export can be imported. The export of a dense table
includes its empty buckets, in a shape that the import refuses."""

_HELD = MUTABLE_TABLES | {"VarHandleOp", "Variable", "VariableV2"}
_READ = op_set(
    """
    DisableCopyOnRead ReadVariableOp ResourceGather ResourceGatherNd VarIsInitializedOp
    VariableShape
    """
)
_TABLES_FILLED_ONCE = op_set(  # filled by the init op, which a compiled graph keeps
    """
    HashTable HashTableV2 LookupTableExport LookupTableExportV2 LookupTableFind
    LookupTableFindV2 LookupTableSize LookupTableSizeV2
    """
)
_RANDOM = op_set(  # with a seed, they repeat one sequence from the start
    """
    AllCandidateSampler FixedUnigramCandidateSampler LearnedUnigramCandidateSampler
    LogUniformCandidateSampler Multinomial NonDeterministicInts ParameterizedTruncatedNormal
    RandomCrop RandomGamma RandomPoisson RandomPoissonV2 RandomShuffle RandomStandardNormal
    RandomUniform RandomUniformInt SampleDistortedBoundingBox SampleDistortedBoundingBoxV2
    StatelessRandomGetAlg ThreadUnsafeUnigramCandidateSampler TruncatedNormal
    UniformCandidateSampler
    """
)
_SEEDS = ("seed", "seed2")
_CALLS = op_set(
    """
    Case If RemoteCall RiscWhile StatefulPartitionedCall While XlaCallModule XlaLaunch
    """
)
_FORGETFUL = op_set(
    """
    Assert CheckNumerics CheckNumericsV2 ConsumeMutexLock DatasetToSingleElement DeepCopy
    DestroyTemporaryVariable DeviceIndex DummyIterationCounter DummyMemoryCache
    DummySeedGenerator Empty GraphDefVersion GuaranteeConst IsResourceHandleRefCounting
    IteratorGetNext IteratorGetNextAsOptional IteratorGetNextSync MakeIterator MutexLock MutexV2
    Print PrintV2 ReduceDataset SleepIdentityOp SleepOp TemporaryVariable Timestamp _Arg _Retval
    """
)
_FORGETFUL_BEGINNINGS = ("Anonymous", "Delete", "Stack", "TensorArray")
"""Resources that live no longer than a call."""
_CREATED_BY_CALL = "Dataset"
"""Data sets are created in each call; they are marked stateful only to prevent folding."""
_FILLING = "InitializeTable"
_CUSTOM = frozenset(
    (
        "SentencepieceOp",  # its model is an attribute
        "SimpleMLCreateModelResource",  # the init op reads its model from assets
        "SimpleMLInferenceLeafIndexOpWithHandle",
        "SimpleMLInferenceOp",
        "SimpleMLInferenceOpWithHandle",
    )
)
"""Operations of TensorFlow Text and TensorFlow Decision Forests."""
_KNOWN = _READ | _TABLES_FILLED_ONCE | _RANDOM | _CALLS | _FORGETFUL | _CUSTOM


def remembering(
    graph: Any, names: Iterable[str], definition: Definition, restored: Collection[str]
) -> list[Any]:
    """Nodes, also inside functions, that may keep state after a run of the nodes `names`.

    Omits variables and `MUTABLE_TABLES` among the nodes `restored`, which have a readable value;
    `variables.writers` finds out whether they change.
    """
    nodes, outside = nodes_run(graph, names), len(reachable(graph, names))
    return [
        node
        for index, node in enumerate(nodes)  # those outside of functions first
        if (found := definition(node.op)) is not None
        and _may_remember(found)
        and not _is_known(node.op)
        and not (index < outside and node.op in _HELD and node.name in restored)
    ]


def draws_by_seed(graph: Any, names: Iterable[str]) -> bool:
    """Whether a run of these nodes draws random numbers from a seeded sequence."""
    return any(
        node.op in _RANDOM and any(node.attr[key].i for key in _SEEDS if key in node.attr)
        for node in nodes_run(graph, names)
    )


def _may_remember(definition: Any) -> bool:
    return (
        definition.is_stateful
        or any(argument.is_ref for argument in (*definition.input_arg, *definition.output_arg))
        or any(argument.type == DType.RESOURCE for argument in definition.output_arg)
    )


def _is_known(op: str) -> bool:
    data_set = _CREATED_BY_CALL in op and not op.startswith(_FILLING)
    return op in _KNOWN or op.startswith(_FORGETFUL_BEGINNINGS) or data_set
