"""S3's API as the rooms above need it. No other module of the stores imports boto3.

Errors of boto3 become one sentence here, which names the address and the fix.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import boto3
from boto3.s3.transfer import ProgressCallbackInvoker, TransferConfig, create_transfer_manager
from botocore import exceptions as boto_errors
from botocore.config import Config
from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

from lambda_serving.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from lambda_serving.store.address import Address
from lambda_serving.store.names import fits_disk, leaves_folder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

__all__ = ["Object", "S3Folder", "connect", "translate_errors"]

# An unreachable bucket, such as from a VPC without a route to S3, is reported within the 29 s of
# API Gateway: each attempt tries all of S3's addresses, up to eight.
_CONFIG = Config(
    connect_timeout=1, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}
)
_PARALLEL = TransferConfig(max_concurrency=10)  # the client keeps as many connections
_READ = "s3:ListBucket on the bucket and s3:GetObject on its objects"
_UPLOAD = "s3:PutObject and s3:AbortMultipartUpload on its objects"
_DENIED = (PermissionDenied, "access is denied. Allow {needed}")
_EXISTS = (AlreadyExists, "there is one already")
_REFUSALS = {
    "AccessDenied": _DENIED,
    "403": _DENIED,  # a response to HEAD has no body that could name a code
    "PreconditionFailed": _EXISTS,
    "ConditionalRequestConflict": _EXISTS,  # someone is writing it now
    "NoSuchKey": (NotFound, "there is no such object"),
    "NoSuchTagSet": (NotFound, "it has no tags"),
    "NoSuchBucket": (Unavailable, "the bucket does not exist. Correct its name"),
    "ExpiredToken": (PermissionDenied, "the AWS credentials have expired. Renew them"),
    "InvalidAccessKeyId": (PermissionDenied, "AWS does not know the access key. Correct it"),
    "SignatureDoesNotMatch": (PermissionDenied, "the secret access key is wrong. Correct it"),
}


@dataclass(frozen=True, slots=True)
class Object:
    """An object in a listing; `changed` is in seconds since 1970.

    `tag` is S3's ETag, which changes with the content.
    """

    size: int
    tag: str
    changed: float


class S3Folder:
    """The objects below an address; methods raise the errors of `translate_errors`."""

    def __init__(
        self, address: Address, client: "S3Client | None" = None, read_timeout: int = 10
    ) -> None:
        """Without a client, connects as `connect` does."""
        self.address = address
        self.client = client or connect(address, read_timeout)

    def __str__(self) -> str:
        return str(self.address)

    def __truediv__(self, name: str) -> Self:
        return type(self)(self.address / name, self.client)

    def bucket_tags(self) -> dict[str, str]:
        """The tags of the bucket."""
        bucket = self.address.bucket
        try:
            with translate_errors(f"s3://{bucket}", needed="s3:GetBucketTagging on the bucket"):
                found = self.client.get_bucket_tagging(Bucket=bucket)["TagSet"]
        except NotFound:
            return {}
        return {tag["Key"]: tag["Value"] for tag in found}

    def folders(self) -> list[str]:
        """Names of the folders directly below."""
        return [
            entry["Prefix"].removeprefix(self.address.prefix).removesuffix("/")
            for page in self._pages(Delimiter="/")
            for entry in page.get("CommonPrefixes", [])
        ]

    def some_names(self) -> set[str]:
        """Names of files and folders directly below, at most as many as one request lists."""
        page = next(iter(self._pages(Delimiter="/")))
        paths = [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        paths += [entry["Key"] for entry in page.get("Contents", [])]
        return {path.removeprefix(self.address.prefix).rstrip("/") for path in paths} - {""}

    def objects(self, skip: Callable[[str], None] | None = None) -> dict[str, Object]:
        """All objects below, by name, without folder markers.

        Raises InvalidArgument for a key that does not name a file below the folder. With `skip`,
        such names, and those that do not fit on a disk, are left out and passed to it.
        """
        found = {
            entry["Key"].removeprefix(self.address.prefix): Object(
                entry["Size"], entry["ETag"].strip('"'), entry["LastModified"].timestamp()
            )
            for page in self._pages()
            for entry in page.get("Contents", [])
            if not entry["Key"].endswith("/")
        }
        for name in list(found):
            if skip and not fits_disk(name):
                skip(name)
                del found[name]
            elif leaves_folder(name):
                raise self.not_a_file(name)
        return found

    def not_a_file(self, name: str) -> InvalidArgument:
        """The error for a key that does not name a file below the folder."""
        return InvalidArgument(
            f"The key {self.address.prefix}{name} in bucket {self.address.bucket} is not the name"
            f" of a file below {self}. Remove it"
        )

    def sizes(self) -> dict[str, int]:
        """Sizes in bytes, by name; raises as `objects` does."""
        return {name: found.size for name, found in self.objects().items()}

    def get(self, name: str, **conditions: str) -> tuple[bytes, str]:
        """An object's content and ETag; `conditions` are S3's, such as `IfMatch`."""
        bucket, key = self._place(name)
        with translate_errors(f"{self}/{name}"):
            answer = self.client.get_object(Bucket=bucket, Key=key, **conditions)  # type: ignore[arg-type] # all are text
            return answer["Body"].read(), answer["ETag"]

    def find(self, name: str) -> tuple[bytes, str] | None:
        """As `get`; None if there is no such object."""
        try:
            return self.get(name)
        except NotFound:
            return None

    def put(self, name: str, content: bytes, content_type: str, etag: str | None) -> bool:
        """Replaces the object with this ETag, with None writes a new one; returns whether it did.

        It does not if the object is another one by now. A store that ignores conditions, such as
        rclone's server, keeps the last of two writes.
        """
        bucket, key = self._place(name)
        conditions = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        try:
            with translate_errors(f"{self}/{name}", doing="write", needed="s3:PutObject on it"):
                self.client.put_object(
                    Bucket=bucket,
                    Key=key,
                    Body=content,
                    ContentType=content_type,
                    **conditions,  # type: ignore[arg-type] # all are text
                )
        except (AlreadyExists, NotFound):  # changed, deleted
            return False
        return True

    def metadata(self, name: str) -> dict[str, str]:
        """The metadata that an object was uploaded with, by names in lower case."""
        bucket, key = self._place(name)
        with translate_errors(self):
            head = self.client.head_object(Bucket=bucket, Key=key)
        # rclone's server capitalizes the names
        return {key.lower(): value for key, value in head["Metadata"].items()}

    def download(self, names: Iterable[str], target: Path, done: Callable[[str], None]) -> None:
        """Copies files into existing folders below `target`, in parallel; `done` gets each name."""
        with translate_errors(self), create_transfer_manager(self.client, _PARALLEL) as manager:
            downloads = {
                name: manager.download(*self._place(name), str(target / name)) for name in names
            }
            for name, download in downloads.items():
                download.result()
                done(name)

    def upload(
        self,
        sources: "Mapping[str, str | IO[bytes]]",
        metadata: Mapping[str, dict[str, str]] | None = None,
        sent: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Writes files, given by path or as streams, in parallel; `sent` gets numbers of bytes.

        `metadata` is by name. If one fails, the others are cancelled.
        """
        with (
            translate_errors(self, doing="write", needed=_UPLOAD),
            create_transfer_manager(self.client, _PARALLEL) as manager,
        ):
            uploads = [
                manager.upload(
                    source,
                    *self._place(name),
                    extra_args={"Metadata": (metadata or {}).get(name, {})},
                    subscribers=[ProgressCallbackInvoker(sent)],
                )
                for name, source in sources.items()
            ]
            for upload in uploads:
                upload.result()

    def _place(self, name: str) -> tuple[str, str]:
        """The bucket and the key of a file."""
        return self.address.bucket, self.address.prefix + name

    def _pages(self, **options: str) -> "Iterator[ListObjectsV2OutputTypeDef]":
        paginator = self.client.get_paginator("list_objects_v2")
        with translate_errors(self):
            yield from paginator.paginate(
                Bucket=self.address.bucket,
                Prefix=self.address.prefix,
                **options,  # type: ignore[arg-type] # all are text
            )


