"""`lambda-serving rollback`: goes back to an earlier version of a model."""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import stages
from lambda_serving.cli.released_model import open_policy, show, versions
from lambda_serving.errors import DeadlineExceeded, FailedPrecondition, NotFound

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.config.model_config import ModelConfig
    from lambda_serving.release.deciding.model_state import Record

__all__ = ["rollback"]

_LOOK_SECONDS = 0.5


@click.command()
@click.argument("base_path")
@click.option(
    "--version", type=int, help="Version to go back to (default: the one before the live one)"
)
@click.option("--stack", help="Name of the deployed stack, to go back within seconds")
@click.option(
    "--wait",
    default=60,
    show_default=True,
    help="With --stack: seconds to wait until the version is live",
)
def rollback(base_path: str, version: int | None, stack: str | None, wait: int) -> None:
    """Go back to the version before the live one.

    That is the largest version below the live one that has answered and not failed. It stays the
    only released version, whatever is pushed, until `set-policy BASE_PATH latest`.
    BASE_PATH is s3://BUCKET/PREFIX/NAME. The policy is saved in models.config beside the model;
    comments in that file are lost.

    With --stack, the live version is read from the stack, and its release function is called
    directly, ahead of any builds and trials in its queue. Without --stack, the largest released
    version that has answered counts as live, and the release function picks the change up by
    itself.
    """
    from lambda_serving.config.servable_version_policy import Specific

    with stages(base_path) as progress:
        progress("reading the versions")
        file = open_policy(base_path)
        known = versions(base_path)
    if not known:
        raise NotFound(
            f"{base_path} has no complete version, so there is nothing to go back to. Check the"
            f" name, or push a version: lambda-serving push SAVED_MODEL {base_path.rstrip('/')}/1"
        )
    live = _Live(base_path, stack) if stack else None
    if version is None:
        running = live.versions() if live else _answering(file.read(), known)
        version = _before(base_path, running, known)
    else:
        _check(version, base_path, known)
    policy = Specific(frozenset({version}))
    show(base_path, file.change(lambda model: replace(model, policy=policy)))
    if live:
        live.move(version, wait)
    click.echo(
        f"Back to version {version}. To return: lambda-serving set-policy {base_path} latest"
    )


class _Live:
    """A model's live versions in a deployed stack; methods raise what the stack's calls raise."""

    def __init__(self, base_path: str, stack: str) -> None:
        from lambda_serving.release.aws.clients import connect
        from lambda_serving.release.aws.stack import System

        [self._functions] = connect("lambda")
        self._system = System.deployed(stack, self._functions)
        self._model = self._system.model(base_path)

    def versions(self) -> set[int]:
        return self._system.serving(self._model, self._functions)

    def move(self, version: int, seconds: float) -> None:
        """Calls the release function, and waits until all requests go to that version.

        Raises DeadlineExceeded if that takes longer than `seconds`.
        """
        self._system.look_now(self._model, self._functions)
        pause, end = threading.Event(), time.monotonic() + seconds
        with stages(self._model) as progress:
            progress(f"waiting until version {version} is live")
            while self.versions() != {version}:
                if time.monotonic() > end:
                    raise DeadlineExceeded(
                        f"Version {version} is not live after {seconds} s. See"
                        f" `lambda-serving status`, and the log of {self._system.name}_release"
                    )
                pause.wait(_LOOK_SECONDS)


def _answering(model: "ModelConfig", known: Mapping[int, "Record | None"]) -> set[int]:
    """Versions up to the largest released one that have answered; the live one is among them.

    If none has, the released ones that have not failed: without a release function, with a server
    that reads the bucket, there are no records.
    """
    from lambda_serving.config.servable_version_policy import aspired

    released, good = aspired(model.policy, known), _good(known)
    wanted = set(good).intersection(released)
    if not wanted:
        raise FailedPrecondition(
            f"Cannot determine the live version of {model.base_path}: no version of the policy"
            f" {str(model.policy)!r} is complete and has not failed. {_choice(good)}"
        )
    return {each for each in _answered(good, known) if each <= max(wanted)} or wanted


def _good(known: Mapping[int, "Record | None"]) -> list[int]:
    return sorted(each for each, record in known.items() if not (record and record.error))


def _answered(versions: Sequence[int], known: Mapping[int, "Record | None"]) -> list[int]:
    return [each for each in versions if (record := known[each]) and record.warm is not None]


def _before(base_path: str, running: set[int], known: Mapping[int, "Record | None"]) -> int:
    """The largest version below the live one that has answered and not failed.

    Without any record, as where a server reads the bucket, the largest that is complete.
    """
    if not running:
        raise FailedPrecondition(f"No version of {base_path} has been released yet. Push one")
    below = [version for version in _good(known) if version < max(running)]
    answered = _answered(below, known) if any(known.values()) else below
    if not answered:
        raise FailedPrecondition(
            f"{base_path} has no version before {max(running)} that has answered and not failed."
            f" {_choice(below)}"
        )
    return answered[-1]


def _check(version: int, base_path: str, known: Mapping[int, "Record | None"]) -> None:
    if version not in known:
        raise NotFound(f"{base_path} has no complete version {version}. {_choice(_good(known))}")
    if (record := known[version]) and record.error is not None:
        raise FailedPrecondition(f"Version {version} of {base_path} failed: {record.error}")


def _choice(versions: Iterable[int]) -> str:
    """What the user can do: choose one of these versions, or push one."""
    listed = ", ".join(map(str, sorted(versions)))
    return f"Choose one with --version: {listed}" if listed else "Push another version"
