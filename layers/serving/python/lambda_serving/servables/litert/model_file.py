"""What a `.tflite` file says of itself: its signatures, and the tensors that they name.

Source: the numbers of fields and of dtypes are those of LiteRT's schema.fbs, version 3. TensorFlow
Serving's servables/tensorflow/tflite_session.cc names what has no signature.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from lambda_serving import protos
from lambda_serving.dtypes import DType
from lambda_serving.errors import DataLoss, FailedPrecondition
from lambda_serving.protos import plain_signature
from lambda_serving.protos.plain_signature import PlainSignature, TensorInfo
from lambda_serving.servables.litert.flatbuffer import Content, Malformed, Table, Tables, root
from lambda_serving.servables.litert.operations import Operations
from lambda_serving.servables.servable import DEFAULT_SIGNATURE

__all__ = ["FileSignature", "ModelFile", "read"]

_IDENTIFIER = b"TFL3"
_VERSION = 3
_METADATA = "signature_defs_metadata"
_PREDICT = "tensorflow/serving/predict"
_DTYPES = (
    DType.FLOAT,
    DType.HALF,
    DType.INT32,
    DType.UINT8,
    DType.INT64,
    DType.STRING,
    DType.BOOL,
    DType.INT16,
    DType.COMPLEX64,
    DType.INT8,
    DType.DOUBLE,
    DType.COMPLEX128,
    DType.UINT64,
    DType.INVALID,  # resource
    DType.INVALID,  # variant
    DType.UINT32,
    DType.UINT16,
    DType.INVALID,  # int4, two in a byte
    DType.BFLOAT16,
)
"""By the number of a tensor's type."""


class FileSignature(NamedTuple):
    """A signature: its serialized `SignatureDef`, and the indices of its tensors by name.

    `key` is the name that LiteRT knows it by; None if it is the file's first subgraph. Inputs
    in `free` may have any shape, because the file does not say which of their dimensions are fixed.
    """

    definition: bytes
    key: str | None
    subgraph: int
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    free: frozenset[str]


class ModelFile(NamedTuple):
    """The signatures of a file by name, and the operations that it uses."""

    signatures: Mapping[str, FileSignature]
    operations: Operations

    def definitions(self) -> dict[str, bytes]:
        """Every serialized `SignatureDef` by name."""
        return {name: each.definition for name, each in self.signatures.items()}


def read(content: Content) -> ModelFile:
    """Reads the content of a `.tflite` file.

    Raises DataLoss for a file that is damaged or something else, and FailedPrecondition for one
    that needs another version of LiteRT or whose signatures cannot be called.
    """
    if content[4:8] != _IDENTIFIER:
        raise DataLoss(
            "It is no LiteRT model: it does not begin like one. Copy or convert it again"
        )
    try:
        model = root(content)
        if (version := model.number(0, "<I")) != _VERSION:
            raise FailedPrecondition(
                f"It has version {version} of the format, and LiteRT reads version {_VERSION}."
                " Convert it with a converter of this LiteRT's time"
            )
        return ModelFile(_signatures(model), Operations.of(model))
    except Malformed as error:
        raise DataLoss(f"It is damaged or was copied in part: {error}. Copy it again") from None


def _signatures(model: Table) -> dict[str, FileSignature]:
    subgraphs = model.tables(2)
    if described := _metadata(model):
        first = _Subgraph(subgraphs[0])
        return {name: _of_metadata(name, each, first) for name, each in sorted(described.items())}
    if declared := model.tables(7):
        pairs = ((each.text(2), _of_table(each, subgraphs)) for each in declared)
        return _distinct(pairs, "it names the signature {0!r} twice")
    return {DEFAULT_SIGNATURE: _made_up(_Subgraph(subgraphs[0]))}


def _distinct(pairs: Iterable[tuple[str, Any]], problem: str) -> dict[str, Any]:
    """The pairs by name, sorted; raises FailedPrecondition with `problem` if names clash."""
    found = dict[str, Any]()
    for name, value in pairs:
        if name in found:
            raise FailedPrecondition(
                f"It cannot be called: {problem.format(name)}. Convert it with names that differ"
            )
        found[name] = value
    return dict(sorted(found.items()))


class _Subgraph:
    """One graph of the file: its tensors, and which of them are its inputs and outputs."""

    def __init__(self, table: Table) -> None:
        self.tensors = table.tables(0)
        self.inputs = table.numbers(1, "i") or ()
        self.outputs = table.numbers(2, "i") or ()

    def named(self, indices: Iterable[int]) -> Iterator[tuple[str, int]]:
        for index in indices:
            yield self.tensors[index].text(3), index


