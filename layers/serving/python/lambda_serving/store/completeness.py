"""Checks that a version is complete and has the content that was pushed."""

import re
from collections.abc import Set as AbstractSet

from lambda_serving.errors import DataLoss, Unavailable
from lambda_serving.store.manifest import MANIFEST, PUSH, File, Manifest
from lambda_serving.store.other_formats import advice

__all__ = ["Incomplete", "check_complete", "check_content"]

_SHOWN = 10
_SAVED_MODELS = {"saved_model.pb", "saved_model.pbtxt", "saved_model.cpb", "model.tflite"}
_INDEX = "variables/variables.index"
_SHARD = re.compile(r"variables/variables\.data-[0-9]{5}-of-([0-9]{5})")


class Incomplete(Unavailable):
    """A version lacks files; they may still arrive."""


def check_complete(version: object, names: AbstractSet[str], manifest: Manifest | None) -> None:
    """Raises Incomplete if files are missing from `names`, which are the version's files.

    Without a manifest, either a push has not ended or the version was not pushed. In the second
    case the names of a SavedModel's files tell whether some are missing.
    """
    if manifest:
        missing, fix = sorted(manifest.files.keys() - names), "Push it again, as a new version"
    elif PUSH in names:
        missing, fix = [MANIFEST], "Wait for the push to end, or push the same again to complete it"
    else:
        missing, fix = _missing(names), ""
        if "saved_model.pb" in missing and names:
            fix = advice(str(version), {name.partition("/")[0] for name in names})
        fix = fix or "Wait for the upload to end, or copy the SavedModel again"
    if missing:
        raise Incomplete(
            f"The copy in {version} is not complete: {', '.join(missing[:_SHOWN])} is missing."
            f" {fix}"
        )


def check_content(version: object, name: str, listed: File, found: File) -> None:
    """Raises DataLoss if the content of a file is not what the manifest lists."""
    if listed != found:
        raise DataLoss(
            f"{name} in {version} is not what was pushed: its manifest lists {listed.size} bytes"
            f" with sha256 {listed.sha256}, but it has {found.size} with {found.sha256}. Push the"
            " SavedModel again, as a new version"
        )


def _missing(names: AbstractSet[str]) -> list[str]:
    missing = [] if names & _SAVED_MODELS else ["saved_model.pb"]
    shard_counts = {match[1] for name in names if (match := _SHARD.fullmatch(name))}
    if _INDEX in names or shard_counts:
        lacks = [sorted(_variables(count) - names) for count in shard_counts or {"00001"}]
        missing = [*missing, *min(lacks, key=len)]
    return missing


def _variables(shard_count: str) -> set[str]:
    """The files of a checkpoint with this many shards (core/util/tensor_bundle/naming.cc)."""
    shards = range(int(shard_count))
    return {_INDEX, *(f"variables/variables.data-{n:05}-of-{shard_count}" for n in shards)}
