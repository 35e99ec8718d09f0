"""`lambda-serving logs`: what the functions of a deployed stack logged."""

import json
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import printable
from lambda_serving.cli.deployment import Deployment, of_stack
from lambda_serving.cli.durations import DURATION

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.project.deployed.logs import Event

__all__ = ["logs"]

_LOOK_SECONDS = 2.0


@click.command()
@click.argument("model", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on with new lines until Ctrl-C")
@click.option(
    "--since", type=DURATION, default="10m", show_default=True, help="How far back: 90s, 6h, 7d"
)
@click.option("--json", "as_json", is_flag=True, help="Print each event as a line of JSON, whole")
@of_stack
def logs(
    model: str | None,
    since: int,
    deployment: Deployment,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    """Show the logs of a deployed system, or of one MODEL.

    MODEL may also be _release or _build, for the functions that release versions, and _access for
    the API's log of requests, which is not shown otherwise. Lines that only carry metrics are left
    out; --json prints everything as it was written.

    Example: lambda-serving logs MLP --env prod --since 1h --follow
    """
    from lambda_serving.project.deployed.logs import Reader, followed, groups

    found = groups(deployment.look(), model)
    [client] = deployment.connect("logs")
    reader, pause = Reader(client, found, int((time.time() - since) * 1000)), threading.Event()
    wait, tell = partial(pause.wait, _LOOK_SECONDS), partial(click.echo, err=True)
    for event in followed(reader, wait, tell) if follow else reader.read():
        _show(event, as_json=as_json)


def _show(event: "Event", *, as_json: bool) -> None:
    from lambda_serving.project.deployed.logs import told

    if as_json:
        fields = {
            "time": event.when,
            "source": event.source,
            "stream": event.stream,
            "message": event.message,
        }
        click.echo(json.dumps(fields))
        return
    for line in told(event):
        click.echo(f"{event.when} {event.source} {printable(line)}")
