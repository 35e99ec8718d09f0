"""What a graph remembers from one call to the next, or has from a checkpoint, besides variables.

TensorFlow's registry tells which operations may remember something: those that are stateful, give
out handles, or take references. The ones below are known to be carried by a compiled graph, or to
forget when a call ends; any other, a custom one for instance, is assumed to remember.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any

from lambda_serving.compile.graphs import nodes_run, reachable
from lambda_serving.dtypes import DType

__all__ = ["MUTABLE_TABLES", "Definition", "draws_by_seed", "remembering"]

Definition = Callable[[str], Any]
"""The `OpDef` of an operation's name, None for one that is a function of the graph."""

MUTABLE_TABLES = frozenset(("MutableHashTableOfTensorsV2", "MutableHashTableV2"))
"""Tables that a checkpoint may fill, and whose export can be imported. That of a dense table has
its empty buckets too, in a shape that an import refuses."""

_HELD = MUTABLE_TABLES | {"VarHandleOp", "Variable", "VariableV2"}
_READ = frozenset(
    (
        "DisableCopyOnRead",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "VarIsInitializedOp",
        "VariableShape",
    )
)
_TABLES_FILLED_ONCE = frozenset(  # by the init op, which a compiled graph keeps
    (
        "HashTable",
        "HashTableV2",
        "LookupTableExport",
        "LookupTableExportV2",
        "LookupTableFind",
        "LookupTableFindV2",
        "LookupTableSize",
        "LookupTableSizeV2",
    )
)
_RANDOM = frozenset(  # those with a seed give the same sequence from the same beginning
    (
        "AllCandidateSampler",
        "FixedUnigramCandidateSampler",
        "LearnedUnigramCandidateSampler",
        "LogUniformCandidateSampler",
        "Multinomial",
        "NonDeterministicInts",
        "ParameterizedTruncatedNormal",
        "RandomCrop",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "SampleDistortedBoundingBox",
        "SampleDistortedBoundingBoxV2",
        "StatelessRandomGetAlg",
        "ThreadUnsafeUnigramCandidateSampler",
        "TruncatedNormal",
        "UniformCandidateSampler",
    )
)
_SEEDS = ("seed", "seed2")
_CALLS = frozenset(
    (
        "Case",
        "If",
        "RemoteCall",
        "RiscWhile",
        "StatefulPartitionedCall",
        "While",
        "XlaCallModule",
        "XlaLaunch",
    )
)
_FORGETFUL = frozenset(
    (
        "Assert",
        "CheckNumerics",
        "CheckNumericsV2",
        "ConsumeMutexLock",
        "DatasetToSingleElement",
        "DeepCopy",
        "DestroyTemporaryVariable",
        "DeviceIndex",
        "DummyIterationCounter",
        "DummyMemoryCache",
        "DummySeedGenerator",
        "Empty",
        "GraphDefVersion",
        "GuaranteeConst",
        "IsResourceHandleRefCounting",
        "IteratorGetNext",
        "IteratorGetNextAsOptional",
        "IteratorGetNextSync",
        "MakeIterator",
        "MutexLock",
        "MutexV2",
        "Print",
        "PrintV2",
        "ReduceDataset",
        "SleepIdentityOp",
        "SleepOp",
        "TemporaryVariable",
        "Timestamp",
        "_Arg",
        "_Retval",
    )
)
_FORGETFUL_BEGINNINGS = ("Anonymous", "Delete", "Stack", "TensorArray")
"""What lives no longer than a call: made anew in each, or kept with the call's own things."""
_CREATED_BY_CALL = "Dataset"
"""Data sets are made anew in each call; they are stateful only so as not to be folded."""
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
    """Nodes that may keep something beyond a run of the nodes `names`, those of functions too.

    Left out are variables and `MUTABLE_TABLES` that are among the nodes `restored`, which have a
    value to read: `variables.writers` tells whether they change.
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
    """Whether a run of these nodes takes numbers from a sequence that a seed determines."""
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
