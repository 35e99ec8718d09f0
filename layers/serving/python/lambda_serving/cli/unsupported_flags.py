"""Flags of `tensorflow_model_server` that no setting stands for: taken all the same, or refused.

Taken is what changes no answer that a client works with, so that nobody's command line stops the
start for nothing; refused is what somebody relies on. Source: model_servers/main.cc.
"""

from dataclasses import dataclass
from typing import Any

import click

from lambda_serving.errors import InvalidArgument

__all__ = ["options", "take"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Other:
    """A flag: the value that says what is done `here`, and why no other one changes that."""

    name: str
    here: bool | int | str
    why: str
    refused: bool = False


_OTHERS = (
    _Other(
        name="flush_filesystem_caches",
        here=False,
        why="weights stay in the page cache, which gives way",
    ),
    _Other(
        name="remove_unused_fields_from_bundle_metagraph",
        here=True,
        why="only the signatures are kept",
    ),
    _Other(name="num_tflite_pools", here=0, why="there is no TFLite"),
    _Other(name="num_tflite_interpreters_per_pool", here=1, why="there is no TFLite"),
    _Other(
        name="enable_signature_method_name_check",
        here=False,
        why="signatures are told by their tensors, TensorFlow 2 names one method for all",
    ),
    _Other(
        name="xla_cpu_compilation_enabled", here=True, why="functions with jit_compile are compiled"
    ),
    _Other(
        name="xla_gpu_compilation_enabled", here=True, why="functions with jit_compile are compiled"
    ),
    _Other(name="enable_profiler", here=False, why="there is no profiler service"),
    _Other(name="skip_initialize_tpu", here=True, why="there are no TPUs"),
    _Other(
        name="use_alts_credentials",
        here=False,
        why="calls would go unprotected, as there is no ALTS. --ssl_config_file gives TLS",
        refused=True,
    ),
    _Other(
        name="platform_config_file",
        here="",
        why="TensorFlow is the only platform. --tensorflow_session_config_file sets its session",
        refused=True,
    ),
    _Other(
        name="prefer_tflite_model",
        here=False,
        why="only SavedModels are served, and model.tflite may answer otherwise",
        refused=True,
    ),
    _Other(
        name="thread_pool_factory_config_file",
        here="",
        why="factories are C++ linked into tensorflow_model_server. See --tensorflow_*_parallelism",
        refused=True,
    ),
)


def options() -> list[click.Option]:
    """The flags; those that are not given are None."""
    return [
        click.Option(
            [f"--{other.name}"],
            type=type(other.here),
            help=f"{'Refused' if other.refused else 'No effect'}: {other.why}",
            **({"is_flag": False, "flag_value": True} if isinstance(other.here, bool) else {}),
        )
        for other in _OTHERS
    ]


def take(values: dict[str, Any]) -> list[str]:
    """Takes these flags out of `values`; a sentence for each that asks for what is not here.

    Raises InvalidArgument for one that is refused.
    """
    given = [(other, values.pop(other.name)) for other in _OTHERS]
    return [
        _told(other, value) for other, value in given if value is not None and value != other.here
    ]


def _told(other: _Other, value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else value
    if other.refused:
        raise InvalidArgument(f"--{other.name}={text} is not possible: {other.why}")
    return f"--{other.name}={text} has no effect: {other.why}"
