"""The HTTP API in front of the functions, like API Gateway: moto's routes, events of payload 2.0.

Source: API Gateway's developer guide on HTTP APIs. A full path takes precedence over a greedy one,
a method over ANY. A route with an authorization refuses callers without it: 403 where requests are
signed, 401 without a token, 403 without one of the scopes. Preflights are answered by the gateway
itself where the API has a CORS configuration and no route with an authorization catches them, as
ANY does; of other answers it has all headers of CORS then. A function that fails is a 500, one that
Lambda does not invoke a 503. Signatures are checked as AWS checks them, and the caller's role must
allow `execute-api:Invoke`; of tokens, only the claims are checked.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from support import api_gateway, events, iam, sigv4
from support.aws_plane import Function, Refused, listening
from support.cloud import ACCOUNT, ISSUER, REGION, SYSTEM, Cloud
from support.iam.requests import Ask

__all__ = ["SIGNING", "running", "token"]

SIGNING = sigv4.Signing(REGION)
"""Signs requests with the credentials of the environment."""
_GREEDY = "{proxy+}"
_SERVICE = {"Service": "apigateway.amazonaws.com"}
_Answer = tuple[int, dict[str, str], bytes]
_Headers = Mapping[str, str]


def token(*scopes: str, issuer: str = ISSUER, audience: str = SYSTEM) -> dict[str, str]:
    """Headers with a JSON web token; nobody checks its signature."""
    claims = json.dumps({"iss": issuer, "aud": audience, "scope": " ".join(scopes)})
    return {"authorization": f"Bearer e30.{base64.urlsafe_b64encode(claims.encode()).decode()}.x"}


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
        status, headers, content = _answered(self.cloud, self.command, event, self.path, body)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_OPTIONS = do_POST = do_PUT = _answer  # noqa: N815 as http.server calls them

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what failed."""


def _answered(cloud: Cloud, method: str, event: Any, target: str, body: bytes) -> _Answer:
    """The gateway's answer, CORS included."""
    api, headers = api_gateway.api(cloud.api_id), event["headers"]
    route = _route(api, method, event["rawPath"])
    rules: Any = api.cors_configuration

    def is_signed() -> bool:
        return _is_signed(cloud, method, target, headers, body)

    refusal = _refused(api, route, headers, is_signed) if route else None
    if rules and not refusal and method == "OPTIONS" and "origin" in headers:
        return HTTPStatus.NO_CONTENT, _cors(rules, headers), b""
    if route is None:
        refusal = HTTPStatus.NOT_FOUND
    answer = _refusal(refusal) if refusal else _invoke(cloud, route, method, event)
    if not rules:
        return answer
    status, told, content = answer
    kept = {name: value for name, value in told.items() if not _is_cors(name)}
    allowed = {name: value for name, value in _cors(rules, headers).items() if "allow-o" in name}
    return status, kept | allowed, content


def _is_cors(name: str) -> bool:
    return name.lower().startswith("access-control-")


def _cors(rules: Any, headers: _Headers) -> dict[str, str]:
    """The CORS headers for allowed origins; none for others."""
    origin = headers.get("origin", "")
    if not {origin, "*"} & {*rules["allowOrigins"]}:
        return {}
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": ",".join(rules["allowMethods"]),
        "access-control-allow-headers": ",".join(rules["allowHeaders"]),
    }


def _refused(
    api: Any, route: Any, headers: _Headers, is_signed: Callable[[], bool]
) -> HTTPStatus | None:
    """The status for callers without the authorization that the route requires."""
    given = headers.get("authorization", "")
    match route.authorization_type or "NONE":
        case "NONE":
            return None
        case "AWS_IAM":
            return None if is_signed() else HTTPStatus.FORBIDDEN
        case "JWT":
            rules = api.authorizers[route.authorizer_id].jwt_config
            claims = _claims(given)
            if claims.get("iss") != rules["issuer"] or claims.get("aud") not in rules["audience"]:
                return HTTPStatus.UNAUTHORIZED
            scopes = {*(route.authorization_scopes or ())}
            has_one = not scopes or scopes & {*claims["scope"].split()}
            return None if has_one else HTTPStatus.FORBIDDEN
        case other:
            raise AssertionError(f"{other} is not stood in for")


def _is_signed(cloud: Cloud, method: str, target: str, headers: _Headers, body: bytes) -> bool:
    """Whether the signature is right, and the caller may invoke the API with this path."""
    key = iam.key_of(headers.get("authorization", ""))
    scope = f"{REGION}/execute-api"
    if sigv4.refusal(method, target, headers, body, cloud.secret_of, scope):
        return False
    path = unquote(target.partition("?")[0])
    arn = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{cloud.api_id}/$default/{method}{path}"
    return cloud.guard.refusal(key, [Ask("execute-api:Invoke", arn)]) is None


def _claims(authorization: str) -> dict[str, str]:
    scheme, _, jwt = authorization.partition(" ")
    if scheme != "Bearer" or jwt.count(".") != 2:
        return {}
    claims: dict[str, str] = json.loads(base64.urlsafe_b64decode(jwt.split(".")[1]))
    return claims


def _invoke(cloud: Cloud, route: Any, method: str, event: Any) -> _Answer:
    api, path = api_gateway.api(cloud.api_id), route.route_key.partition(" ")[2]
    target = api.integrations[route.target.partition("/")[2]].integration_uri
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


def _route(api: Any, method: str, path: str) -> Any:
    """The most specific route that matches; None if there is none."""
    found = []
    for route in list(api.routes.values()):
        verb, _, pattern = route.route_key.partition(" ")
        prefix = pattern.removesuffix(_GREEDY)
        is_greedy = prefix != pattern
        matches = path.startswith(prefix) and path != prefix if is_greedy else path == pattern
        if matches and verb in {method, "ANY"}:
            found.append(((not is_greedy, len(prefix), verb != "ANY"), route))
    return max(found, key=lambda each: each[0])[1] if found else None


def _may_invoke(function: Function, alias: str, source: str) -> bool:
    return any(
        statement["Principal"] == _SERVICE
        and fnmatchcase(source, statement["Condition"]["ArnLike"]["AWS:SourceArn"])
        for statement in function.policies.get(alias, {}).values()
    )


def _refusal(status: HTTPStatus, reason: str = "") -> _Answer:
    """An error in the gateway's words, with the reason, which the real one does not show."""
    document = {"message": status.phrase, **({"reason": reason} if reason else {})}
    return status, {"content-type": "application/json"}, json.dumps(document).encode()
