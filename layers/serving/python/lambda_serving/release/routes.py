"""Routes of a model's versions and labels: the calls of API Gateway, and who may call.

An alias `version-2` is at `/v1/models/NAME/versions/2`, `label-stable` at `.../labels/stable`; its
five routes share one integration.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

from lambda_serving.errors import Aborted, NotFound
from lambda_serving.release.aws import explained

if TYPE_CHECKING:
    from mypy_boto3_apigatewayv2 import ApiGatewayV2Client
    from mypy_boto3_lambda import LambdaClient

__all__ = ["Routes"]

_PLACES = {"version": "versions", "label": "labels"}
_FORMS = ("POST {}:predict", "POST {}:classify", "POST {}:regress", "GET {}", "ANY {}/{{proxy+}}")
_STATEMENT = "api"


class Routes:
    """Routes in the API `api_id` of the model `name`, to aliases of the function `arn`.

    Their authorization is that of the model's own routes. Every method raises what
    `aws.explained` says.
    """

    def __init__(
        self, api_id: str, name: str, *, api: "ApiGatewayV2Client", functions: "LambdaClient"
    ) -> None:
        self._api_id = api_id
        self._name = name
        self._api = api
        self._functions = functions

    def exposed(self) -> set[str]:
        """The aliases that have all their routes."""
        keys = {route["RouteKey"] for route in self._routes()}
        aliases = {alias for key in keys if (alias := self._alias(key))}
        return {alias for alias in aliases if keys.issuperset(self._keys(alias))}

    def add(self, alias: str, function_arn: str) -> None:
        """Adds what is missing of an alias's routes, its integration and API Gateway's right."""
        target = f"{function_arn}:{alias}"
        self._permit(alias, function_arn)
        found = {route["RouteKey"]: route for route in self._routes()}
        missing = [key for key in self._keys(alias) if key not in found]
        if not missing:
            return
        integration = self._integration(target) or self._integrate(target)
        model = next(route for key, route in found.items() if key == self._predict())
        for key in missing:
            with self._explained():
                self._api.create_route(
                    ApiId=self._api_id,
                    RouteKey=key,
                    Target=f"integrations/{integration}",
                    **_authorization(model),
                )

    def remove(self, alias: str, function_arn: str) -> None:
        keys = set(self._keys(alias))
        for route in [route for route in self._routes() if route["RouteKey"] in keys]:
            with suppress(NotFound), self._explained():
                self._api.delete_route(ApiId=self._api_id, RouteId=route["RouteId"])
        if integration := self._integration(f"{function_arn}:{alias}"):
            with suppress(NotFound), self._explained():
                self._api.delete_integration(ApiId=self._api_id, IntegrationId=integration)

    def _permit(self, alias: str, function_arn: str) -> None:
        partition, region, account = (function_arn.split(":")[index] for index in (1, 3, 4))
        source = (
            f"arn:{partition}:execute-api:{region}:{account}:{self._api_id}/*/*{self._path(alias)}*"
        )
        with suppress(Aborted), self._explained():  # Aborted: it was permitted before
            self._functions.add_permission(
                FunctionName=function_arn,
                Qualifier=alias,
                StatementId=_STATEMENT,
                Action="lambda:InvokeFunction",
                Principal="apigateway.amazonaws.com",
                SourceArn=source,
            )

    def _path(self, alias: str) -> str:
        kind, _, value = alias.partition("-")
        return f"/v1/models/{self._name}/{_PLACES[kind]}/{value}"

    def _keys(self, alias: str) -> list[str]:
        return [form.format(self._path(alias)) for form in _FORMS]

    def _predict(self) -> str:
        return f"POST /v1/models/{self._name}:predict"

    def _alias(self, route_key: str) -> str | None:
        """The alias that the first of its routes stands for."""
        for kind, place in _PLACES.items():
            start = f"POST /v1/models/{self._name}/{place}/"
            if route_key.startswith(start) and route_key.endswith(":predict"):
                return f"{kind}-{route_key.removeprefix(start).removesuffix(':predict')}"
        return None

    def _routes(self) -> Iterator[Mapping[str, Any]]:
        with self._explained():
            for page in self._api.get_paginator("get_routes").paginate(ApiId=self._api_id):
                yield from page["Items"]

    def _integration(self, target: str) -> str | None:
        with self._explained():
            for page in self._api.get_paginator("get_integrations").paginate(ApiId=self._api_id):
                for each in page["Items"]:
                    if each.get("IntegrationUri") == target:
                        return each["IntegrationId"]
        return None

    def _integrate(self, target: str) -> str:
        with self._explained():
            made = self._api.create_integration(
                ApiId=self._api_id,
                IntegrationType="AWS_PROXY",
                IntegrationUri=target,
                PayloadFormatVersion="2.0",
                TimeoutInMillis=30000,
            )
        return made["IntegrationId"]

    def _explained(self) -> AbstractContextManager[None]:
        return explained(f"API {self._api_id}")


def _authorization(route: Mapping[str, Any]) -> dict[str, Any]:
    """As another route has it."""
    names = ("AuthorizationType", "AuthorizerId", "AuthorizationScopes")
    return {name: route[name] for name in names if route.get(name)}
