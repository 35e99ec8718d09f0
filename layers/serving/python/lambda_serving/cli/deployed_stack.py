"""The deployed stack of a model, for the commands that look at its release or run it."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.release.aws.build_orders import Builder
    from lambda_serving.release.aws.deployed_model import AwsGateway

__all__ = ["open_gateway", "stack_option"]

stack_option = click.option(
    "--stack", required=True, help="Name of the deployed stack, as given to sam deploy"
)


def open_gateway(base_path: str, stack: str, builder: "Builder | None" = None) -> "AwsGateway":
    """The gateway to the model; raises InvalidArgument for a model that is not in the stack."""
    from lambda_serving.release.aws.stack import Clients, System

    clients = Clients.connect()
    system = System.deployed(stack, clients.functions)
    return system.gateway(
        system.model(base_path),
        clients,
        lambda servable, error: click.secho(f"{servable} failed: {error}", err=True, fg="red"),
        builder,
        lambda _, alias, error: click.secho(f"{alias} has no URL: {error}", err=True, fg="red"),
    )
