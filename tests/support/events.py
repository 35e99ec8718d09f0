"""Lambda events: whole ones from `data/events`, and any request in their form."""

import base64
import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

__all__ = ["KINDS", "answer", "load", "payload_1", "payload_2"]

Build = Callable[[str, str, Mapping[str, str], bytes], Any]
"""Makes an event of a method, a target, headers and a body."""

_EVENTS = Path(__file__).parents[1] / "data/events"


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
    return _parameters(copy.deepcopy(load("http-api-v1")), method, target, headers, body)


def _rest_api(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Any:
    return _parameters(copy.deepcopy(load("rest-api-v1")), method, target, headers, body)


def _function_url(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Any:
    context = load("function-url")["requestContext"]
    event = payload_2(method, target, headers, body)
    return event | {"requestContext": context | {"http": event["requestContext"]["http"]}}


def _alb(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Any:
    path, _, query = target.partition("?")
    pairs = [pair.partition("=")[::2] for pair in query.split("&") if pair]  # as sent
    event = {"path": path, "httpMethod": method, "queryStringParameters": dict(pairs)}
    return load("alb") | event | {"headers": dict(headers)} | _body(body)


def _alb_multi_value(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Any:
    event = _alb(method, target, {}, body)
    pairs = {name: [value] for name, value in event["queryStringParameters"].items()}
    del event["headers"], event["queryStringParameters"]
    event["multiValueQueryStringParameters"] = pairs
    return event | {"multiValueHeaders": {name: [value] for name, value in headers.items()}}


def _lattice_1(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Any:
    sent = _body(body)
    event = {"raw_path": target, "method": method, "headers": dict(headers), "body": sent["body"]}
    return load("lattice-v1") | event | {"is_base64_encoded": sent["isBase64Encoded"]}


def _lattice_2(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Any:
    multiple = {name: [value] for name, value in headers.items()}
    event = {"path": target, "method": method, "headers": multiple}
    return load("lattice-v2") | event | _body(body)


KINDS: Mapping[str, Build] = {
    "HTTP API, payload 2.0": payload_2,
    "HTTP API, payload 1.0": payload_1,
    "REST API": _rest_api,
    "function URL": _function_url,
    "load balancer": _alb,
    "load balancer, multi-value headers": _alb_multi_value,
    "VPC Lattice, version 1": _lattice_1,
    "VPC Lattice, version 2": _lattice_2,
}
"""Everything that sends a function HTTP requests."""


def _parameters(
    event: Any, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> Any:
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
    headers = returned.get("headers") or {
        name: value for name, [value] in returned.get("multiValueHeaders", {}).items()
    }
    return returned["statusCode"], headers, content


def _body(body: bytes) -> dict[str, Any]:
    try:
        return {"body": body.decode() or None, "isBase64Encoded": False}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
