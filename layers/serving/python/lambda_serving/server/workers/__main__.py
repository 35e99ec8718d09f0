"""A worker: `python -m lambda_serving.server.workers NUMBER CONTROL MEMORY LISTENER...`.

All but NUMBER are file descriptors inherited from the parent.
"""

import logging
import socket
import sys
from functools import partial

from lambda_serving.errors import ServingError
from lambda_serving.installation import translate_import_errors
from lambda_serving.servables.early_opening import open_early
from lambda_serving.servables.tensorflow_c.shared_memory import Shared
from lambda_serving.server.workers.reloading import first_models
from lambda_serving.server.workers.worker import Worker

__all__: list[str] = []


def _main(number: int, control: int, register: int, *listeners: int) -> None:
    worker = Worker(
        socket.socket(fileno=control), [socket.socket(fileno=each) for each in listeners], number
    )
    settings = worker.start()
    models = partial(first_models, worker.kept, settings)
    open_early(models, prefer_tflite=settings.prefer_tflite_model)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s [%(process)d] %(name)s: %(message)s"
    )
    try:
        with translate_import_errors():
            from lambda_serving.server.serve import run

            run(settings, models(), worker.listener, worker, Shared(register))
    except ServingError as error:
        worker.failed(error)
        sys.exit(1)


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
