"""Lambda events: whole ones from `data/events`, and any request in their form."""

import base64
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

__all__ = ["answer", "load", "payload_1", "payload_2"]

_EVENTS = Path(__file__).parent / "data/events"


def load(name: str) -> Any:
    """The event of a file, e.g. `predict`."""
    return json.loads((_EVENTS / f"{name}.json").read_text(encoding="utf-8"))


def payload_2(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Any:
    """A request as an HTTP API sends it in payload 2.0."""
    event = copy.deepcopy(load("predict"))
    path, _, query = target.partition("?")
    event["rawPath"] = event["requestContext"]["http"]["path"] = path
    event["rawQueryString"] = query
    event["requestContext"]["http"]["method"] = method
    event["headers"] = {name.lower(): value for name, value in headers.items()}
    return event | _body(body)


def payload_1(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Any:
    """A request as an HTTP API sends it in payload 1.0."""
    event = copy.deepcopy(load("http-api-v1"))
    path, _, query = target.partition("?")
    event["path"], event["httpMethod"] = path, method
    pairs = parse_qsl(query, keep_blank_values=True)
    event["queryStringParameters"] = dict(pairs)
    event["multiValueQueryStringParameters"] = {name: [value] for name, value in pairs}
    event["headers"] = dict(headers)
    event["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
    return event | _body(body)


def answer(returned: Any) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what a function returned for an HTTP event."""
    body = returned.get("body", "")
    content = base64.b64decode(body) if returned["isBase64Encoded"] else body.encode()
    return returned["statusCode"], returned.get("headers") or {}, content


def _body(body: bytes) -> dict[str, Any]:
    try:
        return {"body": body.decode() or None, "isBase64Encoded": False}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
