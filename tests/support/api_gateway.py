"""API Gateway's control plane: moto's, with rules of AWS that moto does not enforce.

Requests must fit botocore's model. An API has at most 300 routes and 300 integrations. A route's
key is unique, and its authorizer must exist. Deleting something absent fails, and so does deleting
an integration that a route uses. An update can clear a setting. Lists come in pages. A refused call
raises the error that AWS gives.

Sources: API Gateway's developer guide, "Quotas for configuring and running an HTTP API"; botocore's
service model; the words of a full quota, a ConflictException with the status 429, from users'
reports (anomalyco/sst#4522).
"""

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qs

import botocore.session
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from moto.apigatewayv2.models import Api, apigatewayv2_backends

from support.aws_plane import Plane, Refused

__all__ = ["QUOTA", "Kept", "api", "register"]

QUOTA = 300
"""For routes and for integrations."""
_ACCOUNT, _REGION = "123456789012", "eu-west-1"
_PAGE = 10  # so that callers must read several pages
_Application = Callable[[Any, Any], Iterable[bytes]]
_Given = dict[str, Any]
_PLANES: dict[str, Plane] = {}


def api(api_id: str) -> Api:
    """Moto's data about an API."""
    found: Api = apigatewayv2_backends[_ACCOUNT][_REGION].get_api(api_id)
    return found


def register(api_id: str, plane: Plane) -> None:
    """Makes `plane` count the calls about an API; it may interfere with them."""
    _PLANES[api_id] = plane


class Kept:
    """A WSGI application: moto's, after the rules have been checked."""

    def __init__(self, application: _Application) -> None:
        self._application = application

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        found = _find(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if found is None:
            return self._application(environ, start_response)
        name, located = found
        plane = _PLANES.get(located.get("ApiId", ""), Plane())
        content = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(content)
        try:
            plane.calls.append(name)
            plane.interfere(name, "before")
            given = _read(name, located, environ.get("QUERY_STRING", ""), content)
            if rule := _RULES.get(name):
                rule(api(given["ApiId"]), given)
            if name in _ANSWERS:
                told = json.dumps(_ANSWERS[name](api(given["ApiId"]), given)).encode()
                answer = _sent(start_response, "200 OK", told)
            else:
                answer = list(self._application(environ, start_response))
            plane.interfere(name, "after")
        except Refused as refused:
            document = json.dumps({"message": refused.message}).encode()
            status = f"{refused.status} Refused"
            return _sent(start_response, status, document, refused.code)
        return answer


def _sent(start_response: Any, status: str, content: bytes, error: str = "") -> list[bytes]:
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
    start_response(status, headers + ([("x-amzn-ErrorType", error)] if error else []))
    return [content]


@cache
def _model() -> ServiceModel:
    return botocore.session.get_session().get_service_model("apigatewayv2")


@cache
def _operations() -> list[tuple[str, str, re.Pattern[str]]]:
    """Method, name and path of each; `{apiId}` becomes the member `ApiId`."""
    found = []
    for name in _model().operation_names:
        http = _model().operation_model(name).http
        path = re.sub(
            r"\{(\w)(\w*)\}",
            lambda match: f"(?P<{match[1].upper()}{match[2]}>[^/]+)",
            http["requestUri"],
        )
        found.append((http["method"], name, re.compile(path)))
    return found


def _find(method: str, path: str) -> tuple[str, dict[str, str]] | None:
    if not path.startswith("/v2/apis"):
        return None
    for verb, name, pattern in _operations():
        if verb == method and (match := pattern.fullmatch(path)):
            return name, match.groupdict()
    raise AssertionError(f"no operation of API Gateway: {method} {path}")


def _read(name: str, located: Mapping[str, str], query: str, content: bytes) -> _Given:
    """The input by the names of the model's members; refuses a request that does not fit."""
    shape = _model().operation_model(name).input_shape
    assert shape, name
    names = {each.serialization.get("name", key): key for key, each in shape.members.items()}
    body = json.loads(content or b"{}")
    assert body.keys() <= names.keys(), body
    given: _Given = {names[key]: value for key, value in body.items()} | dict(located)
    for key, (value, *_) in parse_qs(query).items():
        given[names[key]] = value
    top = {key: value for key, value in given.items() if not isinstance(value, dict)}
    report = ParamValidator().validate(top, shape)
    if report.has_errors():
        raise Refused(400, "BadRequestException", report.generate_report())
    return given


def _full(what: str) -> Refused:
    return Refused(
        429,
        "ConflictException",
        f"Maximum number of {what} for this API has been reached. Please contact AWS if you need"
        f" additional {what}.",
    )


def _check_route(api: Api, given: _Given) -> None:
    key, route_id = given.get("RouteKey"), given.get("RouteId")
    if any(each.route_key == key and each.route_id != route_id for each in api.routes.values()):
        raise Refused(409, "ConflictException", f"Route with key {key} already exists for this API")
    route = api.routes.get(route_id or "")
    kind = given.get("AuthorizationType", route.authorization_type if route else None)
    authorizer = given.get("AuthorizerId", route.authorizer_id if route else None)
    if (authorizer or kind in {"JWT", "CUSTOM"}) and authorizer not in api.authorizers:
        raise Refused(400, "BadRequestException", f"Invalid authorizer {authorizer}")


def _create_route(api: Api, given: _Given) -> None:
    _check_route(api, given)
    if len(api.routes) >= QUOTA:
        raise _full("Routes")


def _create_integration(api: Api, _: _Given) -> None:
    if len(api.integrations) >= QUOTA:
        raise _full("Integrations")


def _route(api: Api, given: _Given) -> None:
    if given["RouteId"] not in api.routes:
        raise Refused(404, "NotFoundException", "Unable to find Route by key " + given["RouteId"])


def _delete_integration(api: Api, given: _Given) -> None:
    name = given["IntegrationId"]
    if name not in api.integrations:
        raise Refused(404, "NotFoundException", f"Invalid Integration identifier specified {name}")
    if any(each.target == f"integrations/{name}" for each in api.routes.values()):
        raise Refused(
            409, "ConflictException", f"Cannot delete Integration {name}: a Route refers to it"
        )


def _update_route(api: Api, given: _Given) -> Any:
    """Updates a route; moto's own update cannot clear a setting."""
    _route(api, given)
    _check_route(api, given)
    route = api.routes[given["RouteId"]]
    for member in (
        "AuthorizationScopes",
        "AuthorizationType",
        "AuthorizerId",
        "RouteKey",
        "Target",
    ):
        if member in given:
            name = re.sub(r"(?<!^)([A-Z])", r"_\1", member).lower()
            setattr(route, name, given[member] or None)
    return route.to_json()


def _page(every: list[Any], given: _Given) -> Any:
    start = int(given.get("NextToken", "0"))
    stop = start + min(_PAGE, int(given.get("MaxResults", _PAGE)))
    more = {"nextToken": str(stop)} if stop < len(every) else {}
    return {"items": [each.to_json() for each in every[start:stop]], **more}


_RULES: Mapping[str, Callable[[Api, _Given], None]] = {
    "CreateIntegration": _create_integration,
    "CreateRoute": _create_route,
    "DeleteIntegration": _delete_integration,
    "DeleteRoute": _route,
}
_ANSWERS: Mapping[str, Callable[[Api, _Given], Any]] = {
    "GetIntegrations": lambda api, given: _page(api.get_integrations(), given),
    "GetRoutes": lambda api, given: _page(api.get_routes(), given),
    "UpdateRoute": _update_route,
}
