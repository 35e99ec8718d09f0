"""`lambda-serving set-policy`, `label`, `rollback`: choose which versions of a model are live."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from lambda_serving.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
)
from lambda_serving.store.address import Address

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.config.model_config import ModelConfig
    from lambda_serving.config.servable_version_policy import VersionPolicy
    from lambda_serving.release.aws.policy_file import PolicyFile
    from lambda_serving.release.deciding.model_state import Record

__all__ = ["label", "rollback", "set_policy"]

_MAX_COUNT = 2**32 - 1
_MAX_VERSION = 2**63 - 1
_LOOK_SECONDS = 0.5


@click.command("set-policy")
@click.argument("base_path")
@click.argument(
    "words", nargs=-1, required=True, metavar="latest [N] | all | specific VERSION,VERSION"
)
def set_policy(base_path: str, words: tuple[str, ...]) -> None:
    """Choose which versions of a model are released.

    The policy is the N latest versions (by default 1), all versions, or the versions listed.
    BASE_PATH is s3://BUCKET/PREFIX/NAME. The policy is saved in models.config beside the model;
    comments in that file are lost. The stack's release function picks the change up by itself.
    """
    policy = _policy(words)
    _show(base_path, _open(base_path).change(lambda model: replace(model, policy=policy)))


@click.command()
@click.argument("base_path")
@click.argument("labels", nargs=-1, metavar="[NAME=VERSION]...")
@click.option("--remove", multiple=True, metavar="NAME", help="Remove this label; may be repeated")
def label(base_path: str, labels: tuple[str, ...], remove: tuple[str, ...]) -> None:
    """Set, remove or show the labels of a model's versions.

    Without arguments, shows the labels. BASE_PATH is s3://BUCKET/PREFIX/NAME. Labels are saved in
    models.config beside the model; comments in that file are lost. The stack's release function
    picks the change up by itself.
    """
    added = _labels(labels)
    if both := added.keys() & set(remove):
        raise click.UsageError(f"{', '.join(sorted(both))} cannot be set and removed at once.")

    def edit(model: "ModelConfig") -> "ModelConfig":
        if missing := set(remove) - model.labels.keys():
            raise NotFound(
                f"{base_path} has no label {', '.join(sorted(missing))}. It has {_shown(model)}"
            )
        kept = {name: version for name, version in model.labels.items() if name not in remove}
        return replace(model, labels=kept | added)

    model = _open(base_path).change(edit)
    _show(base_path, model)
    for name in _unreleased(model, added):
        click.secho(
            f"Warning: version {added[name]} is not released, so the label {name} has no URL yet."
            f" Push the version, or include it with a policy such as"
            f" `lambda-serving set-policy {base_path} latest 2`",
            err=True,
            fg="yellow",
        )


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

    That is the largest version below the live one that is complete and has not failed. It stays the
    only released version, whatever is pushed, until `set-policy BASE_PATH latest`.
    BASE_PATH is s3://BUCKET/PREFIX/NAME. The policy is saved in models.config beside the model;
    comments in that file are lost.

    With --stack, the live version is read from the stack, and its release function is called
    directly, ahead of any builds and trials in its queue. Without --stack, the largest released
    version that has answered counts as live, and the release function picks the change up by
    itself.
    """
    from lambda_serving.config.servable_version_policy import Specific

    file = _open(base_path)
    known = _known(base_path)
    live = _Live(base_path, stack) if stack else None
    if version is None:
        running = live.versions() if live else _answering(file.read(), known)
        version = _before(base_path, running, known)
    else:
        _check(version, base_path, known)
    policy = Specific(frozenset({version}))
    _show(base_path, file.change(lambda model: replace(model, policy=policy)))
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
        while self.versions() != {version}:
            if time.monotonic() > end:
                raise DeadlineExceeded(
                    f"Version {version} is not live after {seconds} s. See"
                    f" `lambda-serving status`, and the log of {self._system.name}_release"
                )
            pause.wait(_LOOK_SECONDS)


def _open(base_path: str) -> "PolicyFile":
    Address.in_bucket(base_path, "BASE_PATH")
    from lambda_serving.release.aws.policy_file import PolicyFile  # boto3 takes 0.3 s to import

    return PolicyFile(base_path)


