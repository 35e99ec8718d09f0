"""`python -m lambda_serving` runs `lambda-serving` without installing the package."""

import os
import signal

if os.getpid() == 1:  # in a container, where the kernel drops signals without a handler
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))

from lambda_serving.cli import main

main()
