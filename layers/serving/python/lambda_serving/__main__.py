"""`python -m lambda_serving` is `lambda-serving`, where the package is not installed."""

import os
import signal

if os.getpid() == 1:  # of a container: what it has no handler for is not told to it by the kernel
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))

from lambda_serving.cli import main

main()