def _of_table(declared: Table, subgraphs: Tables) -> FileSignature:
    """A signature of the file's own table, as every converter writes one since 2021."""
    key, number = declared.text(2), declared.number(4, "<I")
    graph = _Subgraph(subgraphs[number])
    inputs, outputs = (
        _distinct(
            ((each.text(0), each.number(1, "<I")) for each in declared.tables(field)),
            f"the signature {key!r} names {{0!r}} twice",
        )
        for field in (0, 1)
    )
    if "self" in inputs:  # LiteRT takes inputs as the keywords of a method
        raise FailedPrecondition(
            f"It cannot be called: the signature {key!r} has an input called 'self', which LiteRT"
            " does not take. Convert it with another name"
        )
    definition = _definition(graph.tensors, inputs, outputs)
    return _checked(FileSignature(definition, key, number, inputs, outputs, frozenset()), graph)


def _made_up(graph: _Subgraph) -> FileSignature:
    """The signature of a file without any: tensors are called by their names, up to a colon."""
    inputs, outputs = (
        _distinct(
            ((name.partition(":")[0], index) for name, index in graph.named(indices)),
            "two of its tensors are called {0!r}",
        )
        for indices in (graph.inputs, graph.outputs)
    )
    definition = _definition(graph.tensors, inputs, outputs)
    free = _undeclared(graph.tensors, inputs)
    return _checked(FileSignature(definition, None, 0, inputs, outputs, free), graph)


def _of_metadata(name: str, definition: bytes, graph: _Subgraph) -> FileSignature:
    """A signature of the metadata that TensorFlow Serving's tools add, a `SignatureDef`."""
    from google.protobuf.message import DecodeError

    try:
        parsed = protos.message("tensorflow.SignatureDef").FromString(definition)
    except DecodeError:
        raise Malformed(f"the signature {name!r} cannot be parsed") from None
    inputs = _indices(parsed.inputs, dict(graph.named(graph.inputs)), "input")
    outputs = _indices(parsed.outputs, dict(graph.named(graph.outputs)), "output")
    free = _undeclared(graph.tensors, inputs)
    return _checked(FileSignature(definition, None, 0, inputs, outputs, free), graph)


def _indices(infos: Any, tensors: Mapping[str, int], kind: str) -> dict[str, int]:
    """The indices of the tensors that infos name, with `:0` or, as the oldest files, without."""
    found = {}
    for name in sorted(infos):
        wanted = infos[name].name
        index = tensors.get(wanted, tensors.get(wanted.partition(":")[0]))
        if index is None:
            raise FailedPrecondition(
                f"Signature {kind} {name} references an unknown tensor: Unknown tensor '{wanted}'."
            )
        found[name] = index
    return found


def _metadata(model: Table) -> dict[str, bytes]:
    """The serialized `SignatureDef`s in the file's metadata, by name."""
    for each in model.tables(6):
        if each.text(0) == _METADATA:
            return _flexbuffer_map(model.tables(4)[each.number(1, "<I")].data(0))
    return {}


def _flexbuffer_map(data: bytes) -> dict[str, bytes]:
    from flatbuffers import flexbuffers  # few files need it

    try:
        entries = flexbuffers.GetRoot(data).AsMap
        pairs = zip(entries.Keys, entries.Values, strict=True)
        return {key.AsKey: value.AsStringBytes for key, value in pairs}
    except (ArithmeticError, LookupError, TypeError, ValueError, struct.error) as error:
        raise Malformed(f"its signatures cannot be read ({error})") from None


def _definition(tensors: Tables, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
    found, made = (
        {name: _info(tensors[index]) for name, index in indices.items()}
        for indices in (inputs, outputs)
    )
    return plain_signature.write(PlainSignature(found, made, _PREDICT))


def _info(tensor: Table) -> TensorInfo:
    return TensorInfo(tensor.text(3), _dtype(tensor), _shape(tensor))


def _dtype(tensor: Table) -> DType:
    number = tensor.number(1, "<b")
    return _DTYPES[number] if 0 <= number < len(_DTYPES) else DType.INVALID


def _shape(tensor: Table) -> tuple[int, ...] | None:
    """The dimensions, -1 for a free one; None for any rank."""
    shape = tensor.numbers(7, "i") or tensor.numbers(0, "i") or ()
    return shape if shape or tensor.number(8, "<?") else None


def _undeclared(tensors: Tables, inputs: Mapping[str, int]) -> frozenset[str]:
    """The inputs whose tensors have a shape to begin with, but none that is declared."""
    return frozenset(
        name for name, index in inputs.items() if -1 not in (tensors[index].numbers(7, "i") or ())
    )


def _checked(signature: FileSignature, graph: _Subgraph) -> FileSignature:
    """The signature; raises FailedPrecondition unless it feeds every input of its graph."""
    for problem, wanted, named in (
        ("does not feed the input", set(graph.inputs), set(signature.inputs.values())),
        ("feeds what is no input, the tensor", set(signature.inputs.values()), set(graph.inputs)),
        (
            "returns what is no output, the tensor",
            set(signature.outputs.values()),
            set(graph.outputs),
        ),
    ):
        for index in sorted(wanted - named):
            raise FailedPrecondition(
                f"It cannot be called: the signature {signature.key or DEFAULT_SIGNATURE!r}"
                f" {problem} {graph.tensors[index].text(3)!r}. Convert it again"
            )
    return signature
