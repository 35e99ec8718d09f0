"""The `lambda-serving` command: serving, trying, compiling and releasing models."""

import sys

import click

from lambda_serving import __version__
from lambda_serving.cli.add import add
from lambda_serving.cli.batch import batch
from lambda_serving.cli.compile import compile_command
from lambda_serving.cli.completion import completion
from lambda_serving.cli.cost import cost
from lambda_serving.cli.deploy import deploy
from lambda_serving.cli.destroy import destroy
from lambda_serving.cli.dev import dev
from lambda_serving.cli.init import init
from lambda_serving.cli.inspect import inspect
from lambda_serving.cli.label import label
from lambda_serving.cli.logs import logs
from lambda_serving.cli.metrics import metrics
from lambda_serving.cli.predict import predict
from lambda_serving.cli.push import push
from lambda_serving.cli.reconcile import reconcile
from lambda_serving.cli.remove import remove
from lambda_serving.cli.rollback import rollback
from lambda_serving.cli.serve import serve
from lambda_serving.cli.set_policy import set_policy
from lambda_serving.cli.signals import end_by_signals
from lambda_serving.cli.status import status
from lambda_serving.cli.upgrade import upgrade
from lambda_serving.errors import ServingError

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
@click.pass_context
def _commands(context: click.Context) -> None:
    """Serve TensorFlow models with TensorFlow Serving's API, and release them to AWS Lambda."""
    if context.invoked_subcommand != serve.name:  # serve drains instead
        end_by_signals()


def _add(*commands: click.Command) -> None:
    """Lists each command by the whole first sentence of its help, however narrow the terminal."""
    for command in commands:
        command.short_help, _, _ = (command.help or "").partition(".")
        _commands.add_command(command)


_add(serve, predict, inspect, compile_command, push, batch)
_add(init, add, remove, upgrade)
_add(status, reconcile, set_policy, label, rollback)
_add(dev, deploy, logs, metrics, cost, destroy, completion)


def main() -> None:
    """Runs the command in `sys.argv`; an error is printed as one sentence, with exit code 1."""
    try:
        _commands()
    except ServingError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
