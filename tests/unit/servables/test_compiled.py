"""The marker of compiled servables, and the settings of their sessions."""

from pathlib import Path

import pytest

from lambda_serving import protos
from lambda_serving.errors import DataLoss, FailedPrecondition
from lambda_serving.servables import compiled


def test_marked_folder_is_compiled_for_one_tensorflow(tmp_path: Path) -> None:
    assert not compiled.is_compiled(tmp_path)
    compiled.mark(tmp_path, "2.21.0")
    assert compiled.is_compiled(tmp_path)
    compiled.check(tmp_path, "2.21.0")
    with pytest.raises(FailedPrecondition) as raised:
        compiled.check(tmp_path, "2.22.0")
    assert str(raised.value) == (
        "It was compiled for TensorFlow 2.21.0 (format 1), and this is TensorFlow 2.22.0"
        " (format 1). Compile it again from its export"
    )


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}'])
def test_marker_of_somebody_else_is_no_marker(tmp_path: Path, content: str) -> None:
    compiled.mark(tmp_path, "2.21.0")
    (tmp_path / compiled.MARKER).write_text(content)
    with pytest.raises(DataLoss, match="is not what `lambda-serving compile` writes"):
        compiled.check(tmp_path, "2.21.0")


def test_optimisers_are_off_and_all_else_is_as_it_was() -> None:
    message = protos.message("tensorflow.ConfigProto")
    config = message(intra_op_parallelism_threads=3)
    config.graph_options.rewrite_options.min_graph_nodes = 7
    found = message.FromString(compiled.without_optimisers(config.SerializeToString()))
    assert found.intra_op_parallelism_threads == 3
    assert found.graph_options.rewrite_options.min_graph_nodes == 7
    assert found.graph_options.rewrite_options.disable_meta_optimizer
    assert found.graph_options.optimizer_options.opt_level == -1
