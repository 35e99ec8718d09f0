"""TensorFlow's library is opened early for versions that will be loaded and need it."""

from pathlib import Path

import pytest

from lambda_serving.config.model_config import ModelConfig
from lambda_serving.config.servable_version_policy import All, Latest, Specific, VersionPolicy
from lambda_serving.servables.early_opening import needs_tensorflow
from lambda_serving.servables.litert.compiled_folder import mark

_VERSIONS = {
    "000": ["saved_model.pb"],
    "1": ["saved_model.pbtxt"],
    "2": ["saved_model.pb", "model.tflite"],
    "3": ["model.tflite", "compiled"],
    "4": ["variables"],  # is being copied
    "notes": ["saved_model.pb"],
}


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for version, names in _VERSIONS.items():
        (folder / version).mkdir()
        for name in names:
            if name == "compiled":
                mark(folder / version, "2.3.0")
            else:
                (folder / version / name).touch()
    return folder


@pytest.mark.parametrize(
    ("policy", "prefer_tflite", "needed"),
    [
        (Latest(), False, False),
        (Latest(2), False, False),
        (Latest(3), False, True),
        (Latest(3), True, False),
        (Latest(4), True, True),
        (All(), True, True),
        (Specific(frozenset({0})), False, True),
        (Specific(frozenset({2})), False, True),
        (Specific(frozenset({2})), True, False),
        (Specific(frozenset({3, 4, 9})), False, False),
    ],
)
def test_versions_that_will_be_loaded_decide(
    base_path: Path,
    policy: VersionPolicy,
    prefer_tflite: bool,  # noqa: FBT001 a column of the table
    needed: bool,  # noqa: FBT001 as above
) -> None:
    model = ModelConfig("m", str(base_path), policy)
    assert needs_tensorflow(model, prefer_tflite=prefer_tflite) is needed


def test_bucket_is_not_asked() -> None:
    model = ModelConfig("m", "s3://bucket/models/m")
    assert not needs_tensorflow(model, prefer_tflite=False)
