"""The parent of the workers: starts, replaces and drains them, and relays their gathers.

It loads no model, and so not TensorFlow: what crashes a worker cannot crash the parent.
"""

import asyncio
import json
import logging
import os
import socket
import sys
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from time import monotonic

from lambda_serving import protos
from lambda_serving.config.server_flags import Settings
from lambda_serving.errors import InvalidArgument, Unavailable
from lambda_serving.servables.tensorflow_c.shared_memory import new_memory
from lambda_serving.server.listeners import another, grpc_listener, rest_listener, sharing
from lambda_serving.server.shutdown import shutdown_signals
from lambda_serving.server.workers.ask_all_workers import Gathers
from lambda_serving.server.workers.frames import Frame, Kind
from lambda_serving.server.workers.worker_process import WorkerProcess, WorkerState

__all__ = ["pause_after", "shared_out", "supervise"]

_log = logging.getLogger(__name__)
_BACKLOG = 2048
_STEADY_SECONDS = 60
_LONGEST_PAUSE_SECONDS = 30
_RELEASE_SECONDS = 1
_PATIENCE_SECONDS = 5
_BEAT_SECONDS = 1


def supervise(settings: Settings) -> None:
    """Serves with `settings.workers` processes until a shutdown signal, then lets them drain.

    Raises what a worker's first load raises, and Unavailable if a port cannot be bound. The exit
    code is 1 after a second signal, or if a worker did not end by itself.
    """
    settings.models()  # raises once what every worker would raise
    if settings.grpc_socket_path:
        raise InvalidArgument(
            "--grpc_socket_path is for one process: --workers can share a --port, but not a socket"
        )
    settings = _with_cores_shared(settings)
    with ExitStack() as held:
        if settings.port:
            sharing(held.enter_context(grpc_listener(settings)))
        listeners = [sharing(held.enter_context(rest_listener(settings)))]
        for _ in range(settings.workers - 1):
            listeners.append(held.enter_context(another(listeners[0])))
        held.callback(os.close, register := _register())
        status = asyncio.run(_Supervisor(settings, listeners, register).run())
    sys.exit(status)


def pause_after(failures: int) -> float:
    """Seconds before a worker restarts that has ended early `failures` times in a row."""
    return min(2.0 ** (min(failures, 10) - 1), _LONGEST_PAUSE_SECONDS) if failures else 0


def shared_out(ready: Sequence[int], count: int) -> dict[int, set[int]]:
    """The sockets that each ready worker accepts from, if there are `count` workers in all.

    Each has its own socket, and its share of the sockets whose worker is not ready:

    >>> shared_out([0, 3], 4)
    {0: {0, 2}, 3: {1, 3}}
    """
    shares = {number: {number} for number in ready}
    for orphan in set(range(count)).difference(ready):
        shares[ready[orphan % len(ready)]].add(orphan)
    return shares


