"""Flags of `tensorflow_model_server` that have no counterpart here: ignored, or refused.

A flag that changes no answer is ignored, so that existing command lines keep working; a flag that
somebody relies on is refused. Source: model_servers/main.cc.
"""

from dataclasses import dataclass
from typing import Any

import click

from lambda_serving.errors import InvalidArgument

__all__ = ["options", "take"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unsupported:
    """A flag: the value that matches what happens `here`, and why others change nothing."""

    name: str
    here: bool | int | str
    why: str
    refused: bool = False


_FLAGS = (
    _Unsupported(
        name="flush_filesystem_caches",
        here=False,
        why="the kernel frees the page cache when memory is needed",
    ),
    _Unsupported(
        name="remove_unused_fields_from_bundle_metagraph",
        here=True,
        why="only the signatures are kept",
    ),
    _Unsupported(name="num_tflite_pools", here=0, why="there is no TFLite"),
    _Unsupported(name="num_tflite_interpreters_per_pool", here=1, why="there is no TFLite"),
    _Unsupported(
        name="enable_signature_method_name_check",
        here=False,
        why="signatures are recognized by their tensors, as TensorFlow 2 uses one method name",
    ),
    _Unsupported(
        name="xla_cpu_compilation_enabled", here=True, why="functions with jit_compile are compiled"
    ),
    _Unsupported(
        name="xla_gpu_compilation_enabled", here=True, why="functions with jit_compile are compiled"
    ),
    _Unsupported(name="enable_profiler", here=False, why="there is no profiler service"),
    _Unsupported(name="skip_initialize_tpu", here=True, why="there are no TPUs"),
    _Unsupported(
        name="use_alts_credentials",
        here=False,
        why="ALTS is not supported, so calls would be unprotected. Use TLS: --ssl_config_file",
        refused=True,
    ),
    _Unsupported(
        name="platform_config_file",
        here="",
        why="TensorFlow is the only platform. Use --tensorflow_session_config_file for its session",
        refused=True,
    ),
    _Unsupported(
        name="prefer_tflite_model",
        here=False,
        why="only SavedModels are served, and model.tflite may give other answers",
        refused=True,
    ),
    _Unsupported(
        name="thread_pool_factory_config_file",
        here="",
        why="factories are C++ linked into tensorflow_model_server. See --tensorflow_*_parallelism",
        refused=True,
    ),
)


def options() -> list[click.Option]:
    """The flags as options; one that is not given is None."""
    return [
        click.Option(
            [f"--{other.name}"],
            type=type(other.here),
            help=f"{'Refused' if other.refused else 'No effect'}: {other.why}",
            **({"is_flag": False, "flag_value": True} if isinstance(other.here, bool) else {}),
        )
        for other in _FLAGS
    ]


def take(values: dict[str, Any]) -> list[str]:
    """Removes these flags from `values`; returns a warning for each that has no effect.

    Raises InvalidArgument for a flag that is refused.
    """
    given = [(other, values.pop(other.name)) for other in _FLAGS]
    return [
        _told(other, value) for other, value in given if value is not None and value != other.here
    ]


def _told(other: _Unsupported, value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else value
    if other.refused:
        raise InvalidArgument(f"--{other.name}={text} is not supported: {other.why}")
    return f"--{other.name}={text} has no effect: {other.why}"
