"""SavedModels in S3 buckets, each version downloaded once. The only importer of boto3.

What boto3 raises is told here, as one sentence that names the base path and the fix.
"""

import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from boto3.s3.transfer import (
    ProgressCallbackInvoker,
    TransferConfig,
    create_transfer_manager,
)
from botocore import exceptions as boto_errors
from botocore.config import Config
from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

from lambda_serving.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
    of_disk,
)
from lambda_serving.model_spec import ServableId
from lambda_serving.store import temporary
from lambda_serving.store.address import Address
from lambda_serving.store.completeness import check_complete, check_content
from lambda_serving.store.local import SHOWN, by_version
from lambda_serving.store.manifest import MANIFEST, File, Manifest, check_names

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from s3transfer.manager import TransferManager
    from s3transfer.subscribers import BaseSubscriber

__all__ = [
    "Object",
    "S3Store",
    "connect",
    "folders_below",
    "objects_below",
    "read_manifest",
    "sent_to",
    "sizes_below",
    "transfers",
    "translate_errors",
]

_log = logging.getLogger(__name__)

# A bucket that cannot be reached, e.g. from a VPC without a way to S3, is told within the 29 s
# of an API Gateway: each attempt tries all of S3's addresses, which are up to eight.
_CONFIG = Config(
    connect_timeout=1,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 3},
)
_PARALLEL = TransferConfig(max_concurrency=10)  # as many as the client keeps connections
_MAX_NAME = 255  # bytes of a file's name on a disk
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_READ = "s3:ListBucket on the bucket and s3:GetObject on its objects"
_DENIED = (PermissionDenied, "access is denied. Allow {needed}")
_EXISTS = (AlreadyExists, "there is one already")
_REFUSALS = {
    "AccessDenied": _DENIED,
    "403": _DENIED,  # answers to HEAD have no body to name a code
    "PreconditionFailed": _EXISTS,
    "ConditionalRequestConflict": _EXISTS,  # it is just being put
    "NoSuchKey": (NotFound, "there is no such object"),
    "NoSuchBucket": (Unavailable, "the bucket does not exist. Correct its name"),
    "ExpiredToken": (PermissionDenied, "the AWS credentials have expired. Renew them"),
    "InvalidAccessKeyId": (PermissionDenied, "AWS does not know the access key. Correct it"),
    "SignatureDoesNotMatch": (PermissionDenied, "the secret access key is wrong. Correct it"),
}


@dataclass(frozen=True, slots=True)
class Object:
    """What a listing tells of an object; `changed` in seconds since 1970.

    `tag` is S3's ETag, which is another one when the content is.
    """

    size: int
    tag: str
    changed: float


