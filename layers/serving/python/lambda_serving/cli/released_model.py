"""A model's policy, labels and versions in its bucket, for the commands that change them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from lambda_serving.cli.console import stages
from lambda_serving.store.address import Address

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.config.model_config import ModelConfig
    from lambda_serving.release.aws.policy_file import PolicyFile
    from lambda_serving.release.deciding.model_state import Record

__all__ = ["change", "labels_of", "number", "open_policy", "show", "version_number", "versions"]

_MAX_VERSION = 2**63 - 1


def open_policy(base_path: str) -> "PolicyFile":
    """The policy file of a model; raises what `Address.in_bucket` and `PolicyFile` raise."""
    Address.in_bucket(base_path, "BASE_PATH")
    from lambda_serving.release.aws.policy_file import PolicyFile  # boto3 takes 0.3 s to import

    return PolicyFile(base_path)


def change(base_path: str, edit: "Callable[[ModelConfig], ModelConfig]") -> "ModelConfig":
    """Changes a model's policy or labels; raises what `open_policy` and `PolicyFile` raise."""
    with stages(base_path) as progress:
        progress("changing models.config")
        return open_policy(base_path).change(edit)


def show(base_path: str, model: "ModelConfig") -> None:
    """Prints a model's policy and labels."""
    click.echo(f"{base_path}: {model.policy}; {labels_of(model)}")


def labels_of(model: "ModelConfig") -> str:
    labels = " ".join(f"{name}={version}" for name, version in sorted(model.labels.items()))
    return f"labels {labels}" if labels else "no labels"


def versions(base_path: str) -> dict[int, "Record | None"]:
    """The complete versions, each with the record of its current content."""
    from lambda_serving.release.aws.bucket import BucketReleases

    releases = BucketReleases(base_path)
    complete = releases.versions().complete
    records = releases.records(complete)
    return {
        version: record if (record := records.get(version)) and record.content == content else None
        for version, content in complete.items()
    }


def version_number(text: str) -> int:
    return number(text, 0, _MAX_VERSION)


def number(text: str, low: int, high: int) -> int:
    """Raises UsageError unless the text is a number from `low` to `high`."""
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise click.UsageError(f"{text!r} must be a number from {low} to {high}.")
    return int(text)
