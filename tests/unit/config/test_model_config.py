from pathlib import Path

import pytest

from lambda_serving.config.model_config import Logging, ModelConfig, check
from lambda_serving.config.model_server_config import edited, of_message, parse, read, to_message
from lambda_serving.config.servable_version_policy import All, Latest, Specific, VersionPolicy
from lambda_serving.errors import InvalidArgument, NotFound

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
        ("model_config_list { config { nmae: 'a' } }", "1:30 .*nmae"),
        ("model_config_list {", "is not valid: "),
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


@pytest.mark.parametrize("text", ["", " \n# soon\n"])
def test_file_without_text_is_no_models_but_replaces_none(tmp_path: Path, text: str) -> None:
    path = _file(tmp_path, text)
    assert read(path) == []
    with pytest.raises(InvalidArgument, match="has no model_config_list"):
        read(path, [ModelConfig("m", "/m")])


def test_list_without_models_replaces_all(tmp_path: Path) -> None:
    path = _file(tmp_path, "model_config_list { }")
    assert read(path) == read(path, [ModelConfig("m", "/m")]) == []
    assert of_message(to_message([]), path) == []


_NEITHER = (
    "Illegal setting neither ModelServerConfig::model_type (deprecated) nor"
    " ModelServerConfig::model_platform, model name is m"
)
_BOTH = (
    "Illegal setting both ModelServerConfig::model_type (deprecated) and"
    " ModelServerConfig::model_platform, model name is m"
)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("model_platform: 'tensorflow'", ""),
        ("model_type: TENSORFLOW", ""),
        ("model_type: 1", ""),
        ("model_type: MODEL_TYPE_UNSPECIFIED model_platform: 'tensorflow'", ""),
        ("", _NEITHER),
        ("model_platform: ''", _NEITHER),
        ("model_type: TENSORFLOW model_platform: 'tensorflow'", _BOTH),
        ("model_type: TENSORFLOW model_platform: 'caffe'", _BOTH),
        ("model_type: OTHER", "ModelServerConfig::model_type choice 2 not supported."),
        ("model_type: 7", "ModelServerConfig::model_type choice 7 not supported."),
        ("model_platform: 'caffe'", "Model m requests unsupported platform caffe"),
        ("model_platform: 'TensorFlow'", "Model m requests unsupported platform TensorFlow"),
    ],
)
def test_platform_is_told_in_either_field(tmp_path: Path, fields: str, said: str) -> None:
    path = _file(
        tmp_path, f"model_config_list {{ config {{ name: 'm' base_path: '/m' {fields} }} }}"
    )
    if said:
        with pytest.raises(InvalidArgument) as raised:
            read(path)
        assert str(raised.value).startswith(said)
    else:
        assert read(path) == [ModelConfig("m", "/m")]


def test_model_keeps_its_platform() -> None:
    with pytest.raises(InvalidArgument) as raised:
        check([ModelConfig("m", "/m", platform="caffe")], [ModelConfig("m", "/m")])
    assert str(raised.value) == (
        "Illegal to change a model's platform. For model m platform was tensorflow and new platform"
        " requested is caffe"
    )


def test_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere: No such file or directory"):
        read(tmp_path / "nowhere")


def test_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidArgument, match="is not valid: invalid UTF-8 at byte 0"):
        read(path)


def test_one_name_twice_is_refused() -> None:
    models = [ModelConfig("m", "/a"), ModelConfig("m", "/b")]
    with pytest.raises(InvalidArgument, match="^Illegal to list model m multiple times"):
        check(models)


def test_relative_base_path_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"absolute path or URI; got base_path\(\)=saved$"):
        check([ModelConfig("m", "saved")])


_ORIGIN = "s3://bucket/models.config"
_INVALID = (
    "Error parsing text-format tensorflow.serving.ModelServerConfig: The config file"
    " s3://bucket/models.config is not valid: "
)


