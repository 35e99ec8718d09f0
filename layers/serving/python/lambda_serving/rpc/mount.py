"""Where gRPC-Web calls come in: beside another application."""

from concurrent.futures import Executor
from functools import cache

from starlette.types import ASGIApp, Receive, Scope, Send

from lambda_serving.call_record import Observers
from lambda_serving.manager import Manager
from lambda_serving.settings import Settings

__all__ = ["with_grpc_web"]

_PREFIX = "/tensorflow.serving."


def with_grpc_web(
    app: ASGIApp,
    manager: Manager,
    settings: Settings,
    executor: Executor | None = None,
    observers: Observers | None = None,
) -> ASGIApp:
    """An application that answers gRPC-Web calls, and hands all else to `app`.

    Calls run in `executor`'s threads, without one in the thread of the caller. What they need is
    imported by the first one: few functions and servers are ever sent any.
    """

    @cache
    def web() -> ASGIApp:
        from lambda_serving.rpc.web import create_web

        return create_web(manager, settings, executor, observers)

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(_PREFIX):
            await web()(scope, receive, send)
        else:
            await app(scope, receive, send)

    return both