class _Supervisor:
    """`listeners` are the workers' REST sockets on one port; `register` is that of `Shared`.

    The kernel spreads connections evenly over the sockets. All of them stay open here, so that a
    client that has connected is not reset when a worker ends: another worker accepts it.
    """

    def __init__(
        self, settings: Settings, listeners: Sequence[socket.socket], register: int
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._workers = [
            WorkerProcess(number, listeners, register, self._told)
            for number in range(settings.workers)
        ]
        self._gathers = Gathers(self._workers)
        self._tasks = set[asyncio.Task[None]]()
        self._are_open = False
        self._is_serving = False
        self._stopping = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Returns the exit status once all workers have ended."""
        for number in shutdown_signals():
            asyncio.get_running_loop().add_signal_handler(number, self._stop)
        lives = [asyncio.create_task(self._keep_alive(worker)) for worker in self._workers]
        beats = asyncio.create_task(self._beat())
        try:
            await asyncio.gather(*lives)
            await asyncio.gather(*self._tasks)
        finally:
            for task in (*lives, beats):
                task.cancel()
            await asyncio.gather(*lives, beats, return_exceptions=True)
        return self._status

    async def _keep_alive(self, worker: WorkerProcess) -> None:
        """Restarts the worker whenever it ends; raises the error if its first load fails."""
        failures = 0
        while not self._stopping.is_set():
            began = monotonic()
            end = await self._lived(worker)
            if worker.is_outdated:
                continue
            self._share_out()
            if self._stopping.is_set():
                return
            if not self._is_serving:
                raise worker.error or Unavailable(f"{end}, before it had loaded every model")
            failures = 0 if monotonic() - began > _STEADY_SECONDS else failures + 1
            pause, why = pause_after(failures), f": {worker.error}" if worker.error else ""
            _log.error("%s%s. It is replaced in %d s", end, why, pause)
            await self._sleep(pause)

    async def _lived(self, worker: WorkerProcess) -> str:
        """Like `WorkerProcess.live`; once all workers serve, an error is an end like any other."""
        try:
            return await worker.live(self._first_frames())
        except Exception as error:
            if not self._is_serving:
                raise
            _log.exception("Worker %d could not be run", worker.number)
            return f"Worker {worker.number} could not be run ({error})"

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            try:
                silent = [worker for worker in self._workers if not worker.beat()]
                if silent:
                    self._share_out()
            except Exception:  # noqa: BLE001 - nothing else would replace workers that hang
                _log.exception("Could not check the workers")

    def _first_frames(self) -> list[Frame]:
        kept = [
            Frame(Kind.KEPT, 0, topic, payload) for topic, payload in self._gathers.kept.items()
        ]
        settings = json.dumps(asdict(self._settings)).encode()
        return [*kept, Frame(Kind.START, int(self._is_serving), payload=settings)]

    def _told(self, worker: WorkerProcess, frame: Frame) -> None:
        match frame.kind:
            case Kind.READY | Kind.PONG | Kind.CLOSING:
                self._share_out()
            case Kind.SERVING if not self._is_serving:
                self._is_serving = all(each.state is WorkerState.SERVING for each in self._workers)
                if self._is_serving:
                    host, port = self._listeners[0].getsockname()[:2]
                    _log.info(
                        "Exporting HTTP/REST API at: http://%s:%s by %d processes",
                        *(host, port, len(self._workers)),
                    )
            case Kind.ASK | Kind.KEEP:
                self._start(self._gathers.relay(worker, frame))

    def _share_out(self) -> None:
        """Tells each ready worker which sockets to accept from, once all have been ready."""
        ready = self._may_serve()
        if self._stopping.is_set() or not ready:
            return
        if not self._are_open:
            if len(ready) < len(self._workers):
                return
            self._are_open = True
            for listener in self._listeners:
                listener.listen(_BACKLOG)
        for number, sockets in shared_out(ready, len(self._workers)).items():
            self._workers[number].send(Frame(Kind.LISTEN, payload=bytes(sockets)))

    def _may_serve(self) -> list[int]:
        """Ready workers, except new ones that lack a model while others lack none."""
        ready = [worker for worker in self._workers if worker.is_ready]
        all_lack = all(worker.lacks_models for worker in ready)
        return [
            worker.number
            for worker in ready
            if all_lack or worker.state is WorkerState.SERVING or not worker.lacks_models
        ]

    def _stop(self) -> None:
        if self._stopping.is_set():
            self._kill("A second signal")
            return
        if not self._is_serving:
            _log.info("Stopped before every model had loaded")
        self._stopping.set()
        self._start(self._drain())

    async def _drain(self) -> None:
        """Ends all workers, once each is the only one that holds its socket."""
        await self._gathers.ask_all("release", b"", _RELEASE_SECONDS)
        for listener in self._listeners:
            listener.close()
        seconds = self._settings.drain_seconds
        try:
            async with asyncio.timeout(seconds + _PATIENCE_SECONDS):
                ended = await asyncio.gather(*(worker.drain() for worker in self._workers))
        except TimeoutError:
            self._kill(f"Workers are still running after --drain_seconds={seconds}")
        else:
            self._status = self._status or int(not all(ended))

    def _kill(self, why: str) -> None:
        _log.error("%s: the remaining workers are killed", why)
        self._status = 1
        for worker in self._workers:
            worker.kill()

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _with_cores_shared(settings: Settings) -> Settings:
    """Divides the cores among the workers for threads inside an op, unless the operator chose."""
    config = protos.message("tensorflow.ConfigProto").FromString(settings.session_config())
    if config.intra_op_parallelism_threads:
        return settings
    cores = (os.cpu_count() or 1) // settings.workers
    return replace(settings, tensorflow_intra_op_parallelism=max(1, cores))


def _register() -> int:
    """The register of shared memory; if the machine has none, a worker reports that."""
    try:
        return new_memory("register")
    except OSError:
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
