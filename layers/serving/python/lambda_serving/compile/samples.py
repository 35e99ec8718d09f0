"""Draws inputs for comparing two servables from their signatures; the same ones every time."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from lambda_serving import protos
from lambda_serving.compile.parsed_features import Feature, features
from lambda_serving.dtypes import Array, DType
from lambda_serving.servables.graph_defs import by_name, constant, node_name, op_set
from lambda_serving.servables.servable import Servable, Signature
from lambda_serving.servables.warmup import recorded

__all__ = [
    "ROWS",
    "UNUSUAL",
    "draw",
    "nans",
    "rejects",
    "sample_inputs",
    "strings",
    "unusual",
    "with_rows",
]

ROWS = (1, 2, 7)
"""The sizes to try for free dimensions."""
_LENGTHS = ((1, 128), (2, 33), (1, 16))
"""Rows and sizes if one dimension after the first is free, as for sequences."""
_AREAS = ((1, 224), (1, 96), (1, 64), (2, 33), (1, 32))
"""Rows and sizes if several are free, as for images, which networks halve five times or more."""
_STEP = 8
"""How much each free dimension exceeds the previous one, so that no two can be confused."""
_MOST_ELEMENTS = 2**20
UNUSUAL = (np.nan, np.inf, -np.inf, 1e-40)
"""Values that a fused operation may lose: NaN, infinities and a denormal float32."""
_REJECTING = op_set(
    """
    ParameterizedTruncatedNormal RandomGamma RandomPoisson RandomPoissonV2
    StatefulRandomBinomial StatelessParameterizedTruncatedNormal StatelessRandomBinomial
    StatelessRandomGammaV2 StatelessRandomGammaV3 StatelessRandomPoisson
    """
)
"""They draw until a number fits; with NaN as a parameter, none ever does."""
_MOST_WORDS = 100
_DECODERS = frozenset(("DecodeImage", "DecodeJpeg", "DecodePng"))
_FILLERS = frozenset(
    ("InitializeTable", "InitializeTableV2", "LookupTableImport", "LookupTableImportV2")
)
_IMAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAMAAAADCAIAAADZSiLoAAAAJklEQVR42mNgMM1Sjer3qt/CED3haMPW"
    "V0tv8TNse61wW8AVKAMAsfMMGNOlnVUAAAAASUVORK5CYII="
)
"""A PNG of 3 by 3 pixels, which TensorFlow decodes as any kind of image but BMP and GIF."""


def sample_inputs(
    servable: Servable, export_dir: Path, graph: Any, *, thorough: bool = False
) -> dict[str, list[Mapping[str, Array]]]:
    """Inputs by signature: from the warm-up records, then random ones, then unusual values.

    `graph` is that of the compiled servable, where functions are inlined. `thorough` ones
    hold NaN at either end and everywhere too, and inputs without rows come last.
    """
    vocabulary = strings(export_dir, graph)
    found: dict[str, list[Mapping[str, Array]]] = {name: [] for name in servable.signatures}
    for name, each in recorded(servable, export_dir):
        found[name].append(each)
    for name, signature in servable.signatures.items():
        outputs = [spec.tensor_name for spec in signature.outputs.values()]
        drawn = list(draw(signature, features(graph, outputs), vocabulary))
        found[name] += drawn
        if drawn and not rejects(graph):
            found[name] += unusual(drawn[0])
            found[name] += nans(drawn[0]) if thorough else ()
        if thorough and drawn and (empty := with_rows(signature, drawn[0], 0)):
            found[name].append(empty)
    return found


def with_rows(
    signature: Signature, inputs: Mapping[str, Array], rows: int
) -> Mapping[str, Array] | None:
    """Inputs of so many rows, each the first one of `inputs`.

    If the signature fixes the number of rows, these are `inputs` for one row, and otherwise None.
    """
    free = {
        name
        for name, spec in signature.inputs.items()
        if (spec.shape is None or spec.shape[:1] == (None,)) and inputs[name].ndim
    }
    if not free:
        return inputs if rows == 1 else None
    if not all(len(inputs[name]) for name in free):
        return None
    return {
        name: np.repeat(array[:1], rows, axis=0) if name in free else array
        for name, array in inputs.items()
    }


def draw(
    signature: Signature, examples: Sequence[Feature], vocabulary: Sequence[bytes]
) -> Iterator[dict[str, Array]]:
    """Inputs of each size in `ROWS`; of one row if no dimension is free.

    If dimensions after the first are free, sizes typical of images or sequences come first: with a
    size from `ROWS`, a graph may have nothing left to compute. Strings are serialized `tf.Example`s
    if the graph parses such `examples`, else words of the `vocabulary`. Yields nothing for dtypes
    that no array can hold.
    """
    random = np.random.default_rng(0)
    for rows, size in _sizes([spec.shape for spec in signature.inputs.values()]):
        shapes = {name: _shape(spec.shape, rows, size) for name, spec in signature.inputs.items()}
        if size > max(ROWS) and sum(map(prod, shapes.values())) > _MOST_ELEMENTS:
            continue
        try:
            yield {
                name: _array(spec.dtype, shapes[name], examples, vocabulary, random)
                for name, spec in signature.inputs.items()
            }
        except KeyError:
            return


def _sizes(shapes: Sequence[tuple[int | None, ...] | None]) -> list[tuple[int, int]]:
    """Pairs of rows and the size of the first other free dimension."""
    inner = max((shape[1:].count(None) for shape in shapes if shape), default=0)
    larger = _AREAS if inner > 1 else _LENGTHS if inner else ()
    if inner or any(shape is None or None in shape for shape in shapes):
        return [*larger, *((rows, rows) for rows in ROWS)]
    return [(ROWS[0], ROWS[0])]


def _shape(shape: tuple[int | None, ...] | None, rows: int, size: int) -> tuple[int, ...]:
    """Fills in free dimensions; after the first, large ones grow by `_STEP` each."""
    if shape is None:
        return (rows,)
    step = _STEP if size > max(ROWS) else 0
    found: list[int] = []
    for axis, known in enumerate(shape):
        if known is not None:
            found.append(known)
        else:
            found.append(size + step * shape[1:axis].count(None) if axis else rows)
    return tuple(found)


def unusual(inputs: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """The inputs with each value of `UNUSUAL` in the middle of every array that can hold it."""
    for value in UNUSUAL:
        yield from _changed(inputs, value)


def nans(inputs: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """The inputs with NaN at the beginning, at the end and everywhere: kernels may lose some."""
    for places in (slice(1), slice(-1, None), slice(None)):
        yield from _changed(inputs, np.nan, places)


def _changed(
    inputs: Mapping[str, Array], value: float, places: slice | None = None
) -> Iterator[dict[str, Array]]:
    """The inputs with a value in these places, or in the middle, of all arrays that can hold it.

    Yields nothing if none can.
    """
    able = [name for name, array in inputs.items() if array.dtype.kind in "fc" and array.size]
    changed = {name: inputs[name].copy() for name in able}
    for array in changed.values():
        array.flat[array.size // 2 if places is None else places] = value
    if able:
        yield {**inputs, **changed}


def rejects(graph: Any) -> bool:
    """Whether a graph has operations that may never end on values of `UNUSUAL`.

    Unlike loops, they cannot be stopped by a timeout.
    """
    return any(node.op in _REJECTING for node in _nodes(graph))


def _nodes(graph: Any) -> Iterator[Any]:
    """All nodes, including those of functions."""
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def strings(export_dir: Path, graph: Any) -> list[bytes]:
    """The strings to draw from: an image if the graph decodes images, else words.

    Words are keys of the graph's tables, lines of the export's text assets, which may be keys too,
    and a few others.
    """
    if any(node.op in _DECODERS for node in _nodes(graph)):
        return [_IMAGE]
    found = [b"", b"the", b"unheard-of", *_table_keys(graph)]
    for asset in sorted((export_dir / "assets").glob("*")):
        if asset.is_file():
            with asset.open("rb") as file:
                found += [line.strip() for line in file.readlines(1 << 16)[:_MOST_WORDS]]
    return found


def _table_keys(graph: Any) -> Iterator[bytes]:
    nodes = by_name(graph)
    for node in graph.node:
        if node.op in _FILLERS:
            keys = nodes[node_name(node.input[1])]
            if keys.op == "Const" and keys.attr["dtype"].type == DType.STRING:
                yield from constant(keys).reshape(-1)[:_MOST_WORDS]


def _array(
    dtype: DType,
    shape: tuple[int, ...],
    examples: Sequence[Feature],
    vocabulary: Sequence[bytes],
    random: np.random.Generator,
) -> Array:
    if dtype is DType.STRING and examples:
        array: Array = np.empty(shape, object)
        for index in np.ndindex(shape):
            array[index] = _example(examples, vocabulary, random)
        return array
    return _values(dtype, shape, vocabulary, random)


def _values(
    dtype: DType, shape: tuple[int, ...], vocabulary: Sequence[bytes], random: np.random.Generator
) -> Array:
    """Random values; raises KeyError for a dtype that no array can hold."""
    kind = "u" if dtype.numpy.names else dtype.numpy.kind  # quantized
    if dtype is DType.STRING:
        return random.choice(np.array([*vocabulary], object), shape)
    if dtype is DType.BOOL:
        return random.random(shape) < 0.5
    if kind in "iu":  # small, as they may be indices; uint8 are pixels
        high = 256 if dtype is DType.UINT8 else 3
        return random.integers(0, high, shape).astype(dtype.numpy)
    if kind == "c":
        return (random.normal(size=shape) + 1j * random.normal(size=shape)).astype(dtype.numpy)
    return random.normal(size=shape).astype(dtype.numpy)


def _example(
    examples: Sequence[Feature], vocabulary: Sequence[bytes], random: np.random.Generator
) -> bytes:
    example = protos.message("tensorflow.Example")()
    for feature in examples:
        values = _values(feature.dtype, (feature.values,), vocabulary, random).tolist()
        made = example.features.feature[feature.name]
        match feature.dtype:
            case DType.STRING:
                made.bytes_list.value.extend(values)
            case DType.INT64:
                made.int64_list.value.extend(values)
            case _:
                made.float_list.value.extend(values)
    return bytes(example.SerializeToString(deterministic=True))
