from pathlib import Path

import pytest

from lambda_serving import protos
from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.server_flags import Settings, flags
from lambda_serving.errors import InvalidArgument


def _config(settings: Settings) -> object:
    return protos.message("tensorflow.ConfigProto").FromString(settings.session_config())


def test_every_flag_has_a_help_text_and_a_plain_type() -> None:
    assert all(flag.help and flag.type in {bool, float, int, str} for flag in flags())
    assert {flag.name for flag in flags()} >= {
        "allow_version_labels_for_unavailable_models",
        "enable_model_warmup",
        "model_base_path",
        "model_config_file",
        "model_name",
        "rest_api_enable_cors_support",
        "rest_api_num_threads",
        "rest_api_port",
        "rest_api_timeout_in_ms",
        "saved_model_tags",
        "tensorflow_inter_op_parallelism",
        "tensorflow_intra_op_parallelism",
        "tensorflow_session_config_file",
        "tensorflow_session_parallelism",
    }


def test_one_model_by_flags() -> None:
    settings = Settings(model_name="m", model_base_path="/m")
    assert settings.models() == [ModelConfig("m", "/m")]


def test_no_model_at_all_says_which_flags_are_missing() -> None:
    with pytest.raises(InvalidArgument, match="--model_base_path.*--model_config_file"):
        Settings().models()


def test_config_file_wins_over_the_single_model(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text(
        "model_config_list { config { name: 'a' base_path: '/a' model_platform: 'tensorflow' } }"
    )
    settings = Settings(model_config_file=str(path), model_base_path="/b")
    assert settings.models() == [ModelConfig("a", "/a")]


def test_session_parallelism_sets_both_kinds_of_threads() -> None:
    message = protos.message("tensorflow.ConfigProto")
    assert _config(Settings(tensorflow_session_parallelism=3)) == message(
        intra_op_parallelism_threads=3, inter_op_parallelism_threads=3
    )


def test_parallelism_flags_win_over_the_config_file(tmp_path: Path) -> None:
    path = tmp_path / "session.config"
    path.write_text("intra_op_parallelism_threads: 5 inter_op_parallelism_threads: 6")
    settings = Settings(tensorflow_session_config_file=str(path), tensorflow_intra_op_parallelism=2)
    message = protos.message("tensorflow.ConfigProto")
    assert _config(settings) == message(
        intra_op_parallelism_threads=2, inter_op_parallelism_threads=6
    )


def test_contradicting_parallelism_flags_are_refused() -> None:
    settings = Settings(tensorflow_session_parallelism=1, tensorflow_intra_op_parallelism=1)
    with pytest.raises(InvalidArgument, match="sets both kinds of threads"):
        settings.session_config()


def test_share_of_gpu_memory_and_mixed_precision_are_the_sessions() -> None:
    config = protos.message("tensorflow.ConfigProto")()
    config.gpu_options.per_process_gpu_memory_fraction = 0.5
    config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1
    settings = Settings(per_process_gpu_memory_fraction=0.5, mixed_precision="bfloat16")
    assert _config(settings) == config


def test_unknown_mixed_precision_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="float8"):
        Settings(mixed_precision="float8").session_config()


def test_fractions_come_from_the_environment_too() -> None:
    name = "PER_PROCESS_GPU_MEMORY_FRACTION"
    assert Settings.from_environment({name: "0.25"}).per_process_gpu_memory_fraction == 0.25
    with pytest.raises(InvalidArgument, match="must be a number"):
        Settings.from_environment({name: "half"})
