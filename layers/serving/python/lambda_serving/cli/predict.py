"""`lambda-serving predict`: a client for any server with TensorFlow Serving's REST API."""

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from lambda_serving.errors import InvalidArgument, Unavailable, Unknown

__all__ = ["predict"]


@click.command()
@click.argument("model_name")
@click.argument("data", default="-")
@click.option("--url", default="http://localhost:8501", show_default=True, help="URL of the server")
@click.option("--signature_name", default="", help="Signature to run (default: serving_default)")
@click.option("--version", type=int, help="Version to ask (default: the latest)")
@click.option("--label", help="Label of the version to ask")
@click.option(
    "--golden",
    is_flag=True,
    help="Print request and answer as a line for assets.extra/golden.jsonl",
)
def predict(
    model_name: str,
    data: str,
    url: str,
    signature_name: str,
    version: int | None,
    label: str | None,
    *,
    golden: bool,
) -> None:
    """Ask a server for a prediction by MODEL_NAME, and print the answer.

    DATA is a list of rows such as '[[1.0, 2.0]]', or a whole request body such as
    '{"inputs": {...}}'. @FILE reads it from a file, and - (the default) from standard input.
    """
    target = f"/v1/models/{quote(model_name, safe='')}"
    if version is not None and label is not None:
        raise click.UsageError("Use either --version or --label, not both.")
    if version is not None:
        target += f"/versions/{version}"
    if label is not None:
        target += f"/labels/{quote(label, safe='')}"
    body = _body(_read(data), signature_name)
    answer = _post(url.rstrip("/") + target + ":predict", json.dumps(body).encode())
    click.echo(_pair(body, answer) if golden else answer)


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


def _post(url: str, body: bytes) -> str:
    import urllib.error  # `serve` does not need these
    import urllib.request

    request = urllib.request.Request(  # noqa: S310 - the user names the server
        url, body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as response:  # noqa: S310 - the same
            text: str = response.read().decode("utf-8", "replace")
            return text
    except urllib.error.HTTPError as error:
        answer = error.read().decode("utf-8", "replace")
        raise Unknown(f"{error.code} from the server: {_message(answer)}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(f"Could not reach {url}: {reason}. Is the server running?") from error


def _message(answer: str) -> str:
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return answer
