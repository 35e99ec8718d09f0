"""What a bucket tells of a model: its complete versions, and the records of their releases.

Versions are complete by their manifest, `NAME/VERSION/manifest.json`; records lie beside the
model, `_releases/NAME/VERSION.json`, where no base path reaches.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from lambda_serving.errors import InvalidArgument
from lambda_serving.release.deployment import Record
from lambda_serving.release.records import of_json, to_json
from lambda_serving.store.local import by_version
from lambda_serving.store.manifest import MANIFEST
from lambda_serving.store.s3 import (
    Location,
    connect,
    explained,
    folders_below,
    read_manifest,
    sizes_below,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["BucketReleases"]

_RECORDS = "_releases"


class BucketReleases:
    """`gateway.Releases` of a base path `s3://bucket/prefix/NAME`.

    Raises InvalidArgument for a base path without a name, and what `store.s3` makes of S3's
    errors.
    """

    def __init__(self, base_path: str, client: "S3Client | None" = None) -> None:
        self._base_path = Location.of(base_path)
        above, _, self.name = self._base_path.prefix.rstrip("/").rpartition("/")
        if not self.name:
            raise InvalidArgument(f"{base_path} names no model: s3://BUCKET/PREFIX/NAME")
        prefix = f"{above}/" if above else ""
        self._records = Location(self._base_path.bucket, f"{prefix}{_RECORDS}/{self.name}/")
        with explained(self._base_path):
            self._client = client or connect()

    def manifests(self) -> Mapping[int, str]:
        """Two requests for each version that is complete, and one for the base path."""
        return dict(self._manifests())

    def records(self) -> Mapping[int, Record]:
        names = by_version(
            name.removesuffix(".json") for name in sizes_below(self._client, self._records)
        )
        return {version: self._record(f"{name}.json") for version, name in names.items()}

    def record(self, version: int, record: Record) -> None:
        with explained(self._records, doing="write", needed="s3:PutObject on its objects"):
            self._client.put_object(
                Bucket=self._records.bucket,
                Key=f"{self._records.prefix}{version}.json",
                Body=to_json(record),
                ContentType="application/json",
            )

    def _manifests(self) -> Iterator[tuple[int, str]]:
        for version, name in by_version(folders_below(self._client, self._base_path)).items():
            folder = Location(self._base_path.bucket, f"{self._base_path.prefix}{name}/")
            if MANIFEST in sizes_below(self._client, folder):
                yield version, read_manifest(self._client, folder, MANIFEST).digest

    def _record(self, name: str) -> Record:
        with explained(self._records):
            answer = self._client.get_object(
                Bucket=self._records.bucket, Key=self._records.prefix + name
            )
            content = answer["Body"].read()
        return of_json(content, f"{self._records}/{name}")
