"""The command `lambda-serving`, also as `python -m lambda_serving`."""

import os
import signal
import sys

if os.getpid() == 1:  # in a container, where the kernel drops signals without a handler
    signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))

__all__ = ["main"]


def main() -> None:
    """Runs the command; a package that is missing or damaged is told in one sentence."""
    try:
        from lambda_serving.cli import main as run

        run()
    except ImportError as error:
        from lambda_serving.installation import broken

        sys.exit(f"Error: {broken(error)}")


if __name__ == "__main__":
    main()
