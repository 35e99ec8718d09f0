"""SavedModels in S3 buckets; each version is downloaded once."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lambda_serving.errors import NotFound, translate_os_errors
from lambda_serving.model_spec import ServableId
from lambda_serving.store import temporary
from lambda_serving.store.address import Address
from lambda_serving.store.completeness import check_complete, check_content
from lambda_serving.store.manifest import MANIFEST, File, Manifest
from lambda_serving.store.names import SHOWN, by_version, check_names
from lambda_serving.store.s3_client import S3Folder, connect

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["S3Store", "read_manifest"]

_log = logging.getLogger(__name__)


class S3Store:
    """Base paths `s3://bucket/prefix`, by model; versions are downloaded to `folder/NAME/VERSION`.

    Every method raises Unavailable for a bucket that cannot be read, and PermissionDenied without
    the right to read it.
    """

    def __init__(
        self, base_paths: Mapping[str, str], folder: Path, client: "S3Client | None" = None
    ) -> None:
        """`folder` is created when needed. Raises what `Address.in_bucket` raises."""
        addresses = {name: Address.in_bucket(uri) for name, uri in base_paths.items()}
        client = client or connect(", ".join(map(str, addresses.values())))
        self._models = {name: S3Folder(address, client) for name, address in addresses.items()}
        self._folder = folder

    def versions(self, name: str) -> list[int]:
        return sorted(by_version(self._models[name].folders()))

    def contents(self, name: str) -> list[str]:
        return sorted(self._models[name].some_names())[:SHOWN]

    def fetch(self, servable: ServableId) -> Path:
        """As `Store.fetch`; a version that is already in `folder` is not read again.

        A download that fails or is interrupted leaves no files. Raises Incomplete when the
        version lacks files, DiskFull when it does not fit on the disk, DataLoss when files differ
        from the manifest, and InvalidArgument when keys are not names of files below the version.
        """
        target = self._folder / servable.name / str(servable.version)
        if target.exists():
            return target
        version = self._version(servable)
        if version is None:
            raise NotFound(
                f"Version {servable.version} of model {servable.name} is not under"
                f" {self._models[servable.name]}"
            )
        with translate_os_errors(f"store {version} in {target}"):
            self._download(version, target)
        return target

    def fingerprint(self, servable: ServableId) -> str:
        version = self._version(servable)
        return repr(version.objects()) if version else ""

    def release(self, servable: ServableId) -> None:
        shutil.rmtree(self._folder / servable.name / str(servable.version), ignore_errors=True)

    def _version(self, servable: ServableId) -> S3Folder | None:
        model = self._models[servable.name]
        folder = by_version(model.folders()).get(servable.version)
        return None if folder is None else model / folder

    def _download(self, version: S3Folder, target: Path) -> None:
        """Downloads into a temporary folder, and renames it once it is complete."""
        odd: list[str] = []
        names = set(version.objects(odd.append))
        manifest = read_manifest(version, MANIFEST) if MANIFEST in names else None
        if odd and not manifest:
            raise version.not_a_file(odd[0])
        check_complete(version, names, manifest)
        files = manifest.files if manifest else names
        check_names(files)
        _log.info("Downloading %s to %s", version, target)
        self._folder.mkdir(parents=True, exist_ok=True)
        with temporary.folder("unfinished-", self._folder) as unfinished:
            made = unfinished / "version"
            made.mkdir()
            for file in files:
                (made / file).parent.mkdir(parents=True, exist_ok=True)

            def check(name: str) -> None:
                if manifest:
                    check_content(version, name, manifest.files[name], File.of(made / name))

            version.download(files, made, check)
            target.parent.mkdir(exist_ok=True)
            temporary.keep(made, target)


def read_manifest(version: S3Folder, name: str) -> Manifest:
    """The manifest `name` of a version; raises what `Manifest.of_json` raises."""
    return Manifest.of_json(version.get(name)[0], f"{version}/{name}")
