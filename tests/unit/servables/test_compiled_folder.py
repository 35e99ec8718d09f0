"""The marker of compiled servables, and the settings of their sessions."""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import pytest

from lambda_serving import protos
from lambda_serving.dtypes import Array
from lambda_serving.errors import (
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    ServingError,
)
from lambda_serving.servables import compiled_folder


def test_marked_folder_is_compiled_for_one_tensorflow(tmp_path: Path) -> None:
    assert not compiled_folder.is_compiled(tmp_path)
    compiled_folder.mark(tmp_path, "2.21.0")
    assert compiled_folder.is_compiled(tmp_path)
    compiled_folder.check(tmp_path, "2.21.0")
    with pytest.raises(FailedPrecondition) as raised:
        compiled_folder.check(tmp_path, "2.22.0")
    assert str(raised.value) == (
        "It was compiled for TensorFlow 2.21.0 (format 1), and this is TensorFlow 2.22.0"
        " (format 1). Compile it again from its export"
    )


class _Graph:
    """A graph that takes its time, and fails or answers."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error
        self.timeouts: list[int] = []

    def is_quick(self, inputs: Sequence[Array]) -> bool:
        return bool(inputs)

    def __call__(self, inputs: Sequence[Array], timeout_ms: int) -> list[Array]:
        self.timeouts.append(timeout_ms + len(inputs))
        start = monotonic()
        while monotonic() - start < 0.01:
            pass
        if self._error:
            raise self._error
        return []


@pytest.mark.parametrize(
    ("timeout_ms", "least", "most"), [(60_000, 1, 59_991), (5, 1, 1), (0, 0, 0)]
)
def test_plain_copy_gets_the_time_that_the_fused_graph_has_left(
    timeout_ms: int, least: int, most: int
) -> None:
    fused, plain = _Graph(InvalidArgument("no such shape")), _Graph(None)
    assert compiled_folder.WithPlain(fused, plain)([], timeout_ms) == []
    assert fused.timeouts == [timeout_ms]
    assert least <= plain.timeouts[0] <= most


@pytest.mark.parametrize("error", [DeadlineExceeded("late"), Cancelled("gone")])
def test_plain_copy_is_not_asked_when_the_time_is_up(error: ServingError) -> None:
    plain = _Graph(None)
    with pytest.raises(type(error)):
        compiled_folder.WithPlain(_Graph(error), plain)([], 1000)
    assert plain.timeouts == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}'])
def test_marker_of_somebody_else_is_no_marker(tmp_path: Path, content: str) -> None:
    compiled_folder.mark(tmp_path, "2.21.0")
    (tmp_path / compiled_folder.MARKER).write_text(content)
    with pytest.raises(DataLoss, match="is not what `lambda-serving compile` writes"):
        compiled_folder.check(tmp_path, "2.21.0")


def test_optimisers_are_off_and_all_else_is_as_it_was() -> None:
    message = protos.message("tensorflow.ConfigProto")
    config = message(intra_op_parallelism_threads=3)
    config.graph_options.rewrite_options.min_graph_nodes = 7
    found = message.FromString(compiled_folder.without_optimisers(config.SerializeToString()))
    assert found.intra_op_parallelism_threads == 3
    assert found.graph_options.rewrite_options.min_graph_nodes == 7
    assert found.graph_options.rewrite_options.disable_meta_optimizer
    assert found.graph_options.optimizer_options.opt_level == -1
