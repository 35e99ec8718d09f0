"""Session configurations out of `assets.extra/saved_model_config.pb`."""

import base64
import logging
from pathlib import Path
from typing import Any

import pytest

from lambda_serving import protos
from lambda_serving.servables.session_overrides import CONFIG, overridden

_REMAP = b"\x12\x06\x0a\x01a\x12\x01b"  # target_address_remap { key: "a" value: "b" }


def _config(**rewriting: Any) -> Any:
    config = protos.message("tensorflow.ConfigProto")(inter_op_parallelism_threads=3)
    for name, value in rewriting.items():
        setattr(config.graph_options.rewrite_options, name, value)
    return config


def _overridden(tmp_path: Path, content: bytes, config: Any) -> Any:
    (tmp_path / CONFIG).parent.mkdir()
    (tmp_path / CONFIG).write_bytes(content)
    return type(config).FromString(overridden(config.SerializeToString(), tmp_path))


def _saved(**overrides: Any) -> bytes:
    saved = protos.message("tensorflow.serving.SavedModelConfig")()
    saved.session_overrides.SetInParent()
    for name, value in overrides.items():
        setattr(saved.session_overrides, name, value)
    serialized: bytes = saved.SerializeToString()
    return serialized


def test_without_a_file_the_session_is_as_it_was(tmp_path: Path) -> None:
    assert overridden(b"anything", tmp_path) == b"anything"


@pytest.mark.parametrize("content", [b"", b"\x18\x01", b"\x12\x00"])
def test_file_without_overrides_changes_nothing(tmp_path: Path, content: bytes) -> None:
    config = _config(disable_meta_optimizer=True)
    assert _overridden(tmp_path, content, config) == config


@pytest.mark.parametrize("was", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_optimiser_is_as_the_export_wants_it(tmp_path: Path, *, was: bool, wanted: bool) -> None:
    saved = _saved(disable_meta_optimizer=True) if wanted else _saved()
    found = _overridden(tmp_path, saved, _config(disable_meta_optimizer=was))
    assert found == _config(disable_meta_optimizer=wanted)


@pytest.mark.parametrize("value", [_REMAP, b""])
@pytest.mark.parametrize(
    ("field", "name", "key"),
    [
        ("remote_op_remap_config", "remote_op_config_rewrite", "remote_op_rewrite_config"),
        ("batch_op_rewriter_config", "batch_op_rewriter", "batch_op_rewrite_config"),
    ],
)
def test_optimisers_are_added_once_with_their_configuration(
    tmp_path: Path, field: str, name: str, key: str, value: bytes
) -> None:
    config = _config()
    before = config.graph_options.rewrite_options.custom_optimizers.add(name=name)
    before.parameter_map[key].s = b"before"
    before.parameter_map["other"].i = 1
    other = config.graph_options.rewrite_options.custom_optimizers.add(name="other")

    found = _overridden(tmp_path, _saved(**{field: value}), config)

    first, second = found.graph_options.rewrite_options.custom_optimizers
    assert (first.name, second) == (name, other)
    assert {each: first.parameter_map[each].s for each in (key, "other")} == {
        key: base64.b64encode(value),
        "other": b"",
    }


def test_file_of_tensorflow_servings_own_test_sets_the_remap(tmp_path: Path) -> None:
    """The bytes that its `saved_model_half_plus_two_cpu_with_saved_model_config` begins with."""
    names = b"\n$\n\x16placeholder_model_name\x12\nmodel_name"
    addresses = b"\x12(\n\x16placeholder_model_name\x12\x0etarget_address"
    found = _overridden(tmp_path, b"\nR\nP" + names + addresses, _config())
    [optimiser] = found.graph_options.rewrite_options.custom_optimizers
    assert optimiser.name == "remote_op_config_rewrite"
    assert optimiser.parameter_map["remote_op_rewrite_config"].s == base64.b64encode(
        names + addresses
    )


@pytest.mark.parametrize("content", [b"\xff", b"\x0a\x05ab"])
def test_file_that_cannot_be_read_is_told_and_sets_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    with caplog.at_level(logging.WARNING):
        assert _overridden(tmp_path, content, _config()) == _config()
    [record] = caplog.records
    assert record.getMessage().startswith(f"Failed to load saved model config: {tmp_path}/{CONFIG}")
