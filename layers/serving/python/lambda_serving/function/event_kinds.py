"""The kinds of events that a function gets, and the answer that the sender of each can read.

Mangum's own handlers write the answers to API Gateway, function URLs and load balancers. They do
not read the requests: they fail on odd but real headers, such as a port that is not a number, a
host with two colons, or no headers at all.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from mangum.handlers import ALB, APIGateway, HTTPGateway
from mangum.types import LambdaConfig, LambdaContext, LambdaHandler, Response, Scope

from lambda_serving.function.direct_invoke import DirectInvoke
from lambda_serving.function.event_call import Event, EventCall, members, parts

__all__ = ["KINDS"]


class _LoadBalancer(EventCall):
    """Application load balancers, which take 1 MB (Elastic Load Balancing user guide)."""

    most = 2**20
    encoded_query = True

    @classmethod
    def infer(cls, event: Event, _context: LambdaContext, _config: LambdaConfig) -> bool:
        return "elb" in _request_context(event)

    def answer(self, response: Response) -> Any:
        return _Alb(self.event, self.context, self.config)(response)


class _Alb(ALB):
    @property
    def scope(self) -> Scope:
        """The part of the request that writing an answer reads."""
        return {"aws.event": self.event}


class _Lattice(EventCall):
    """VPC Lattice, both versions of its events."""

    query_in_path = True

    @classmethod
    def infer(cls, event: Event, _context: LambdaContext, _config: LambdaConfig) -> bool:
        context = _request_context(event)
        return "raw_path" in members(event) or bool(
            {"serviceArn", "serviceNetworkArn"} & context.keys()
        )

    def answer(self, response: Response) -> Any:
        status = response["status"]
        return {"statusDescription": f"{status} {HTTPStatus(status).phrase}", **parts(response)}


class _Payload2(EventCall):
    """HTTP APIs and function URLs."""

    @classmethod
    def infer(cls, event: Event, _context: LambdaContext, _config: LambdaConfig) -> bool:
        return "rawPath" in members(event) or "http" in _request_context(event)

    def answer(self, response: Response) -> Any:
        return _HttpGateway(self.event, self.context, self.config)(response)


class _HttpGateway(HTTPGateway):
    @property
    def scope(self) -> Scope:
        """The part of the request that writing an answer reads."""
        return {"aws.event": {"version": "2.0"}}


class _Payload1(EventCall):
    """REST APIs, and HTTP APIs that are told to send payload 1.0."""

    @classmethod
    def infer(cls, event: Event, _context: LambdaContext, _config: LambdaConfig) -> bool:
        return "requestContext" in members(event)

    def answer(self, response: Response) -> Any:
        return APIGateway(self.event, self.context, self.config)(response)


KINDS: list[type[LambdaHandler]] = [_LoadBalancer, _Lattice, _Payload2, _Payload1, DirectInvoke]
"""Every kind; an event has the first one whose `infer` is true."""


def _request_context(event: Event) -> Mapping[str, Any]:
    return members(members(event).get("requestContext"))