def test_models_need_no_base_path_to_be_parsed() -> None:
    text = "model_config_list { config { name: 'm' model_platform: 'tensorflow' } }"
    assert parse(text, _ORIGIN) == [ModelConfig("m", "")]
    assert parse("model_config_list {}", _ORIGIN) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "The config file s3://bucket/models.config has no model_config_list"),
        (
            "model_config_list {\n  config { nmae: 'a' } }",
            f"{_INVALID}2:12 : .*nmae",
        ),
        (b"\xff", _INVALID),
        (
            "model_config_list { config { name: 'm' model_platform: 'caffe' } }",
            "Model m requests unsupported platform caffe. Its model_platform must be",
        ),
    ],
)
def test_invalid_text_names_its_origin(text: str | bytes, message: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{message}"):
        parse(text, _ORIGIN)


@pytest.mark.parametrize(
    "policy", [Latest(1), Latest(3), All(), Specific(frozenset({7, 42})), Specific(frozenset())]
)
@pytest.mark.parametrize("name", ["b", "new", "Größe"])
def test_edited_text_has_the_policy_and_labels_of_one_model(
    name: str, policy: VersionPolicy
) -> None:
    model = ModelConfig(name, f"/m/{name}", policy, {"canary": 43})
    others = [each for each in parse(_ALL_FORMS, _ORIGIN) if each.name != name]
    found = parse(edited(_ALL_FORMS, _ORIGIN, model), _ORIGIN)
    assert [each for each in found if each.name == name] == [model]
    assert [each for each in found if each.name != name] == others


def test_edited_text_keeps_all_other_fields() -> None:
    text = """
    model_config_list {
      config {
        name: "a" base_path: "/elsewhere/a" model_platform: "tensorflow"
        logging_config { sampling_config { sampling_rate: 0.5 } }
        version_labels { key: "old" value: 1 }
      }
    }
    """
    assert edited(text, _ORIGIN, ModelConfig("a", "s3://bucket/a", All())) == (
        """model_config_list {
  config {
    name: "a"
    base_path: "/elsewhere/a"
    model_platform: "tensorflow"
    logging_config {
      sampling_config {
        sampling_rate: 0.5
      }
    }
    model_version_policy {
      all {
      }
    }
  }
}
"""
    )


def test_added_model_is_one_that_a_server_takes(tmp_path: Path) -> None:
    model = ModelConfig("m", "s3://bucket/m", Specific(frozenset({2})), {"stable": 2})
    text = edited("model_config_list {}", _ORIGIN, model)
    assert read(_file(tmp_path, text)) == [model]


def _logged(prefix: str, rate: float, kind: str = "") -> str:
    return f"""
        logging_config {{
          log_collector_config {{ type: "{kind}" filename_prefix: "{prefix}" }}
          sampling_config {{ sampling_rate: {rate} }}
        }}"""


def _listed(*names_and_logs: tuple[str, str]) -> str:
    models = "".join(
        f'config {{ name: "{name}" base_path: "/m" model_platform: "tensorflow" {log} }}'
        for name, log in names_and_logs
    )
    return f"model_config_list {{ {models} }}"


def test_logging_config_is_read() -> None:
    [logged, not_logged] = parse(_listed(("a", _logged("/logs/a", 0.1)), ("b", "")), _ORIGIN)
    assert logged.logging == Logging("/logs/a", 0.1)
    assert not_logged.logging is None


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (_logged("/logs/a", 1.5), "model a has sampling_config.sampling_rate 1.5; .* from 0 to 1"),
        (_logged("/logs/a", -0.1), "sampling_rate -0.1"),
        (_logged("logs/a", 1), "filename_prefix 'logs/a'; it must be an absolute path"),
        (_logged("/logs/", 1), "filename_prefix '/logs/'; .* the beginning of a file's name"),
        (_logged("", 1), "filename_prefix ''"),
        (_logged("/logs/a", 1, "kafka"), "log_collector_config.type 'kafka'; only the empty"),
    ],
)
def test_log_that_cannot_be_is_refused(log: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        check(parse(_listed(("a", log)), _ORIGIN))


def test_models_may_not_share_files_of_requests() -> None:
    log = _logged("/logs/a", 1)
    with pytest.raises(InvalidArgument, match="of model b .* which model a has too"):
        check(parse(_listed(("a", log), ("b", log)), _ORIGIN))
