from pathlib import Path

import pytest

from lambda_serving.errors import InvalidArgument, NotFound
from lambda_serving.model_config import ModelConfig, check, read
from lambda_serving.version_policy import All, Latest, Specific

_ALL_FORMS = """
model_config_list {
  config { name: "a" base_path: "/m/a" model_platform: "tensorflow" }
  config {
    name: "b" base_path: "/m/b" model_platform: "tensorflow"
    model_version_policy { latest { num_versions: 2 } }
    version_labels { key: "stable" value: 42 }
  }
  config {
    name: "c" base_path: "s3://bucket/c" model_platform: "tensorflow"
    model_version_policy { specific { versions: 42 versions: 43 } }
  }
  config {
    name: "d" base_path: "/m/d" model_platform: "tensorflow" model_version_policy { all {} }
  }
}
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "models.config"
    path.write_text(text)
    return path


def test_reads_every_policy_and_labels(tmp_path: Path) -> None:
    assert read(_file(tmp_path, _ALL_FORMS)) == [
        ModelConfig("a", "/m/a", Latest(1)),
        ModelConfig("b", "/m/b", Latest(2), {"stable": 42}),
        ModelConfig("c", "s3://bucket/c", Specific(frozenset({42, 43}))),
        ModelConfig("d", "/m/d", All()),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no model_config_list"),
        ("model_config_list {}", "The model config has no models"),
        ("model_config_list { config { nmae: 'a' } }", "1:30 .*nmae"),
        ("model_config_list {", "is not valid: "),
        ("model_config_list { config { name: 'a' base_path: '/a' } }", 'must be "tensorflow"'),
        (
            "model_config_list { config { base_path: '/a' model_platform: 'tensorflow' } }",
            "has no name",
        ),
        ("custom_model_config {}", "has no model_config_list"),
    ],
)
def test_refuses_what_is_no_list_of_models(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        read(_file(tmp_path, text))


def test_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere: No such file or directory"):
        read(tmp_path / "nowhere")


def test_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidArgument, match="is not valid"):
        read(path)


def test_one_name_twice_is_refused() -> None:
    models = [ModelConfig("m", "/a"), ModelConfig("m", "/b")]
    with pytest.raises(InvalidArgument, match="^Illegal to list model m multiple times"):
        check(models)


def test_relative_base_path_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"absolute path or URI; got base_path\(\)=saved$"):
        check([ModelConfig("m", "saved")])
