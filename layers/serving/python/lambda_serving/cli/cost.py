"""`lambda-serving cost`: what a deployed stack cost, and what a load would cost."""

import json
import time
from dataclasses import asdict
from math import isnan
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import plain_console, table
from lambda_serving.cli.deployment import Deployment, named, stack_options

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.project.deployed.costs import Spent
    from lambda_serving.project.deployed.estimates import Load

__all__ = ["cost"]

_MOST_DAYS = 455  # CloudWatch keeps no metric for longer
_DAY = 86400
_DAYS = click.IntRange(1, _MOST_DAYS)
_MEMORY = click.IntRange(128, 10240)
_COUNT = click.IntRange(0, 10**15)
_SPAN = click.FloatRange(0, 900_000)  # a function runs for a quarter of an hour at most


@click.command()
@click.option("--days", type=_DAYS, default=30, show_default=True, help="How many days back")
@click.option("--requests", type=_COUNT, help="What this many requests a month would cost")
@click.option("--milliseconds", type=_SPAN, help="With --requests: how long each takes")
@click.option(
    "--memory",
    type=_MEMORY,
    default=1769,
    show_default=True,
    help="With --requests: megabytes of the function",
)
@click.option(
    "--cold-starts",
    type=_COUNT,
    default=0,
    help="With --requests: how many of them start a function",
)
@click.option(
    "--cold-milliseconds", type=_SPAN, default=0, help="With --requests: how long a start takes"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@stack_options
def cost(
    days: int,
    requests: int | None,
    milliseconds: float | None,
    memory: int,
    cold_starts: int,
    cold_milliseconds: float,
    *,
    as_json: bool,
    **naming: str | None,
) -> None:
    """Show what a deployed stack cost, or what a load would cost.

    The cost of a stack follows from what CloudWatch counted: seconds and memory of its functions,
    and requests. With --requests, nothing need be deployed: it shows what a month of such requests
    costs on each architecture.

    Prices are those of one region and one day, named below the table, of the first tier and without
    the free tier. Not counted: the time to load a model at a cold start (a load has
    --cold-milliseconds for it), storage of images, models and logs, SnapStart, and traffic.

    Example: lambda-serving cost --env prod --days 7

    Example: lambda-serving cost --requests 1000000 --milliseconds 12 --memory 1769
    """
    from lambda_serving.project.deployed.estimates import Load

    if requests is not None:
        if milliseconds is None:
            raise click.UsageError("--requests also needs --milliseconds, the time of a request.")
        if isnan(milliseconds) or isnan(cold_milliseconds):  # which is in any range
            raise click.UsageError("Milliseconds must be numbers.")
        load = Load(requests, milliseconds, memory, cold_starts, cold_milliseconds)
        _show_estimates(load, as_json=as_json)
        return
    if milliseconds is not None:
        raise click.UsageError("--milliseconds also needs --requests.")
    _show_spent(named(**naming), days, as_json=as_json)


def _show_estimates(load: "Load", *, as_json: bool) -> None:
    from lambda_serving.project.deployed.estimates import estimates

    found = estimates(load)
    if as_json:
        rows = [{**asdict(each), "dollars": each.dollars} for each in found]
        click.echo(json.dumps({"load": asdict(load), "monthly": rows, **_origin()}))
        return
    made = table(
        "architecture", "GB-seconds", "compute", "Lambda requests", "API requests", "a month"
    )
    for each in found:
        parts = (each.compute, each.lambda_requests, each.api_requests, each.dollars)
        made.add_row(each.architecture, f"{each.gb_seconds:,.0f}", *map(_dollars, parts))
    plain_console().print(made)
    _tell_origin("")


def _show_spent(deployment: Deployment, days: int, *, as_json: bool) -> None:
    from lambda_serving.project.deployed.costs import spent
    from lambda_serving.project.deployed.metrics import Window

    stack = deployment.look()
    cloudwatch, functions = deployment.connect("cloudwatch", "lambda")
    found = spent(stack, Window.of(days * _DAY, time.time()), cloudwatch, functions)
    if as_json:
        told = {"stack": stack.name, "days": days, **asdict(found), "dollars": found.dollars}
        click.echo(json.dumps({**told, **_origin()}))
        return
    _print_spent(found, days)
    _tell_origin(deployment.account.region or "")


def _print_spent(found: "Spent", days: int) -> None:
    made = table("what", "requests", "memory", "GB-seconds", f"{days} days")
    for each in found.functions:
        made.add_row(
            f"{each.name} ({each.architecture})",
            f"{each.invocations:,}",
            f"{each.memory} MB",
            f"{each.gb_seconds:,.1f}",
            _dollars(each.dollars),
        )
    made.add_row("API", f"{found.api_requests:,}", "", "", _dollars(found.api_dollars))
    made.add_row("together", "", "", "", _dollars(found.dollars))
    plain_console().print(made)
    click.echo(
        f"And {_dollars(found.monthly)} a month at most for {found.metrics} metrics,"
        f" {found.alarms} alarms and {found.dashboards} dashboards"
    )


def _dollars(amount: float) -> str:
    """To the cent; small amounts to a hundredth of one."""
    return f"${amount:,.2f}" if amount >= 1 or not amount else f"${amount:.4f}"


def _origin() -> dict[str, str]:
    from lambda_serving.project.deployed.prices import DATE, REGION

    return {"prices_of": REGION, "prices_date": DATE}


def _tell_origin(region: str) -> None:
    origin = _origin()
    other = f"; those of {region} may differ" if region not in {"", origin["prices_of"]} else ""
    click.echo(
        f"Prices of {origin['prices_of']}, {origin['prices_date']}: first tier, without the free"
        f" tier{other}"
    )
