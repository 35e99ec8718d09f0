"""What callers of a model get now, before `push` gives them another version."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lambda_serving.cli.options import Loading
from lambda_serving.errors import DataLoss, ServingError
from lambda_serving.store import temporary
from lambda_serving.store.address import Address
from lambda_serving.store.completeness import Incomplete, check_complete
from lambda_serving.store.local import read_manifest
from lambda_serving.store.manifest import MANIFEST
from lambda_serving.store.names import by_version

if TYPE_CHECKING:  # see cli.inspect
    from lambda_serving.release.aws.served_model import ServedModel
    from lambda_serving.release.signatures import Signatures

__all__ = ["ServedNow", "in_stack", "in_store"]

_FILES = {
    "assets.extra/compiled.json",
    "assets.extra/signatures.pb",
    "model.tflite",
    "saved_model.pb",
}
"""What a version's signatures are read from."""


class ServedNow(NamedTuple):
    """The version that callers get now, and its signatures; `trouble` is why they are not known."""

    version: str
    signatures: "Signatures"
    trouble: str = ""


def in_stack(model: "ServedModel", loading: Loading) -> ServedNow:
    """The live version, from its files or, if they are gone or the template's, its function."""
    from lambda_serving.release.signatures import of_metadata

    name = "the template's version, which is live"
    if model.live:
        version = model.live.model_version
        name = f"version {version}, which is live"
        if _complete(model.base_path).get(version) == model.live.content:
            return _in_bucket(name, model.base_path, version, loading)
    try:
        return ServedNow(name, of_metadata(model.metadata()))
    except (RuntimeError, ServingError) as error:
        return ServedNow(name, {}, str(error))


def in_store(base_path: str, version: int, loading: Loading) -> ServedNow | None:
    """The largest other version that is complete, which a server would have loaded."""
    if not Address.parse(base_path).is_bucket:
        return _in_folder(Path(base_path), version, loading)
    others = _complete(base_path).keys() - {version}
    if not others:
        return None
    return _in_bucket(f"version {max(others)}, the largest", base_path, max(others), loading)


def _complete(base_path: str) -> Mapping[int, str]:
    """The complete versions in a bucket, with what identifies their content."""
    from lambda_serving.release.aws.bucket import BucketReleases

    return BucketReleases(base_path).versions().complete


def _in_folder(base_path: Path, version: int, loading: Loading) -> ServedNow | None:
    if not base_path.is_dir():
        return None
    names = by_version(path.name for path in base_path.iterdir())
    for other in sorted(names.keys() - {version}, reverse=True):
        folder = base_path / names[other]
        if _is_complete(folder):
            return _read(f"version {other}, the largest", folder, loading)
    return None


def _is_complete(folder: Path) -> bool:
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    try:
        check_complete(folder, files, read_manifest(folder, MANIFEST))
    except (DataLoss, Incomplete):
        return False
    return True


def _in_bucket(name: str, base_path: str, version: int, loading: Loading) -> ServedNow:
    from lambda_serving.store.s3_client import S3Folder

    model = S3Folder(Address.in_bucket(base_path))
    files = model / by_version(model.folders())[version]
    there = files.sizes().keys() & _FILES
    with temporary.folder("signatures-") as folder:
        (folder / "assets.extra").mkdir()
        files.download(there, folder, lambda _: None)
        return _read(name, folder, loading)


def _read(name: str, folder: Path, loading: Loading) -> ServedNow:
    from lambda_serving.release.signatures import of_folder

    try:
        is_litert = loading.runtime(folder) == "litert"
        return ServedNow(name, of_folder(folder, loading.tags, litert=is_litert))
    except ServingError as error:
        return ServedNow(name, {}, str(error))
