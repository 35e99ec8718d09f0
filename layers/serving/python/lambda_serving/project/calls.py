"""Commands that ask a deployed model for a prediction, by who may call it."""

import json
import shlex
from pathlib import Path

from lambda_serving.release.golden import GOLDEN
from lambda_serving.store.names import by_version

__all__ = ["call", "golden_file"]

_INLINE = 300  # characters of a request that fit into a line
_MAX_LINE = 2**23
_EXTRACT = 'import json, sys; print(json.dumps(json.loads(sys.stdin.readline())["request"]))'


def golden_file(model_folder: Path) -> Path | None:
    """The golden pairs of a model's newest version that has some; None if no version has."""
    versions = by_version(each.name for each in model_folder.glob("*"))
    for version in sorted(versions, reverse=True):
        path = model_folder / versions[version] / GOLDEN
        if path.is_file() and _request(path) is not None:
            return path
    return None


def call(model: str, url: str, access: str, golden: Path | None, options: str = "") -> str:
    """A line for a shell that sends the first golden request to a model.

    `url` is the model's predict URL, `access` is IAM, JWT or OPEN. `options` are more ones for
    `predict`, which signs. Without golden pairs, the request is read from request.json.
    """
    source, pipe = _source(golden)
    if access == "IAM":
        base = url.partition("/v1/models/")[0]
        data = source.removeprefix("-d ") or "-"
        more = f" {options}" if options else ""
        return f"{pipe}lambda-serving predict {shlex.quote(model)} {data} --url {base}{more}"
    token = '-H "Authorization: Bearer $TOKEN" ' if access == "JWT" else ""
    return f"{pipe}curl {token}{source or '-d @-'} {shlex.quote(url)}"


def _source(golden: Path | None) -> tuple[str, str]:
    """How a command gets the request: its option, and what to write before the command."""
    if golden is None:
        return "-d @request.json", ""
    request = json.dumps(_request(golden))
    if len(request) <= _INLINE:
        return f"-d {shlex.quote(request)}", ""
    return "", f"python3 -c {shlex.quote(_EXTRACT)} < {shlex.quote(str(golden))} | "


def _request(golden: Path) -> object:
    """The request of a file's first line; None if it has none."""
    with golden.open("rb") as file:
        line = file.readline(_MAX_LINE)
    try:
        pair = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return pair.get("request") if isinstance(pair, dict) else None
