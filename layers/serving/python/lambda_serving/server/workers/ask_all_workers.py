"""Relays a worker's question to all workers, and their answers back."""

import asyncio
import logging
from collections.abc import Sequence

from lambda_serving.server.workers.frames import Frame, Kind, joined
from lambda_serving.server.workers.worker_process import WorkerProcess, WorkerState

__all__ = ["Gathers"]

_log = logging.getLogger(__name__)
_ANSWER_SECONDS = 5


class Gathers:
    """The parent's side of `Worker.gather`.

    `kept` has the last payload that was gathered with `keep`, by topic.
    """

    def __init__(self, workers: Sequence[WorkerProcess]) -> None:
        self.kept: dict[str, bytes] = {}
        self._workers = workers
        self._asking: dict[str, asyncio.Lock] = {}

    async def relay(self, asker: WorkerProcess, frame: Frame) -> None:
        """Sends the answers to ASK or KEEP to the worker that asks."""
        try:
            answered = await self._answers(frame)
        except Exception:  # noqa: BLE001 - the asking worker waits for an answer
            _log.exception("Could not query all workers for %s", frame.topic)
            answered = joined([b""])
        asker.send(Frame(Kind.ANSWERS, frame.number, payload=answered))

    async def ask_all(
        self, topic: str, payload: bytes, seconds: float | None
    ) -> list[bytes | None]:
        """The answers of all ready workers, as `WorkerProcess.call` gives them."""
        ready = [worker for worker in self._workers if worker.is_ready]
        return await asyncio.gather(*(worker.call(topic, payload, seconds) for worker in ready))

    async def _answers(self, frame: Frame) -> bytes:
        async with self._asking.setdefault(frame.topic, asyncio.Lock()):
            if frame.kind is Kind.KEEP:
                self.kept[frame.topic] = frame.payload
                for worker in self._workers:
                    if worker.state is WorkerState.LOADING:
                        worker.outdate()
            # a kept payload must be applied, however long that takes
            seconds = _ANSWER_SECONDS if frame.kind is Kind.ASK else None
            answers = await self.ask_all(frame.topic, frame.payload, seconds)
        return joined(answer for answer in answers if answer is not None)
