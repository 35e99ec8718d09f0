"""Registries of images, by the OCI distribution specification 1.1 over HTTP.

A blob is uploaded by POST, which opens a session, and one PUT of all its bytes: docker-registry
2.8 takes that, and ECR from containerd, which pushes so. Nothing is resumed: ECR refuses bytes that
a session has (416), so another attempt opens another session.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import TypeVar

import httpx

from lambda_serving.errors import DataLoss, InvalidArgument, NotFound, Unavailable
from lambda_serving.image.authorization import Authorization
from lambda_serving.image.reference import MEDIA_TYPES, Blob, Document, Reference, Repository
from lambda_serving.image.transfer import (
    LIMIT,
    TransientError,
    check,
    exchange,
    read,
    translate_errors,
)

__all__ = ["Registry"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before the second attempt and those after


class Registry:
    """The registries that references name.

    Unavailable means that a registry did not answer, or answered that it is broken, five times in
    eight seconds. All methods raise it, PermissionDenied for what may not be read or written,
    NotFound for what is not there and DataLoss for bytes that do not have their digest.
    """

    def __init__(
        self,
        client: httpx.Client,
        passwords: Mapping[str, tuple[str, str]] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """`passwords` are pairs of user and password, by host as references have it."""
        self._client = client
        self._authorization = Authorization(client, passwords or {})
        self._sleep = sleep

    def digest(self, reference: str) -> str:
        """The digest of the image that a reference names now."""
        return self.manifest(Reference.of(reference)).digest

    def manifest(self, reference: Reference) -> Document:
        what = f"read the manifest of {reference}"
        url = f"{reference.repository.url}/manifests/{reference.digest or reference.tag}"
        headers = {"Accept": ", ".join(MEDIA_TYPES)}  # what is not asked for is "not found"

        def attempt() -> Document:
            with self._answer(what, reference.repository, "GET", url, headers) as response:
                media_type = response.headers.get("Content-Type", "").partition(";")[0]
                return Document(media_type, read(response, what))

        document = self._retried(attempt)
        if reference.digest and document.digest != reference.digest:
            raise DataLoss(f"Could not {what}: what came has the digest {document.digest}")
        return document

    def find_manifest(self, reference: Reference) -> Document | None:
        """As `manifest`, None when there is none."""
        try:
            return self.manifest(reference)
        except NotFound:
            return None

    def put_manifest(self, reference: Reference, document: Document) -> None:
        """Names an image, all blobs of which are there, in one step."""
        what = f"write the manifest of {reference}"
        url = f"{reference.repository.url}/manifests/{reference.tag}"
        headers = {"Content-Type": document.media_type}
        content, size = partial(iter, [document.content]), len(document.content)
        self._retried(
            lambda: self._call(what, reference.repository, "PUT", url, headers, content, size)
        )

    def blob(self, repository: Repository, blob: Blob) -> bytes:
        """A small blob. Raises InvalidArgument when it is larger than a document may be."""
        if blob.size > LIMIT:
            raise InvalidArgument(
                f"{blob.digest} in {repository} has {blob.size} bytes; at most {LIMIT} can be read"
            )
        return self._retried(lambda: b"".join(self.stream(repository, blob)))

    def stream(self, repository: Repository, blob: Blob) -> Iterator[bytes]:
        """A blob of any size, tried once; DataLoss comes after the last of its bytes."""
        what = f"read {blob.digest} of {repository}"
        digest, size = sha256(), 0
        with self._answer(
            what, repository, "GET", f"{repository.url}/blobs/{blob.digest}"
        ) as response:
            for chunk in response.iter_bytes():
                digest.update(chunk)
                size += len(chunk)
                if size > blob.size:
                    break
                yield chunk
        if (f"sha256:{digest.hexdigest()}", size) != (blob.digest, blob.size):
            raise DataLoss(f"Could not {what}: what came has another digest or size. Push it again")

    def put_blob(
        self,
        repository: Repository,
        blob: Blob,
        content: Callable[[], Iterable[bytes]],
        source: Repository | None = None,
    ) -> int:
        """Has a repository hold a blob; how many bytes had to be sent for it.

        Zero when it is there already or can be mounted from `source`, a repository of the same
        registry. `content` is called for each attempt.
        """

        def attempt() -> int:
            if self._has(repository, blob):
                return 0
            session = self._open_upload(repository, blob, source)
            if session is None:
                return 0
            self._upload(repository, blob, content, session)
            return blob.size

        return self._retried(attempt)

    def _has(self, repository: Repository, blob: Blob) -> bool:
        what = f"look for {blob.digest} in {repository}"
        url = f"{repository.url}/blobs/{blob.digest}"
        return self._call(what, repository, "HEAD", url, expected=(200, 404)).status_code == 200

    def _open_upload(
        self, repository: Repository, blob: Blob, source: Repository | None
    ) -> httpx.URL | None:
        """Where to put the blob's bytes; None when it was mounted."""
        what = f"upload {blob.digest} to {repository}"
        url = httpx.URL(f"{repository.url}/blobs/uploads/")
        if source:
            url = url.copy_merge_params({"mount": blob.digest, "from": source.name})
        answer = self._call(what, repository, "POST", url, expected=(201, 202))
        if answer.status_code == 201:
            return None
        if not (location := answer.headers.get("Location", "")):
            raise Unavailable(f"Could not {what}: the registry does not say where to")
        with translate_errors(what):
            return answer.url.join(location).copy_merge_params({"digest": blob.digest})

    def _upload(
        self,
        repository: Repository,
        blob: Blob,
        content: Callable[[], Iterable[bytes]],
        session: httpx.URL,
    ) -> None:
        what = f"upload {blob.digest} to {repository}"
        _log.info("Uploading %d bytes to %s", blob.size, repository)
        headers = {"Content-Type": "application/octet-stream"}
        self._call(what, repository, "PUT", session, headers, content, blob.size)

    def _call(
        self,
        what: str,
        repository: Repository,
        method: str,
        url: httpx.URL | str,
        headers: Mapping[str, str] | None = None,
        content: Callable[[], Iterable[bytes]] | None = None,
        size: int = 0,
        expected: tuple[int, ...] = (201,),
    ) -> httpx.Response:
        """As `_answer`, for an answer that is in its status and headers."""
        with self._answer(
            what, repository, method, url, headers, content, size, expected
        ) as response:
            read(response, what)  # or the connection could not be used again
        return response

    @contextmanager
    def _answer(
        self,
        what: str,
        repository: Repository,
        method: str,
        url: httpx.URL | str,
        headers: Mapping[str, str] | None = None,
        content: Callable[[], Iterable[bytes]] | None = None,
        size: int = 0,
        expected: tuple[int, ...] = (200,),
    ) -> Iterator[httpx.Response]:
        """An expected answer; a challenge on the way to it is met once."""
        for challenged in (False, True):
            with translate_errors(what):
                request = self._client.build_request(
                    method,
                    url,
                    headers={
                        "Accept-Encoding": "identity",  # digests are those of bytes as they come
                        **({"Content-Length": str(size)} if content else {}),
                        **(headers or {}),
                        **self._authorization.headers(repository, httpx.URL(url)),
                    },
                    content=content() if content else None,
                )
            with exchange(self._client, request, what) as response:
                if response.status_code == 401 and not challenged:
                    self._authorization.answer(repository, response, what)
                    continue
                check(response, what, *expected)
                yield response
                return

    def _retried(self, attempt: Callable[[], _T]) -> _T:
        for pause in _PAUSES:
            try:
                return attempt()
            except TransientError as error:
                _log.info("%s; once more in %s s", error, pause)
                self._sleep(pause)
        try:
            return attempt()
        except TransientError as error:
            raise Unavailable(str(error)) from error
