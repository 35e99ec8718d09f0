"""Models as TensorFlow Serving's `ModelServerConfig`, in protobuf text and as a message.

Source: config/model_server_config.proto, model_servers/server_core.cc.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lambda_serving import protos
from lambda_serving.config import proto_text
from lambda_serving.config.model_config import (
    PLATFORM,
    Logging,
    ModelConfig,
    check,
    check_platforms,
)
from lambda_serving.config.servable_version_policy import All, Latest, Specific, VersionPolicy
from lambda_serving.errors import InvalidArgument

__all__ = ["edited", "of_message", "parse", "read", "to_message"]

_UNSPECIFIED, _TENSORFLOW = 0, 1  # ModelType, the deprecated field


def read(path: Path, before: Sequence[ModelConfig] = ()) -> list[ModelConfig]:
    """The models for a server to serve, from a `ModelServerConfig` in protobuf text.

    They replace the models `before`. An empty file means no models at startup, but is refused
    later: it is probably still being written. Raises what `proto_text.read`, `of_message` and
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
    check_platforms(models, origin=f" in {origin}")
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

    Comments are lost. A model that is not listed is added. Raises what `proto_text.parse` raises.
    """
    config = proto_text.parse(text, _message(), origin)
    listed = config.model_config_list.config
    entry = next((each for each in listed if each.name == model.name), None)
    if entry is None:
        entry = listed.add(name=model.name, base_path=model.base_path, model_platform=PLATFORM)
    if _policy(entry.model_version_policy) != model.policy:
        policy = type(entry.model_version_policy)(**_choice(model.policy))
        entry.model_version_policy.CopyFrom(policy)
    entry.version_labels.clear()
    entry.version_labels.update(model.labels)
    return proto_text.written(config)


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
        return PLATFORM
    if not platform:
        raise InvalidArgument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor"
            f" ModelServerConfig::model_platform, model name is {model.name}. Set"
            f' model_platform: "{PLATFORM}" in {origin}'
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
