"""The REST API, and gRPC-Web beside it, on a socket."""

import logging
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import uvicorn

from lambda_serving.manager import Manager
from lambda_serving.rest import RestOptions, create_app
from lambda_serving.rpc import with_grpc_web
from lambda_serving.settings import Settings

__all__ = ["run"]

_log = logging.getLogger(__name__)


def run(manager: Manager, settings: Settings, listener: socket.socket) -> None:
    """Answers on `listener` until SIGINT or SIGTERM; requests in flight finish."""
    with ThreadPoolExecutor(settings.rest_api_num_threads, "predict") as executor:
        rest = create_app(manager, RestOptions.of(settings), executor)
        executor.submit(getattr, rest, "pages")  # so that the first health check does not wait
        config = uvicorn.Config(
            with_grpc_web(rest, manager, settings, executor),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
        )
        listener.listen()  # from here on clients wait instead of being refused
        host, port = listener.getsockname()[:2]
        _log.info("Exporting HTTP/REST API at: http://%s:%s", host, port)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stopped)
        uvicorn.Server(config).run(sockets=[listener])


def _stopped(_: int, __: FrameType | None) -> None:
    """Uvicorn raises the signal that stopped it again when it has; the exit code is then 0."""
