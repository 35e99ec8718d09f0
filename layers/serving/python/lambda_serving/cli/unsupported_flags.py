"""Flags of `tensorflow_model_server` that have no counterpart here: ignored, or refused.

A flag that changes no answer is ignored, so that existing command lines keep working; a flag that
somebody relies on is refused. Source: model_servers/main.cc.
"""

from typing import Any

import click

from lambda_serving.errors import InvalidArgument

__all__ = ["options", "take"]

_JIT = "functions with jit_compile are compiled"
_ALTS = "ALTS is not supported, so calls would be unprotected. Use TLS: --ssl_config_file"
_PLATFORM = "TensorFlow is the only platform. Use --tensorflow_session_config_file for its session"
_FACTORY = "factories are C++ linked into tensorflow_model_server. See --tensorflow_*_parallelism"

# By flag: the value that matches what happens here, and why others have no effect or are refused.
_IGNORED: dict[str, tuple[bool | int | str, str]] = {
    "flush_filesystem_caches": (False, "the kernel frees the page cache when memory is needed"),
    "remove_unused_fields_from_bundle_metagraph": (True, "only the signatures are kept"),
    "enable_signature_method_name_check": (
        False,
        "signatures are recognized by their tensors, as TensorFlow 2 uses one method name",
    ),
    "xla_cpu_compilation_enabled": (True, _JIT),
    "xla_gpu_compilation_enabled": (True, _JIT),
    "enable_profiler": (False, "there is no profiler service"),
    "skip_initialize_tpu": (True, "there are no TPUs"),
}
_REFUSED: dict[str, tuple[bool | int | str, str]] = {
    "use_alts_credentials": (False, _ALTS),
    "platform_config_file": ("", _PLATFORM),
    "thread_pool_factory_config_file": ("", _FACTORY),
}


def options() -> list[click.Option]:
    """The flags as options; one that is not given is None."""
    return [
        click.Option(
            [f"--{name}"],
            type=type(here),
            help=f"{'Refused' if name in _REFUSED else 'No effect'}: {why}",
            **({"is_flag": False, "flag_value": True} if isinstance(here, bool) else {}),
        )
        for name, (here, why) in (_IGNORED | _REFUSED).items()
    ]


def take(values: dict[str, Any]) -> list[str]:
    """Removes these flags from `values`; returns a warning for each that has no effect.

    Raises InvalidArgument for a flag that is refused.
    """
    warnings = []
    for name, (here, why) in (_IGNORED | _REFUSED).items():
        value = values.pop(name)
        if value is None or value == here:
            continue
        text = str(value).lower() if isinstance(value, bool) else value
        if name in _REFUSED:
            raise InvalidArgument(f"--{name}={text} is not supported: {why}")
        warnings.append(f"--{name}={text} has no effect: {why}")
    return warnings
