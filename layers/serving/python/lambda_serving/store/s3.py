"""SavedModels in S3 buckets, each version downloaded once. The only importer of boto3.

What boto3 raises is told here, as one sentence that names the base path and the fix.
"""

import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore import exceptions as boto_errors
from botocore.config import Config
from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

from lambda_serving.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from lambda_serving.model_spec import ServableId
from lambda_serving.store.local import SHOWN, by_version

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["S3Store"]

_log = logging.getLogger(__name__)

# A bucket that cannot be reached, e.g. from a VPC without a way to S3, is told within the 29 s
# of an API Gateway: each attempt tries all of S3's addresses, which are up to eight.
_CONFIG = Config(
    connect_timeout=1,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 3},
)
_PARALLEL = TransferConfig(max_concurrency=10)  # as many as the client keeps connections
_SAVED_MODELS = {"saved_model.pb", "saved_model.pbtxt", "saved_model.cpb"}
_INDEX = "variables/variables.index"
_SHARD = re.compile(r"variables/variables\.data-[0-9]{5}-of-([0-9]{5})")
_DENIED = (
    PermissionDenied,
    "access is denied. Allow s3:ListBucket on the bucket and s3:GetObject on its objects",
)
_REFUSALS = {
    "AccessDenied": _DENIED,
    "403": _DENIED,  # answers to HEAD have no body to name a code
    "NoSuchBucket": (Unavailable, "the bucket does not exist. Correct its name"),
    "ExpiredToken": (PermissionDenied, "the AWS credentials have expired. Renew them"),
    "InvalidAccessKeyId": (PermissionDenied, "AWS does not know the access key. Correct it"),
    "SignatureDoesNotMatch": (PermissionDenied, "the secret access key is wrong. Correct it"),
}


@dataclass(frozen=True, slots=True)
class _Location:
    """The keys below `s3://bucket/prefix`: their prefix is empty or ends with a slash."""

    bucket: str
    prefix: str

    @classmethod
    def of(cls, uri: str) -> Self:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise InvalidArgument(f"The base path {uri} names no bucket: s3://BUCKET/PREFIX")
        prefix = prefix.rstrip("/")
        return cls(bucket, f"{prefix}/" if prefix else "")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


