"""Chunks through a servable whose functions are Python's."""

from collections.abc import Callable

import numpy as np
import pytest

from lambda_serving.batch_job.chunks import Chunk, Part, joined
from lambda_serving.batch_job.predictions import predict, rows_at_once
from lambda_serving.batch_job.readers import RowFormat, format_of
from lambda_serving.batch_job.receipts import Assignment, Receipt
from lambda_serving.batch_job.run import shard_of
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import InvalidArgument
from lambda_serving.servables.servable import Signature, TensorSpec
from lambda_serving.store.patterns import Input
from support.functions import Computed, servable_of

_Shape = tuple[int | None, ...] | None


def _run(compute: Callable[[Array], Array]) -> Computed:
    return Computed(lambda x: [compute(x)], is_quick=lambda _: True)


def _rows(run: Computed) -> list[int]:
    """How many rows each run was given, without a timeout."""
    return [np.size(x) for (x,), timeout_ms in run.calls if timeout_ms == 0]


def _signature(*shapes: _Shape) -> Signature:
    specs = {f"x{n}": TensorSpec(DType.FLOAT, shape, "x:0") for n, shape in enumerate(shapes)}
    return Signature("s", specs, {"y": TensorSpec(DType.FLOAT, None, "y:0")}, "", b"", {})


def _predict(shape: _Shape, run: Computed, *values: float) -> Chunk:
    signature = _signature(shape)
    servable = servable_of(signature, function=run)
    places = range(len(values))
    chunk = Chunk(1, len(values), [Part(places, {"x0": np.array(values)})], {})
    return predict(servable, signature, chunk)


def _answers(chunk: Chunk) -> dict[int, float]:
    return {
        place: value
        for part in chunk.parts
        for place, value in zip(part.places, part.arrays["y"].tolist(), strict=True)
    }


def _refuse_negative(x: Array) -> Array:
    if (x < 0).any():
        raise InvalidArgument("negative")
    return x * 2


@pytest.mark.parametrize(
    ("shapes", "rows"),
    [
        ([(None, 3)], 64),
        ([None], 64),
        ([(None,), None], 64),
        ([(5, 2)], 5),
        ([(5, 2), (5,)], 5),
        ([()], 1),
        ([(None,), ()], 1),
        ([(5,), (4,)], 1),
    ],
)
def test_a_run_takes_what_all_inputs_have_in_common(shapes: list[_Shape], rows: int) -> None:
    assert rows_at_once(_signature(*shapes), 64) == rows


def test_rows_are_run_together() -> None:
    run = _run(_refuse_negative)
    assert _answers(_predict((None,), run, 1, 2, 3)) == {0: 2, 1: 4, 2: 6}
    assert _rows(run) == [3]


def test_a_failing_run_is_one_of_each_row() -> None:
    run = _run(_refuse_negative)
    made = _predict((None,), run, 1, -2, 3)
    assert (_answers(made), made.errors) == ({0: 2, 2: 6}, {1: "negative"})
    assert _rows(run) == [3, 1, 1, 1]


def test_a_lone_row_is_not_run_twice() -> None:
    run = _run(_refuse_negative)
    assert _predict((None,), run, -1).errors == {0: "negative"}
    assert _rows(run) == [1]


def test_a_fixed_number_of_rows_is_filled_up() -> None:
    run = _run(_refuse_negative)
    assert _answers(_predict((5,), run, 1, 2)) == {0: 2, 1: 4}
    assert _rows(run) == [5]


def test_a_signature_without_rows_gets_what_each_row_holds() -> None:
    run = _run(lambda x: np.asarray(x) + 1)
    assert _answers(_predict((), run, 1)) == {0: 2}


def test_an_output_that_is_not_of_rows_is_an_error_of_each() -> None:
    made = _predict((None,), _run(lambda x: x.sum()), 1, 2)
    assert set(made.errors) == {0, 1}
    assert "has the shape [] for 1 rows" in made.errors[0]


def test_rows_of_equal_shapes_are_joined() -> None:
    rows = {0: np.ones((1, 2)), 1: np.ones((1, 3)), 3: np.zeros((1, 2))}
    made = joined({place: {"x": array} for place, array in rows.items()})
    assert [(part.places, part.arrays["x"].shape) for part in made] == [
        ([0, 3], (2, 2)),
        ([1], (1, 3)),
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.JSONL", "b/a.ndjson"])
def test_an_extension_tells_the_format(name: str) -> None:
    assert format_of(name) is RowFormat.JSONL


@pytest.mark.parametrize("name", ["a", "jsonl.txt", "a.jsonl.gz"])
def test_another_extension_tells_nothing(name: str) -> None:
    with pytest.raises(InvalidArgument, match="Give it: --format"):
        format_of(name)


@pytest.mark.parametrize("count", range(6))
@pytest.mark.parametrize("shards", range(1, 8))
def test_each_file_is_of_one_shard(count: int, shards: int) -> None:
    files = [Input(str(number), 1, "") for number in range(count)]
    dealt = [file for shard in range(shards) for file in shard_of(files, shard, shards)]
    assert sorted(dealt, key=lambda file: file.name) == files


def test_a_receipt_is_read_back_as_it_was_and_nothing_else_is_one() -> None:
    task = Assignment(Input("a.jsonl", 1, "tag"), "digest", "serving_default", RowFormat.JSONL)
    receipt = Receipt(task, 3, 1, 10)
    assert Receipt.of_json(receipt.to_json()) == receipt
    for other in (b"", b"{}\n", b"[]", b"{", receipt.to_json().replace(b"jsonl", b"x")):
        assert Receipt.of_json(other) is None


def test_outputs_are_named_by_their_input() -> None:
    named = {form: Assignment(Input("a/b", 1, ""), "", "", form).output for form in RowFormat}
    assert named == {
        RowFormat.JSONL: "a/b.jsonl",
        RowFormat.TFRECORD: "a/b.jsonl",
        RowFormat.NPZ: "a/b.npz",
    }
