"""`lambda-serving metrics`: requests, errors, latencies and cold starts of a deployed stack."""

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import plain_console, printable, table
from lambda_serving.cli.deployment import Deployment, of_stack
from lambda_serving.cli.durations import DURATION

if TYPE_CHECKING:  # see cli.inspect
    from rich.table import Table

    from lambda_serving.project.deployed.metrics import ApiUse, ModelUse

__all__ = ["metrics"]


@click.command()
@click.option(
    "--since", type=DURATION, default="1d", show_default=True, help="How far back: 15m, 6h, 30d"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@of_stack
def metrics(since: int, deployment: Deployment, *, as_json: bool) -> None:
    """Show requests, errors, latencies and cold starts by model and version.

    The numbers are CloudWatch's, which has them some minutes later. Errors are answers with 5xx.
    The API's row also counts what never reached a function, and its latency is what callers waited
    for. A version without requests in the last two weeks is not listed.

    Example: lambda-serving metrics --env prod --since 7d
    """
    from dataclasses import asdict

    from lambda_serving.project.deployed.metrics import Window, of_api, of_models
    from lambda_serving.project.deployed.stack import API

    stack = deployment.look()
    [client] = deployment.connect("cloudwatch")
    window = Window.of(since, time.time())
    models = of_models(stack.system, window, client)
    apis = [of_api(api_id, window, client) for api_id in stack.all(API)]
    if as_json:
        found = {
            "stack": stack.name,
            "start": window.start.isoformat(),
            "end": window.end.isoformat(),
            "models": [asdict(each) for each in models],
            "api": asdict(apis[0]) if apis else None,
        }
        click.echo(json.dumps(found))
        return
    plain_console().print(_table(models, apis))
    if not models:
        click.echo("No model has had requests in the last two weeks")


def _table(models: Sequence["ModelUse"], apis: Sequence["ApiUse"]) -> "Table":
    made = table("model", "version", "requests", "errors", "p50 ms", "p99 ms", "cold starts")
    for each in models:
        counts = (str(each.requests), str(each.errors), *_latencies(each))
        made.add_row(printable(each.model), str(each.version), *counts, str(each.cold_starts))
    for api in apis:
        errors = f"{api.server_errors} (4xx: {api.client_errors})"
        made.add_row("API", "", str(api.requests), errors, *_latencies(api), "")
    return made


def _latencies(use: "ModelUse | ApiUse") -> tuple[str, str]:
    p50, p99 = ("" if each is None else f"{each:.1f}" for each in (use.p50, use.p99))
    return p50, p99
