"""gRPC calls in the event loop: reading the message, answering, and reporting a status."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from lambda_serving.api.request_memory import Held
from lambda_serving.api.rpc import grpc_status
from lambda_serving.api.rpc.services import Circumstances, Services, timeout_ms
from lambda_serving.call_record import request_id
from lambda_serving.errors import ResourceExhausted

__all__ = ["Calls"]

_STATUSES = {status.value[0]: status for status in grpc.StatusCode}
_SLOWEST = 2**20  # bytes a second; gRPC shows a message only when it is complete
_LAST_PATIENCE = 5.0  # seconds, once the server is stopping
_REQUEST_ID = "x-request-id"


class Calls:
    """Answers calls of `services`.

    A message must arrive within `patience` seconds plus the time of the largest one at `_SLOWEST`.
    """

    def __init__(self, services: Services, patience: float) -> None:
        self._services = services
        self._patience = patience + services.max_message / _SLOWEST
        self._reading = set[asyncio.Timeout]()
        self._running = set[asyncio.Task[Any]]()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Makes a server answer every method.

        Methods are registered as if several messages might come, which is the same on the wire:
        only then can we decide how long to wait for a message.
        """
        for path in self._services.methods:
            _, service, method = path.split("/")
            handler: Any = grpc.stream_unary_rpc_method_handler(self._behavior(path))
            generic = grpc.method_handlers_generic_handler(service, {method: handler})
            server.add_generic_rpc_handlers((generic,))

    async def finished(self) -> None:
        """Waits until all calls are finished; messages still missing get little time to arrive."""
        soon = asyncio.get_running_loop().time() + _LAST_PATIENCE
        for reading in self._reading:
            reading.reschedule(min(reading.when() or soon, soon))
        while self._running:
            await asyncio.wait(self._running)

    def _behavior(
        self, path: str
    ) -> Callable[[object, "grpc.aio.ServicerContext[bytes, bytes]"], Awaitable[bytes]]:
        async def behave(_: object, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
            task = asyncio.current_task()
            assert task
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            body = await self._read(context)
            with Held(self._services.room) as held:
                return await self._answer(path, body, held, context)

        return behave

    async def _answer(
        self, path: str, body: bytes, held: Held, context: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> bytes:
        try:
            held.add(len(body))
        except ResourceExhausted as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        how = Circumstances(
            timeouts_ms=[timeout_ms(context.time_remaining())],
            request_id=await _identify(context) if self._services.wants_id(path) else "",
        )
        reply = await self._services.answer(path, body, how)
        if reply.code != grpc_status.OK:
            await context.abort(_STATUSES[reply.code], reply.message)
        return reply.body

    async def _read(self, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        try:
            async with asyncio.timeout(self._patience) as reading:
                self._reading.add(reading)
                body = await context.read()
        except TimeoutError:
            await context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED, "The request did not arrive in time"
            )
        finally:
            self._reading.discard(reading)
        if not isinstance(body, bytes):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The call has no message")
        return body


async def _identify(context: "grpc.aio.ServicerContext[bytes, bytes]") -> str:
    """The id of a call, which is sent to the client."""
    given = dict(context.invocation_metadata() or ()).get(_REQUEST_ID, "")
    known_as = request_id(given if isinstance(given, str) else "")
    await context.send_initial_metadata(((_REQUEST_ID, known_as),))
    return known_as
