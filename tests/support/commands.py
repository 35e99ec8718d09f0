"""Commands of `lambda-serving` in this process: a process of its own takes a second to start."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from click.testing import CliRunner

from lambda_serving.errors import ServingError

__all__ = ["compiled_or_slower", "run"]


def run(
    command: click.Command,
    arguments: Sequence[str],
    environment: Mapping[str, str | None],
    stdin: str = "",
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error, as the process would have.

    `environment` is changed for the command alone; what is None is removed.
    """
    log = logging.getLogger("lambda_serving")
    level = log.level
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}  # commands set it for their process
    try:
        ended = CliRunner().invoke(command, arguments, stdin, {**environment, **quiet})
    finally:
        log.setLevel(level)
    if isinstance(ended.exception, ServingError):
        return 1, ended.stdout, f"{ended.stderr}Error: {ended.exception}\n"
    if ended.exception and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended.exit_code, ended.stdout, ended.stderr


def compiled_or_slower(folder: Path, said: str) -> bool:
    """Whether `compile` said that the model in the folder is compiled, or would be slower.

    A small graph may look slower on a busy machine.
    """
    slower, words = "left as it is, because it would be slower", " ".join(said.split())
    return f"{folder}: compiled in " in words or f"{folder}: {slower}" in words