class S3Store:
    """Base paths `s3://bucket/prefix`, by model; versions are downloaded to `folder/NAME/VERSION`.

    Every method raises Unavailable for a bucket that cannot be read, PermissionDenied for one
    that may not be read.
    """

    def __init__(
        self, base_paths: Mapping[str, str], folder: Path, client: "S3Client | None" = None
    ) -> None:
        """`folder` is made when needed. Raises InvalidArgument for a URI without a bucket."""
        self._base_paths = {name: _Location.of(uri) for name, uri in base_paths.items()}
        self._folder = folder
        with _explained(", ".join(map(str, self._base_paths.values()))):
            self._client = client or boto3.Session().client("s3", config=_CONFIG)

    def versions(self, name: str) -> list[int]:
        return sorted(self._folders(name))

    def contents(self, name: str) -> list[str]:
        base_path = self._base_paths[name]
        with _explained(base_path):
            page = self._client.list_objects_v2(
                Bucket=base_path.bucket, Prefix=base_path.prefix, Delimiter="/"
            )
        paths = [
            *(entry["Prefix"] for entry in page.get("CommonPrefixes", [])),
            *(entry["Key"] for entry in page.get("Contents", [])),
        ]
        names = {path.removeprefix(base_path.prefix).rstrip("/") for path in paths}
        return sorted(names - {""})[:SHOWN]

    def fetch(self, servable: ServableId) -> Path:
        """As `Store.fetch`; a version that is in `folder` already is not looked at again.

        A download that fails or is interrupted leaves no files. Raises Unavailable too when the
        version lacks files or does not fit on the disk, InvalidArgument when a key is not the
        name of a file below the version.
        """
        target = self._folder / servable.name / str(servable.version)
        if target.exists():
            return target
        base_path = self._base_paths[servable.name]
        try:
            folder = self._folders(servable.name)[servable.version]
        except KeyError:
            raise NotFound(
                f"Version {servable.version} of model {servable.name} is not under {base_path}"
            ) from None
        version = _Location(base_path.bucket, f"{base_path.prefix}{folder}/")
        try:
            self._download(version, target)
        except OSError as error:
            raise Unavailable(f"Could not store {version} in {target}: {error}") from error
        return target

    def _folders(self, name: str) -> dict[int, str]:
        """What follows the prefix, up to the next slash, by version."""
        base_path = self._base_paths[name]
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=base_path.bucket, Prefix=base_path.prefix, Delimiter="/"
        )
        with _explained(base_path):
            prefixes = [
                entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])
            ]
        return by_version(
            prefix.removeprefix(base_path.prefix).removesuffix("/") for prefix in prefixes
        )

    def _download(self, version: _Location, target: Path) -> None:
        """All or nothing: written beside and renamed."""
        files = self._files(version)
        _check_complete(version, files)
        _log.info("Downloading %s to %s", version, target)
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder) as unfinished:
            made = Path(unfinished, "version")
            for file in files:
                (made / file).parent.mkdir(parents=True, exist_ok=True)
            with (
                _explained(version),
                create_transfer_manager(self._client, _PARALLEL) as transfers,
            ):
                downloads = [
                    transfers.download(version.bucket, version.prefix + file, str(made / file))
                    for file in files
                ]
                for download in downloads:
                    download.result()
            target.parent.mkdir(exist_ok=True)
            try:
                made.rename(target)
            except OSError:
                if not target.exists():  # another thread was quicker: its copy is as good
                    raise

    def _files(self, version: _Location) -> set[str]:
        """Names of the version's objects below it, without the markers of folders."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=version.bucket, Prefix=version.prefix
        )
        with _explained(version):
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        files = {key.removeprefix(version.prefix) for key in keys if not key.endswith("/")}
        for file in files:
            if not {"", ".", ".."}.isdisjoint(file.split("/")) or "\0" in file:
                raise InvalidArgument(
                    f"The key {version.prefix}{file} in bucket {version.bucket} is not the name"
                    f" of a file below {version}. Remove it"
                )
        return files


def _check_complete(version: _Location, files: set[str]) -> None:
    """Raises Unavailable when an upload is under way or was broken off, as far as names tell."""
    missing = [] if files & _SAVED_MODELS else ["saved_model.pb"]
    shard_counts = {match[1] for file in files if (match := _SHARD.fullmatch(file))}
    if _INDEX in files or shard_counts:
        lacks = [sorted(_variables(count) - files) for count in shard_counts or {"00001"}]
        missing = [*missing, *min(lacks, key=len)]
    if missing:
        raise Unavailable(
            f"The copy in {version} is not complete: {', '.join(missing[:SHOWN])} is missing."
            " Wait for the upload to end, or copy the SavedModel again"
        )


def _variables(shard_count: str) -> set[str]:
    """Files of a checkpoint in so many shards (core/util/tensor_bundle/naming.cc)."""
    shards = range(int(shard_count))
    return {_INDEX, *(f"variables/variables.data-{n:05}-of-{shard_count}" for n in shards)}


@contextmanager
def _explained(base_path: object) -> Iterator[None]:
    """Tells what boto3 raises as Unavailable or PermissionDenied."""
    try:
        yield
    except boto_errors.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        kind, reason = _REFUSALS.get(code, (Unavailable, str(error)))
        raise kind(f"Could not read {base_path}: {reason}") from error
    except (
        boto_errors.NoCredentialsError,
        boto_errors.PartialCredentialsError,
        boto_errors.CredentialRetrievalError,
    ) as error:
        raise Unavailable(
            f"Could not read {base_path}: no AWS credentials ({error}). Set AWS_PROFILE, or"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role"
        ) from error
    except (
        boto_errors.ConnectionError,
        boto_errors.HTTPClientError,
        RetriesExceededError,
    ) as error:
        raise Unavailable(
            f"Could not read {base_path}: S3 does not answer ({error}). Check the network,"
            " AWS_REGION and AWS_ENDPOINT_URL; in a VPC, S3 needs a gateway endpoint"
        ) from error
    except (boto_errors.BotoCoreError, S3DownloadFailedError, ValueError) as error:
        # a ValueError is how botocore refuses an AWS_ENDPOINT_URL
        raise Unavailable(f"Could not read {base_path}: {error}") from error
