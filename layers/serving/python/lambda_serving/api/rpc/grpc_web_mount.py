"""gRPC-Web beside another application."""

from functools import cache
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from lambda_serving.api.prediction_threads import Threads
from lambda_serving.api.rpc import grpc_web_addresses
from lambda_serving.call_record import Observers
from lambda_serving.config.server_flags import Settings
from lambda_serving.core.basic_manager import Manager

if TYPE_CHECKING:
    from lambda_serving.api.rpc.grpc_web import Web

__all__ = ["with_grpc_web"]


def with_grpc_web(
    app: ASGIApp,
    manager: Manager,
    settings: Settings,
    threads: Threads | None = None,
    observers: Observers | None = None,
    *,
    max_answer: int | None = None,
    timeout_ms: int | None = None,
) -> ASGIApp:
    """An application that answers gRPC-Web calls, and passes all others to `app`.

    Calls run in `threads`, or without them in the caller's thread. `max_answer` and `timeout_ms`
    are those of `Web`. The first call imports what calls need, because few functions and
    servers ever get one.
    """

    @cache
    def web() -> "Web":
        from lambda_serving.api.rpc.grpc_web import Web

        return Web(
            manager, settings, threads, observers, max_answer=max_answer, timeout_ms=timeout_ms
        )

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        address = grpc_web_addresses.read(scope) if scope["type"] == "http" else None
        if address is None:
            await app(scope, receive, send)
        else:
            await web()(address, scope, receive, send)

    return both