def _policy(words: Sequence[str]) -> "VersionPolicy":
    from lambda_serving.config.servable_version_policy import All, Latest, Specific

    match words:
        case ["latest"]:
            return Latest()
        case ["latest", count]:
            return Latest(_number(count, 1, _MAX_COUNT))
        case ["all"]:
            return All()
        case ["specific", versions]:
            return Specific(frozenset(map(_version, versions.split(","))))
        case _:
            raise click.UsageError(
                "The policy must be latest, latest N, all, or specific VERSION,VERSION,"
                f" not {' '.join(words)!r}."
            )


def _version(text: str) -> int:
    return _number(text, 0, _MAX_VERSION)


def _number(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise click.UsageError(f"{text!r} must be a number from {low} to {high}.")
    return int(text)


def _labels(assignments: Sequence[str]) -> dict[str, int]:
    from lambda_serving.config.model_config import LABEL

    labels = dict[str, int]()
    for assignment in assignments:
        name, equals, version = assignment.partition("=")
        if not equals:
            raise click.UsageError(f"Labels are set with NAME=VERSION, not with {assignment!r}.")
        if not LABEL.fullmatch(name):
            raise click.UsageError(
                f"The label {name!r} must be 1 to 100 characters of A-Z, a-z, 0-9, _ and -:"
                " it becomes part of URLs and of an alias."
            )
        if name in labels:
            raise click.UsageError(f"The label {name} is set twice.")
        labels[name] = _version(version)
    return labels


def _unreleased(model: "ModelConfig", labels: Mapping[str, int]) -> list[str]:
    """The labels of versions that are incomplete or not in the policy."""
    if not labels:
        return []
    from lambda_serving.config.servable_version_policy import aspired

    released = aspired(model.policy, _known(model.base_path))
    return [name for name, version in labels.items() if version not in released]


def _known(base_path: str) -> dict[int, "Record | None"]:
    """Complete versions, each with the record of its present content."""
    from lambda_serving.release.aws.bucket import BucketReleases

    releases = BucketReleases(base_path)
    complete = releases.versions().complete
    records = releases.records(complete)
    return {
        version: record if (record := records.get(version)) and record.content == content else None
        for version, content in complete.items()
    }


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
            f" {_rule(model.policy)!r} is complete and has not failed. Choose one with --version:"
            f" {_listed(good)}"
        )
    answered = {each for each in good if (record := known[each]) and record.warm is not None}
    return {each for each in answered if each <= max(wanted)} or wanted


def _good(known: Mapping[int, "Record | None"]) -> list[int]:
    return sorted(each for each, record in known.items() if not (record and record.error))


def _before(base_path: str, running: set[int], known: Mapping[int, "Record | None"]) -> int:
    """The largest version below the live one that has not failed."""
    if not running:
        raise FailedPrecondition(f"No version of {base_path} has been released yet. Push one")
    below = [version for version in _good(known) if version < max(running)]
    if not below:
        raise FailedPrecondition(
            f"{base_path} has no version before {max(running)} that is complete and has not failed"
        )
    return below[-1]


def _check(version: int, base_path: str, known: Mapping[int, "Record | None"]) -> None:
    if version not in known:
        raise NotFound(f"{base_path} has no complete version {version}. Complete: {_listed(known)}")
    if (record := known[version]) and record.error is not None:
        raise FailedPrecondition(f"Version {version} of {base_path} failed: {record.error}")


def _listed(versions: Sequence[int] | Mapping[int, object]) -> str:
    return ", ".join(map(str, sorted(versions))) or "none"


def _show(base_path: str, model: "ModelConfig") -> None:
    click.echo(f"{base_path}: {_rule(model.policy)}; {_shown(model)}")


def _rule(policy: "VersionPolicy") -> str:
    """The policy as `set-policy` takes it."""
    from lambda_serving.config.servable_version_policy import Latest, Specific

    match policy:
        case Latest(num_versions):
            return f"latest {num_versions}"
        case Specific(versions):
            return f"specific {','.join(map(str, sorted(versions)))}"
        case _:
            return "all"


def _shown(model: "ModelConfig") -> str:
    labels = " ".join(f"{name}={version}" for name, version in sorted(model.labels.items()))
    return f"labels {labels}" if labels else "no labels"
