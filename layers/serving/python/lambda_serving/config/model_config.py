"""Which models to serve: TensorFlow Serving's `ModelServerConfig`.

Source: config/model_server_config.proto, model_servers/server_core.cc.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lambda_serving import protos
from lambda_serving.config import proto_text
from lambda_serving.config.servable_version_policy import All, Latest, Specific, VersionPolicy
from lambda_serving.errors import InvalidArgument

__all__ = [
    "LABEL",
    "Logging",
    "ModelConfig",
    "check",
    "edited",
    "of_message",
    "parse",
    "read",
    "to_message",
]

_PLATFORM = "tensorflow"
_UNSPECIFIED, _TENSORFLOW = 0, 1  # ModelType, the deprecated field

LABEL = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""The labels that releases accept: they become part of URLs and of aliases."""


@dataclass(frozen=True, slots=True)
class Logging:
    """Which fraction of a model's requests is logged, and where (config/logging_config.proto)."""

    filename_prefix: str
    sampling_rate: float
    type: str = ""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model to serve: its folder, versions, version labels and request log.

    `check` refuses all platforms but TensorFlow's.
    """

    name: str
    base_path: str
    policy: VersionPolicy = field(default_factory=Latest)
    labels: Mapping[str, int] = field(default_factory=dict)
    logging: Logging | None = None
    platform: str = _PLATFORM


def read(path: Path, before: Sequence[ModelConfig] = ()) -> list[ModelConfig]:
    """The models for a server to serve, from a `ModelServerConfig` in protobuf text.

    They replace the models `before`. An empty file means no models at startup, but is refused
    later, as it is probably still being written. Raises what `proto_text.read`, `of_message` and
    `check` raise.
    """
    config = proto_text.read(path, _message())
    if not before and config.WhichOneof("config") is None:
        return []
    models = of_message(config, path)
    check(models, before)
    return models


def parse(text: str | bytes, origin: object) -> list[ModelConfig]:
    """The models of a `ModelServerConfig` in protobuf text, not limited to what a server can serve.

    Most of `check` does not apply. Raises InvalidArgument, naming `origin`, for text that is not
    such a message or has no list of models, and, naming the model, for a platform that is missing
    or not TensorFlow's.
    """
    models = of_message(proto_text.parse(text, _message(), origin), origin)
    _check_platforms(models, origin=f" in {origin}")
    return models


def of_message(config: Any, origin: object) -> list[ModelConfig]:
    """The models of a `ModelServerConfig` message.

    Raises InvalidArgument if it has no list of models and, in the words of
    model_servers/server_core.cc (GetPlatform), for a model without a platform or with two.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise InvalidArgument(f"The config file {origin} has no model_config_list")
    return [_model(model, origin) for model in config.model_config_list.config]


def to_message(models: Sequence[ModelConfig]) -> Any:
    """The `ModelServerConfig` from which `of_message` reads these models."""
    config = _message()()
    config.model_config_list.SetInParent()  # an empty list if there are no models
    for model in models:
        entry = config.model_config_list.config.add(
            name=model.name,
            base_path=model.base_path,
            model_platform=model.platform,
            model_version_policy=_choice(model.policy),
            version_labels=model.labels,
        )
        if logging := model.logging:
            collector = entry.logging_config.log_collector_config
            collector.type, collector.filename_prefix = logging.type, logging.filename_prefix
            entry.logging_config.sampling_config.sampling_rate = logging.sampling_rate
    return config


def edited(text: str | bytes, origin: object, model: ModelConfig) -> str:
    """The text with the policy and labels of `model`; everything else keeps its meaning.

    Comments are lost. A model that is not listed is added with what a server needs. Raises what
    `proto_text.parse` raises.
    """
    config = proto_text.parse(text, _message(), origin)
    listed = config.model_config_list.config
    entry = next((each for each in listed if each.name == model.name), None)
    if entry is None:
        entry = listed.add(name=model.name, base_path=model.base_path, model_platform=_PLATFORM)
    if _policy(entry.model_version_policy) != model.policy:
        policy = type(entry.model_version_policy)(**_choice(model.policy))
        entry.model_version_policy.CopyFrom(policy)
    entry.version_labels.clear()
    entry.version_labels.update(model.labels)
    return proto_text.written(config)


