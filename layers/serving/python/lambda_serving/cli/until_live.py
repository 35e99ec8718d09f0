"""Waits until a version that was pushed is live, or until it is clear that it will not be."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import stages

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.release.deciding.model_state import Deployment
    from lambda_serving.release.deciding.outcome import Outcome

__all__ = ["FAILED", "TIME_IS_UP", "until_live"]

TIME_IS_UP = 3
"""Exit code when the version is neither live nor has failed."""
FAILED = 4
"""Exit code when the version has failed, or something else keeps it from being live."""
_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)


def until_live(
    observe: Callable[[], "Deployment"], base_path: str, version: int, seconds: float
) -> int:
    """Prints how it ends, and returns the exit code: 0 if the version is live.

    Looks at least once. Temporary errors of `observe` are waited for as well; raises all others.
    """
    from lambda_serving.release.deciding.outcome import Failed, Live

    pause, looks, end = threading.Event(), 0, time.monotonic() + seconds
    with stages(f"{base_path}/{version}") as progress:
        progress("asking AWS")
        while True:
            found = _look(observe, version)
            if isinstance(found, Live):
                click.echo(f"Version {version} is live")
                return 0
            if isinstance(found, Failed):
                click.secho(f"Version {version} is not live: {found.reason}", err=True, fg="red")
                return FAILED
            seconds_left = end - time.monotonic()
            if seconds_left <= 0:
                click.secho(
                    f"Version {version} is not live after {seconds:g} s. {found.what}. The release"
                    f" goes on; see lambda-serving status {base_path}",
                    err=True,
                    fg="red",
                )
                return TIME_IS_UP
            progress(found.what)
            pause.wait(min(seconds_left, _PAUSES_SECONDS[min(looks, len(_PAUSES_SECONDS) - 1)]))
            looks += 1


def _look(observe: Callable[[], "Deployment"], version: int) -> "Outcome":
    from lambda_serving.release.deciding.outcome import Pending, outcome
    from lambda_serving.release.reconcile import TEMPORARY

    try:
        return outcome(version, observe())
    except TEMPORARY as error:
        return Pending(f"AWS does not answer: {error}")
