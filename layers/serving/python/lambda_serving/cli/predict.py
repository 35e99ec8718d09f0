"""`lambda-serving predict`: a client for any server with TensorFlow Serving's REST API."""

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import click

from lambda_serving.cli.access import TOKEN, Access
from lambda_serving.cli.deployment import Deployment, named, stack_options
from lambda_serving.errors import InvalidArgument, Unknown

__all__ = ["predict"]

_LOCAL = "http://localhost:8501"


@click.command()
@click.argument("model_name")
@click.argument("data", default="-")
@click.option("--url", help=f"URL of the server (default: {_LOCAL})")
@stack_options
@click.option("--signature_name", default="", help="Signature to run (default: serving_default)")
@click.option("--version", type=int, help="Version to ask (default: the latest)")
@click.option("--label", help="Label of the version to ask")
@click.option(
    "--golden",
    is_flag=True,
    help="Print request and answer as a line for assets.extra/golden.jsonl",
)
@click.option(
    "--sign/--no-sign",
    default=None,
    help="Sign the request for API Gateway (default: if the host is API Gateway's own, there is no"
    " token, and there are AWS credentials)",
)
@click.option(
    "--token",
    envvar=TOKEN,
    show_envvar=True,
    help="JSON web token to send; others can see it here, but not in the variable",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds to wait for the server",
)
def predict(
    model_name: str,
    data: str,
    url: str | None,
    signature_name: str,
    version: int | None,
    label: str | None,
    *,
    golden: bool,
    timeout: float,
    **access: Any,
) -> None:
    """Ask a server for a prediction by MODEL_NAME, and print the answer.

    DATA is a list of rows such as '[[1.0, 2.0]]', or a whole request body such as
    '{"inputs": {...}}'. @FILE reads it from a file, and - (the default) from standard input.

    The server is one at --url, such as the predict URL that deploy printed, or that of a deployed
    stack: --env in a project, --stack elsewhere. Requests to API Gateway are signed with the AWS
    credentials that there are. For an API that takes JSON web tokens, put one into
    LAMBDA_SERVING_TOKEN.
    """
    if version is not None and label is not None:
        raise click.UsageError("Use either --version or --label, not both.")
    request = _body(_read(data), signature_name)
    server, chosen = _server(model_name, url, **access)
    target = f"{_checked(server, model_name)}{_path(model_name, version, label)}"
    answer = _ask(target, json.dumps(request).encode(), chosen, timeout)
    click.echo(_pair(request, answer) if golden else answer)


def _server(
    model: str,
    url: str | None,
    *,
    env: str | None,
    stack: str | None,
    region: str | None,
    profile: str | None,
    sign: bool | None,
    token: str | None,
) -> tuple[str, Access]:
    """The URL of the server, and how requests to it show who sends them."""
    if sign and token:
        raise click.UsageError(f"Use either --sign or a token, from --token or {TOKEN}, not both.")
    if not (env or stack):
        return url or _LOCAL, Access(token, sign, profile, region)
    if url:
        raise click.UsageError("Use --url, or --env or --stack, not both.")
    deployment = named(env, stack, region, profile)
    access = Access(token, sign, deployment.profile or None, deployment.region or None)
    return _server_of(model, deployment), access


def _path(model: str, version: int | None, label: str | None) -> str:
    path = f"/v1/models/{quote(model, safe='')}"
    if version is not None:
        path += f"/versions/{version}"
    if label is not None:
        path += f"/labels/{quote(label, safe='')}"
    return f"{path}:predict"


def _checked(url: str, model: str) -> str:
    """The part of a URL before `/v1/models`; raises InvalidArgument for one that is not a server's.

    A name or a password in it would be shown by errors, and servers of this API take neither.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidArgument(f"--url must begin with http:// or https:// and a host, not {url!r}")
    if "@" in parts.netloc:
        raise InvalidArgument("--url must not hold a name or a password. Use --token or --sign")
    if parts.query or parts.fragment:
        raise InvalidArgument("--url must be that of a server, without what follows ? or #")
    return url.rstrip("/").removesuffix(f"/v1/models/{quote(model, safe='')}:predict")


def _server_of(model: str, deployment: Deployment) -> str:
    from lambda_serving.cli.console import stages
    from lambda_serving.project.deployed.urls import server_of

    with stages(deployment.stack) as progress:
        progress("asking AWS for its outputs")
        return server_of(model, deployment.look())


def _read(data: str) -> str:
    if data == "-":
        return sys.stdin.read()
    if not data.startswith("@"):
        return data
    try:
        return Path(data[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"Could not read {data[1:]}: {error}") from error


def _body(text: str, signature_name: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"The data is not JSON: {error}") from error
    body = data if isinstance(data, dict) else {"instances": data}
    return {"signature_name": signature_name, **body} if signature_name else body


def _pair(request: dict[str, Any], answer: str) -> str:
    try:
        return json.dumps({"request": request, "response": json.loads(answer)})
    except ValueError as error:
        raise Unknown(f"The answer is not JSON: {error}") from error


def _ask(url: str, body: bytes, access: Access, seconds: float) -> str:
    from lambda_serving.cli.console import stages
    from lambda_serving.cli.http_post import post  # `serve` does not need it

    with stages(url) as progress:
        progress("looking for credentials")
        authorized = access.authorize(url, {"Content-Type": "application/json"}, body)
        progress("waiting for the answer")
        return post(url, body, authorized, seconds)
