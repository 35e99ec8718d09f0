"""Which models to serve: TensorFlow Serving's `ModelServerConfig`.

Source: config/model_server_config.proto, model_servers/server_core.cc.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lambda_serving import proto_text, protos
from lambda_serving.errors import InvalidArgument
from lambda_serving.version_policy import All, Latest, Specific, VersionPolicy

__all__ = ["ModelConfig", "check", "read"]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model to serve: where it lies, which versions, and the labels of some of them."""

    name: str
    base_path: str
    policy: VersionPolicy = field(default_factory=Latest)
    labels: Mapping[str, int] = field(default_factory=dict)


def read(path: Path) -> list[ModelConfig]:
    """The models of a `ModelServerConfig` in protobuf text.

    Raises what `proto_text.read` and `check` raise.
    """
    config = proto_text.read(path, protos.message("tensorflow.serving.ModelServerConfig"))
    if config.WhichOneof("config") != "model_config_list":
        raise InvalidArgument(f"The config file {path} has no model_config_list")
    models = [_model(model) for model in config.model_config_list.config]
    check(models)
    return models


def check(models: Sequence[ModelConfig]) -> None:
    """Raises InvalidArgument for what TensorFlow Serving refuses in a list of models."""
    if not models:
        raise InvalidArgument("The model config has no models")
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


def _model(model: Any) -> ModelConfig:
    if model.model_platform != "tensorflow":
        raise InvalidArgument(
            f"Model {model.name} has model_platform {model.model_platform!r};"
            ' it must be "tensorflow"'
        )
    return ModelConfig(
        model.name, model.base_path, _policy(model.model_version_policy), dict(model.version_labels)
    )


def _policy(policy: Any) -> VersionPolicy:
    match policy.WhichOneof("policy_choice"):
        case "all":
            return All()
        case "specific":
            return Specific(frozenset(policy.specific.versions))
        case _:
            return Latest(policy.latest.num_versions or 1)
