"""`lambda-serving serve`: a server with the flags of `tensorflow_model_server`."""

import logging
import os
from collections.abc import Callable
from typing import Any

import click

from lambda_serving import __version__
from lambda_serving.cli import unsupported_flags
from lambda_serving.config.flag_fields import Flag
from lambda_serving.config.server_flags import Settings, flags
from lambda_serving.servables.early_opening import open_early
from lambda_serving.servables.tensorflow_c.library import version as tensorflow_version

__all__ = ["serve"]

_log = logging.getLogger(__name__)
_RANGES: dict[type, Callable[..., click.ParamType[Any]]] = {
    int: click.IntRange,
    float: click.FloatRange,
}


def _option(flag: Flag) -> click.Option:
    """An option for `--flag=value` and `--flag value`; a bare boolean `--flag` means true."""
    boolean = {"is_flag": False, "flag_value": True} if flag.type is bool else {}
    return click.Option(
        [f"--{flag.name}"],
        type=_RANGES[flag.type](*flag.range) if flag.type in _RANGES else flag.type,
        default=flag.default,
        help=flag.help,
        show_default=flag.default != "",
        **boolean,
    )


def _print_version(
    context: click.Context,
    _: click.Parameter,
    value: bool,  # noqa: FBT001 - as click passes it
) -> None:
    if value:
        click.echo(f"lambda-serving: {__version__}")
        click.echo(f"TensorFlow Library: {tensorflow_version()}")
        context.exit()


_VERSION = click.Option(
    ["--version"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the versions of lambda-serving and TensorFlow, and exit",
)


def _serve(**values: Any) -> None:
    """Serve SavedModels over HTTP and gRPC, with the flags of tensorflow_model_server.

    tensorflow_model_server does not have the flags marked [ours].
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # TensorFlow's INFO lines are no use here
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for sentence in unsupported_flags.take(values):
        _log.warning("%s", sentence)
    if values["workers"] > 1:
        from lambda_serving.server.workers.supervisor import supervise

        supervise(Settings(**values))
        return
    settings = Settings(**values)
    open_early(settings.models, prefer_tflite=settings.prefer_tflite_model)
    from lambda_serving.server.serve import serve

    serve(settings)


serve = click.Command(
    "serve",
    callback=_serve,
    help=_serve.__doc__,
    params=[*(_option(flag) for flag in flags()), *unsupported_flags.options(), _VERSION],
)