def check(models: Sequence[ModelConfig], before: Sequence[ModelConfig] = ()) -> None:
    """Raises InvalidArgument for models that TensorFlow Serving refuses as successors of others."""
    seen = set()
    for model in models:
        if not model.name:
            raise InvalidArgument("A model in the model config has no name")
        if model.name in seen:
            raise InvalidArgument(
                f"Illegal to list model {model.name} multiple times in config list"
            )
        seen.add(model.name)
        if not (Path(model.base_path).is_absolute() or "://" in model.base_path):
            raise InvalidArgument(
                f"Expected model {model.name} to have an absolute path or URI; got"
                f" base_path()={model.base_path}"
            )
    _check_platforms(models, before)
    _check_logging(models)


def _check_platforms(
    models: Sequence[ModelConfig], before: Sequence[ModelConfig] = (), *, origin: str = ""
) -> None:
    platforms = {model.name: model.platform for model in before}
    for model in models:
        if model.platform == _PLATFORM:
            continue
        if model.name in platforms:
            raise InvalidArgument(
                f"Illegal to change a model's platform. For model {model.name} platform was"
                f" {platforms[model.name]} and new platform requested is {model.platform}"
            )
        raise InvalidArgument(
            f"Model {model.name} requests unsupported platform {model.platform}. Its"
            f' model_platform must be "{_PLATFORM}"{origin}'
        )


def _check_logging(models: Sequence[ModelConfig]) -> None:
    """Raises InvalidArgument for an impossible log, and says what is allowed."""
    models_by_prefix: dict[str, str] = {}
    for model in models:
        if (logging := model.logging) is None:
            continue
        of_model = f"The logging_config of model {model.name} has"
        if logging.type:
            raise InvalidArgument(
                f"{of_model} log_collector_config.type {logging.type!r}; only the empty type is"
                " supported, which writes files"
            )
        if not 0 <= logging.sampling_rate <= 1:
            raise InvalidArgument(
                f"{of_model} sampling_config.sampling_rate {logging.sampling_rate}; it must be"
                " from 0 to 1"
            )
        prefix = logging.filename_prefix
        if not Path(prefix).is_absolute() or prefix.endswith("/"):
            raise InvalidArgument(
                f"{of_model} log_collector_config.filename_prefix {prefix!r}; it must be an"
                " absolute path and the beginning of a file's name"
            )
        if prefix in models_by_prefix:
            raise InvalidArgument(
                f"{of_model} log_collector_config.filename_prefix {prefix!r}, which model"
                f" {models_by_prefix[prefix]} has too"
            )
        models_by_prefix[prefix] = model.name


def _message() -> Any:
    return protos.message("tensorflow.serving.ModelServerConfig")


def _platform(model: Any, origin: object) -> str:
    platform: str = model.model_platform
    if model.model_type not in {_UNSPECIFIED, _TENSORFLOW}:
        raise InvalidArgument(
            f"ModelServerConfig::model_type choice {model.model_type} not supported. It is that of"
            f" model {model.name} in {origin}"
        )
    if model.model_type == _TENSORFLOW:
        if platform:
            raise InvalidArgument(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and"
                f" ModelServerConfig::model_platform, model name is {model.name}. Leave out"
                f" model_type in {origin}"
            )
        return _PLATFORM
    if not platform:
        raise InvalidArgument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor"
            f" ModelServerConfig::model_platform, model name is {model.name}. Set"
            f' model_platform: "{_PLATFORM}" in {origin}'
        )
    return platform


def _model(model: Any, origin: object) -> ModelConfig:
    return ModelConfig(
        model.name,
        model.base_path,
        _policy(model.model_version_policy),
        dict(model.version_labels),
        _logging(model.logging_config) if model.HasField("logging_config") else None,
        _platform(model, origin),
    )


def _logging(config: Any) -> Logging:
    collector = config.log_collector_config
    return Logging(collector.filename_prefix, config.sampling_config.sampling_rate, collector.type)


def _policy(policy: Any) -> VersionPolicy:
    match policy.WhichOneof("policy_choice"):
        case "all":
            return All()
        case "specific":
            return Specific(frozenset(policy.specific.versions))
        case _:
            return Latest(policy.latest.num_versions or 1)


def _choice(policy: VersionPolicy) -> dict[str, dict[str, object]]:
    """The fields of the message that `_policy` reads as this policy."""
    match policy:
        case All():
            return {"all": {}}
        case Specific(versions):
            return {"specific": {"versions": sorted(versions)}}
        case Latest(num_versions):
            return {"latest": {"num_versions": num_versions}}
