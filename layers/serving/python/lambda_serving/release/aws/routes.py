"""The routes of a model's versions and labels: the calls to API Gateway.

The alias `version-2` is at `/v1/models/NAME/versions/2`, `label-stable` at `.../labels/stable`. Its
six routes share one integration and have the authorization of the model's own routes.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lambda_serving.errors import InvalidArgument, NotFound
from lambda_serving.release.aws.clients import translate_errors
from lambda_serving.release.aws.permissions import Permissions

if TYPE_CHECKING:
    from mypy_boto3_apigatewayv2 import ApiGatewayV2Client
    from mypy_boto3_lambda import LambdaClient

__all__ = ["Exposed", "Routes"]

_PLACES = {"version": "versions", "label": "labels"}
_FORMS = (  # not ANY: it would match browsers' preflights, which have no credentials
    "POST {}:predict",
    "POST {}:classify",
    "POST {}:regress",
    "GET {}",
    "GET {}/{{proxy+}}",
    "POST {}/{{proxy+}}",
)
_FORMER = ("ANY {}/{{proxy+}}",)
"""What earlier releases made; it is deleted when its successors exist."""
_Route = Mapping[str, Any]
_INTEGRATION: _Route = {
    "IntegrationType": "AWS_PROXY",
    "PayloadFormatVersion": "2.0",
    "TimeoutInMillis": 30000,
}
_NOBODYS: tuple[Any, ...] = ("", None, [])


@dataclass(frozen=True, slots=True)
class Exposed:
    """Aliases with routes: those with `all` routes as they should be, those with `some` routes."""

    all: frozenset[str] = frozenset()
    some: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Api:
    """One look: routes by their keys, integrations by their ids."""

    routes: Mapping[str, _Route]
    integrations: Mapping[str, _Route]

    def leads_to(self, route: _Route, target: str) -> bool:
        integration = self.integrations.get(route.get("Target", "").partition("/")[2], {})
        return _is(integration, {**_INTEGRATION, "IntegrationUri": target})


class Routes:
    """Routes in the API `api_id` of the model `name`, to aliases of a function.

    Every method raises what `translate_errors` raises, and NotFound when the model has no routes of
    its own.
    """

    def __init__(
        self, api_id: str, name: str, *, api: "ApiGatewayV2Client", functions: "LambdaClient"
    ) -> None:
        self._api_id = api_id
        self._name = name
        self._api = api
        self._permissions = Permissions(api_id, functions)

    def exposed(self, function_arn: str, aliases: Iterable[str]) -> Exposed:
        """The state of the routes to a function's `aliases`."""
        seen = self._look()
        some = frozenset(alias for key in seen.routes if (alias := self._alias(key)))
        found = some & {*aliases}
        return Exposed(
            frozenset(each for each in found if self._is_exposed(each, function_arn, seen)), some
        )

    def add(self, alias: str, function_arn: str) -> None:
        """Creates or corrects an alias's routes, integration and permission.

        Existing routes come first, so that none stays open longer than necessary.
        """
        seen = self._look()
        authorization = self._authorization(seen)
        routes = {
            key: self._changed(route, authorization)
            for key in (*self._keys(alias), *self._keys(alias, _FORMER))
            if (route := seen.routes.get(key))
        }
        target = f"{function_arn}:{alias}"
        wanted = {"Target": f"integrations/{self._integrated(target, seen)}", **authorization}
        for key in self._keys(alias):
            if route := routes.get(key):
                self._changed(route, wanted)
            else:
                self._created({"RouteKey": key, **wanted})
        for key in self._keys(alias, _FORMER):
            if route := routes.get(key):
                self._delete(route)
        self._permissions.grant(function_arn, alias, self._path(alias))

    def remove(self, alias: str, function_arn: str) -> None:
        """Deletes everything that releases ever made for an alias, except its permission."""
        seen = self._look()
        for key in (*self._keys(alias), *self._keys(alias, _FORMER)):
            if route := seen.routes.get(key):
                self._delete(route)
        for name, integration in seen.integrations.items():
            if integration.get("IntegrationUri") == f"{function_arn}:{alias}":
                with suppress(NotFound), self._translate_errors():
                    self._api.delete_integration(ApiId=self._api_id, IntegrationId=name)

    def _is_exposed(self, alias: str, function_arn: str, seen: _Api) -> bool:
        target, authorization = f"{function_arn}:{alias}", self._authorization(seen)
        return (
            all(
                (route := seen.routes.get(key))
                and _is(route, authorization)
                and seen.leads_to(route, target)
                for key in self._keys(alias)
            )
            and not any(key in seen.routes for key in self._keys(alias, _FORMER))
            and self._permissions.granted(function_arn, alias, self._path(alias))
        )

    def _path(self, alias: str) -> str:
        kind, _, value = alias.partition("-")
        return f"/v1/models/{self._name}/{_PLACES[kind]}/{value}"

    def _keys(self, alias: str, forms: Iterable[str] = _FORMS) -> list[str]:
        return [form.format(self._path(alias)) for form in forms]

    def _alias(self, route_key: str) -> str | None:
        """The alias for which a release, this or an earlier one, made a route with that key."""
        for kind, place in _PLACES.items():
            start = re.escape(f"/v1/models/{self._name}/{place}/")
            if match := re.match(rf"[A-Z]+ {start}([A-Za-z0-9_-]+)", route_key):
                alias = f"{kind}-{match[1]}"
                if route_key in (*self._keys(alias), *self._keys(alias, _FORMER)):
                    return alias
        return None

    def _authorization(self, seen: _Api) -> dict[str, Any]:
        """The authorization of the model's own routes, which these have, too."""
        own = f"POST /v1/models/{self._name}:predict"
        if own not in seen.routes:
            raise NotFound(f"API {self._api_id} has no route {own}. Deploy the stack again")
        route = seen.routes[own]
        return {
            "AuthorizationType": route.get("AuthorizationType", "NONE"),
            "AuthorizerId": route.get("AuthorizerId", ""),
            "AuthorizationScopes": sorted(route.get("AuthorizationScopes") or ()),
        }

    def _look(self) -> _Api:
        routes, integrations = (
            self._api.get_paginator("get_routes"),
            self._api.get_paginator("get_integrations"),
        )
        with self._translate_errors():
            return _Api(
                {
                    route["RouteKey"]: route
                    for page in routes.paginate(ApiId=self._api_id)
                    for route in page["Items"]
                },
                {
                    integration["IntegrationId"]: integration
                    for page in integrations.paginate(ApiId=self._api_id)
                    for integration in page["Items"]
                },
            )

    def _integrated(self, target: str, seen: _Api) -> str:
        """The id of the integration with that target, created or corrected if necessary."""
        wanted: dict[str, Any] = {**_INTEGRATION, "IntegrationUri": target}
        for name, integration in seen.integrations.items():
            if integration.get("IntegrationUri") == target:
                if not _is(integration, _INTEGRATION):
                    with self._translate_errors():
                        self._api.update_integration(
                            ApiId=self._api_id, IntegrationId=name, **wanted
                        )
                return name
        with self._translate_errors():
            return self._api.create_integration(ApiId=self._api_id, **wanted)["IntegrationId"]

    def _changed(self, route: _Route, wanted: _Route) -> _Route:
        """The route as wanted; one that cannot be changed is replaced by another."""
        if _is(route, wanted):
            return route
        changed: _Route = {}
        with suppress(InvalidArgument), self._translate_errors():
            changed = self._api.update_route(
                ApiId=self._api_id, RouteId=route["RouteId"], **_asked(wanted, route)
            )
        if _is(changed, wanted):
            return changed
        self._delete(route)
        return self._created(
            {"RouteKey": route["RouteKey"], "Target": route.get("Target", ""), **wanted}
        )

    def _created(self, route: _Route) -> _Route:
        with self._translate_errors():
            return self._api.create_route(ApiId=self._api_id, **_asked(route, {}))

    def _delete(self, route: _Route) -> None:
        with suppress(NotFound), self._translate_errors():
            self._api.delete_route(ApiId=self._api_id, RouteId=route["RouteId"])

    def _translate_errors(self) -> AbstractContextManager[None]:
        return translate_errors(f"API {self._api_id}")


def _is(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether everything wanted was found; an empty value may also be missing."""
    return all(
        _in_order(found.get(name)) == value or (value in _NOBODYS and found.get(name) in _NOBODYS)
        for name, value in wanted.items()
    )


def _in_order(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


def _asked(wanted: _Route, before: _Route) -> dict[str, Any]:
    """The parameters of a request: without those that are empty and were empty before."""
    return {
        name: value
        for name, value in wanted.items()
        if value not in _NOBODYS or before.get(name) not in _NOBODYS
    }