def connect(place: object, read_timeout: int = 10) -> "S3Client":
    """A client with the AWS settings of this process; `read_timeout` is in seconds.

    Raises what `translate_errors` raises; `place` is what the client is for.
    """
    with translate_errors(place):
        return boto3.Session().client("s3", config=_CONFIG.merge(Config(read_timeout=read_timeout)))


@contextmanager
def translate_errors(place: object, *, doing: str = "read", needed: str = _READ) -> Iterator[None]:
    """Turns boto3's errors into ours: "Could not `doing` `place`", why, and what to do.

    Raises PermissionDenied, which names the rights `needed`, NotFound, AlreadyExists for a write
    whose condition does not hold, and Unavailable.
    """
    failure = f"Could not {doing} {place}"
    try:
        yield
    except boto_errors.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        kind, reason = _REFUSALS.get(code, (Unavailable, str(error)))
        raise kind(f"{failure}: {reason.replace('{needed}', needed)}") from error
    except (
        boto_errors.NoCredentialsError,
        boto_errors.PartialCredentialsError,
        boto_errors.CredentialRetrievalError,
    ) as error:
        raise Unavailable(
            f"{failure}: no AWS credentials ({error}). Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY, or give this machine a role"
        ) from error
    except (
        boto_errors.ConnectionError,
        boto_errors.HTTPClientError,
        RetriesExceededError,
    ) as error:
        raise Unavailable(
            f"{failure}: S3 does not answer ({error}). Check the network, AWS_REGION and"
            " AWS_ENDPOINT_URL; in a VPC, S3 needs a gateway endpoint"
        ) from error
    except (boto_errors.BotoCoreError, S3DownloadFailedError, ValueError) as error:
        # botocore raises ValueError for an invalid AWS_ENDPOINT_URL
        raise Unavailable(f"{failure}: {error}") from error