class S3Store:
    """Base paths `s3://bucket/prefix`, by model; versions are downloaded to `folder/NAME/VERSION`.

    Every method raises Unavailable for a bucket that cannot be read, PermissionDenied for one
    that may not be read.
    """

    def __init__(
        self, base_paths: Mapping[str, str], folder: Path, client: "S3Client | None" = None
    ) -> None:
        """`folder` is made when needed. Raises what `Address.in_bucket` raises."""
        self._base_paths = {name: Address.in_bucket(uri) for name, uri in base_paths.items()}
        self._folder = folder
        with translate_errors(", ".join(map(str, self._base_paths.values()))):
            self._client = client or connect()

    def versions(self, name: str) -> list[int]:
        return sorted(self._folders(name))

    def contents(self, name: str) -> list[str]:
        base_path = self._base_paths[name]
        with translate_errors(base_path):
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

        A download that fails or is interrupted leaves no files. Raises Incomplete when the
        version lacks files, DiskFull when it does not fit on the disk, DataLoss when files are
        not as pushed, InvalidArgument when keys are not the names of files below the version.
        """
        target = self._folder / servable.name / str(servable.version)
        if target.exists():
            return target
        version = self._location(servable)
        if version is None:
            raise NotFound(
                f"Version {servable.version} of model {servable.name} is not under"
                f" {self._base_paths[servable.name]}"
            )
        try:
            self._download(version, target)
        except OSError as error:
            raise of_disk(error, f"store {version} in {target}") from error
        return target

    def fingerprint(self, servable: ServableId) -> str:
        version = self._location(servable)
        return repr(objects_below(self._client, version)) if version else ""

    def release(self, servable: ServableId) -> None:
        shutil.rmtree(self._folder / servable.name / str(servable.version), ignore_errors=True)

    def _location(self, servable: ServableId) -> Address | None:
        folder = self._folders(servable.name).get(servable.version)
        return None if folder is None else self._base_paths[servable.name] / folder

    def _folders(self, name: str) -> dict[int, str]:
        """What follows the prefix, up to the next slash, by version."""
        return by_version(folders_below(self._client, self._base_paths[name]))

    def _download(self, version: Address, target: Path) -> None:
        """All or nothing: written beside and renamed."""
        odd: list[str] = []
        names = set(objects_below(self._client, version, odd.append))
        manifest = read_manifest(self._client, version, MANIFEST) if MANIFEST in names else None
        if odd and not manifest:
            raise _no_file(version, odd[0])
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
            with translate_errors(version), transfers(self._client) as manager:
                downloads = {
                    file: manager.download(version.bucket, version.prefix + file, str(made / file))
                    for file in files
                }
                for file, download in downloads.items():
                    download.result()
                    if manifest:
                        check_content(version, file, manifest.files[file], File.of(made / file))
            target.parent.mkdir(exist_ok=True)
            try:
                made.rename(target)
            except OSError:
                if not target.exists():  # another thread was quicker: its copy is as good
                    raise


def connect(read_timeout: int = 10) -> "S3Client":
    """A client with the settings of AWS that this process was started with."""
    return boto3.Session().client("s3", config=_CONFIG.merge(Config(read_timeout=read_timeout)))


def transfers(client: "S3Client") -> "TransferManager":
    """What copies files in parallel, large ones in parts; left by an error, it cancels them."""
    return create_transfer_manager(client, _PARALLEL)


def sent_to(sent: Callable[[int], None]) -> "BaseSubscriber":
    """What a transfer takes among its subscribers to tell how many bytes went by."""
    return ProgressCallbackInvoker(sent)


def folders_below(client: "S3Client", folder: Address) -> list[str]:
    """Names of the folders right below a folder."""
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=folder.bucket, Prefix=folder.prefix, Delimiter="/"
    )
    with translate_errors(folder):
        prefixes = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
    return [prefix.removeprefix(folder.prefix).removesuffix("/") for prefix in prefixes]


def sizes_below(client: "S3Client", folder: Address) -> dict[str, int]:
    """Sizes of the objects below a folder, by name; raises as `objects_below` does."""
    return {name: found.size for name, found in objects_below(client, folder).items()}


def objects_below(
    client: "S3Client", folder: Address, pass_over: Callable[[str], None] | None = None
) -> dict[str, Object]:
    """The objects below a folder, by name, without the markers of folders.

    Raises InvalidArgument when a key is not the name of a file below it. Where there is
    `pass_over`, it is told of each such name, and of those that no disk has, and they are left out.
    """
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=folder.bucket, Prefix=folder.prefix
    )
    with translate_errors(folder):
        found = {
            entry["Key"].removeprefix(folder.prefix): Object(
                entry["Size"], entry["ETag"].strip('"'), entry["LastModified"].timestamp()
            )
            for page in pages
            for entry in page.get("Contents", [])
            if not entry["Key"].endswith("/")
        }
    if pass_over is None:
        for name in filter(_leaves, found):
            raise _no_file(folder, name)
        return found
    for name in list(found):
        if _leaves(name) or _CONTROL.search(name) or _is_long(name):
            pass_over(name)
            del found[name]
    return found


def _leaves(name: str) -> bool:
    """Whether it is not the name of something below a folder."""
    return not {"", ".", ".."}.isdisjoint(name.split("/")) or "\0" in name


def _is_long(name: str) -> bool:
    return any(len(part.encode(errors="replace")) > _MAX_NAME for part in name.split("/"))


def _no_file(folder: Address, name: str) -> InvalidArgument:
    return InvalidArgument(
        f"The key {folder.prefix}{name} in bucket {folder.bucket} is not the name of a file below"
        f" {folder}. Remove it"
    )


def read_manifest(client: "S3Client", folder: Address, name: str) -> Manifest:
    with translate_errors(folder):
        body = client.get_object(Bucket=folder.bucket, Key=folder.prefix + name)["Body"].read()
    return Manifest.of_json(body, f"{folder}/{name}")


@contextmanager
def translate_errors(place: object, *, doing: str = "read", needed: str = _READ) -> Iterator[None]:
    """Tells what boto3 raises as Unavailable or PermissionDenied, naming the rights needed.

    AlreadyExists stands for an object that should have been put only if there was none.
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
        # a ValueError is how botocore refuses an AWS_ENDPOINT_URL
        raise Unavailable(f"{failure}: {error}") from error
