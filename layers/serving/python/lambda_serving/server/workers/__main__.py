"""A worker: `python -m lambda_serving.server.workers NUMBER CONTROL MEMORY LISTENER...`.

All but NUMBER are file descriptors inherited from the parent.
"""

import logging
import socket
import sys
import threading

from lambda_serving.errors import ServingError
from lambda_serving.servables.tensorflow_c.library import library
from lambda_serving.servables.tensorflow_c.shared_memory import Shared
from lambda_serving.server.workers.worker import Worker

__all__: list[str] = []


def _main(number: int, control: int, register: int, *listeners: int) -> None:
    worker = Worker(
        socket.socket(fileno=control), [socket.socket(fileno=each) for each in listeners], number
    )
    settings = worker.start()
    if not settings.prefer_tflite_model:  # which may do without; it takes 0.2 s beside imports
        threading.Thread(target=library, daemon=True).start()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s"
    )
    from lambda_serving.server.serve import run
    from lambda_serving.server.workers.reloading import first_models

    try:
        shared = Shared(register)
        run(settings, first_models(worker.kept, settings), worker.listener, worker, shared)
    except ServingError as error:
        worker.failed(error)
        sys.exit(1)


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
