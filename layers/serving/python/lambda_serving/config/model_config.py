"""Which models to serve, and what a server refuses to serve.

Source: config/model_server_config.proto, model_servers/server_core.cc.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from lambda_serving.config.servable_version_policy import Latest, VersionPolicy
from lambda_serving.errors import InvalidArgument

__all__ = ["LABEL", "PLATFORM", "Logging", "ModelConfig", "check", "check_platforms"]

PLATFORM = "tensorflow"

LABEL = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""The labels that releases accept: they become part of URLs and of aliases."""


class Logging(NamedTuple):
    """The fraction of a model's requests to log, and where (config/logging_config.proto)."""

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
    platform: str = PLATFORM


def check(models: Sequence[ModelConfig], before: Sequence[ModelConfig] = ()) -> None:
    """Raises InvalidArgument for models that TensorFlow Serving refuses to serve after `before`."""
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
    check_platforms(models, before)
    _check_logging(models)


def check_platforms(
    models: Sequence[ModelConfig], before: Sequence[ModelConfig] = (), *, origin: str = ""
) -> None:
    """Raises InvalidArgument for a platform other than TensorFlow's; `origin` ends the message."""
    platforms = {model.name: model.platform for model in before}
    for model in models:
        if model.platform == PLATFORM:
            continue
        if model.name in platforms:
            raise InvalidArgument(
                f"Illegal to change a model's platform. For model {model.name} platform was"
                f" {platforms[model.name]} and new platform requested is {model.platform}"
            )
        raise InvalidArgument(
            f"Model {model.name} requests unsupported platform {model.platform}. Its"
            f' model_platform must be "{PLATFORM}"{origin}'
        )


def _check_logging(models: Sequence[ModelConfig]) -> None:
    """Raises InvalidArgument for a log that cannot be written, and says what is allowed."""
    models_by_prefix: dict[str, str] = {}
    for model in models:
        if model.logging is None:
            continue
        if problem := _problem(model.logging, models_by_prefix):
            raise InvalidArgument(f"The logging_config of model {model.name} has {problem}")
        models_by_prefix[model.logging.filename_prefix] = model.name


def _problem(logging: Logging, models_by_prefix: Mapping[str, str]) -> str:
    """What is wrong with a log; empty if nothing is."""
    rate, prefix = logging.sampling_rate, logging.filename_prefix
    if logging.type:
        supported = "only the empty type is supported, which writes files"
        return f"log_collector_config.type {logging.type!r}; {supported}"
    if not 0 <= rate <= 1:
        return f"sampling_config.sampling_rate {rate}; it must be from 0 to 1"
    named = f"log_collector_config.filename_prefix {prefix!r}"
    if not Path(prefix).is_absolute() or prefix.endswith("/"):
        return f"{named}; it must be an absolute path and the beginning of a file's name"
    if prefix in models_by_prefix:
        return f"{named}, which model {models_by_prefix[prefix]} has too"
    return ""
