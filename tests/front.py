"""The HTTP API before the functions, as API Gateway is: moto's routes, events of payload 2.0.

Source: API Gateway's developer guide on HTTP APIs: a whole path goes before a greedy one, a method
before ANY; a function that fails is a 500, one that Lambda does not invoke a 503.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from moto.apigatewayv2.models import apigatewayv2_backends

import events
from aws_plane import Function, Refused, listening
from cloud import ACCOUNT, REGION, Cloud

__all__ = ["running"]

_GREEDY = "{proxy+}"
_SERVICE = {"Service": "apigateway.amazonaws.com"}
_Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def running(cloud: Cloud) -> Iterator[int]:
    """The port at which the API answers."""
    with listening(type("Handler", (_Handler,), {"cloud": cloud})) as port:
        yield port


class _Handler(BaseHTTPRequestHandler):
    cloud: Cloud
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        event = events.payload_2(self.command, self.path, dict(self.headers.items()), body)
        status, headers, content = _invoke(self.cloud, self.command, event)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = _answer  # noqa: N815 as http.server calls them

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what failed."""


def _invoke(cloud: Cloud, method: str, event: Any) -> _Answer:
    route = _route(cloud, method, event["rawPath"])
    if route is None:
        return _refusal(HTTPStatus.NOT_FOUND)
    path, target = route
    name, _, alias = target.rpartition("function:")[2].partition(":")
    function = cloud.plane.functions[name]
    source = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{cloud.api_id}/$default/{method}{path}"
    if alias != "live" and not _may_invoke(function, alias, source):
        return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, f"{source} may not invoke {target}")
    try:
        return events.answer(function.invoke(event, alias))
    except RuntimeError as error:
        return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
    except Refused as error:
        return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error))


def _route(cloud: Cloud, method: str, path: str) -> tuple[str, str] | None:
    """The path of the route that is the closest, and where its integration leads to."""
    api = apigatewayv2_backends[ACCOUNT][REGION].apis[cloud.api_id]
    found = []
    for route in list(api.routes.values()):
        verb, _, pattern = route.route_key.partition(" ")
        prefix = pattern.removesuffix(_GREEDY)
        is_greedy = prefix != pattern
        matches = path.startswith(prefix) and path != prefix if is_greedy else path == pattern
        if matches and verb in {method, "ANY"}:
            found.append(((not is_greedy, len(prefix), verb != "ANY"), pattern, route.target))
    if not found:
        return None
    _, pattern, target = max(found)
    return pattern, api.integrations[target.partition("/")[2]].integration_uri


def _may_invoke(function: Function, alias: str, source: str) -> bool:
    return any(
        statement["Principal"] == _SERVICE
        and fnmatchcase(source, statement["Condition"]["ArnLike"]["AWS:SourceArn"])
        for statement in function.policies.get(alias, {}).values()
    )


def _refusal(status: HTTPStatus, reason: str = "") -> _Answer:
    """As the gateway words it, with the reason, which it keeps to itself."""
    document = {"message": status.phrase, **({"reason": reason} if reason else {})}
    return status, {"content-type": "application/json"}, json.dumps(document).encode()
