"""A client for image registries: the OCI distribution specification 1.1 over HTTP.

A blob is uploaded with a POST, which opens a session, and one PUT of all its bytes. docker-registry
2.8 accepts that, and so does ECR, where containerd does the same. Uploads are not resumed: ECR
refuses bytes that a session already has (416), so each attempt opens a new session.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TypeVar

import httpx

from lambda_serving.errors import DataLoss, InvalidArgument, NotFound, Unavailable
from lambda_serving.image import transfer
from lambda_serving.image.authorization import Authorization
from lambda_serving.image.reference import MEDIA_TYPES, Blob, Document, Reference, Repository
from lambda_serving.image.transfer import LIMIT, TransientError

__all__ = ["Registry"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before the second attempt and those after
_Content = Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class _Request:
    """A request to the registry of `repository`; errors say "Could not `what`".

    `content` gives the `size` bytes of the body, anew for each attempt.
    """

    what: str
    repository: Repository
    method: str
    url: httpx.URL | str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: _Content | None = None
    size: int = 0


class Registry:
    """Reads from and writes to the registries that references name.

    All methods raise Unavailable when a registry did not answer, or reported a failure, five times
    in eight seconds; PermissionDenied when access is denied; NotFound for what does not exist; and
    DataLoss for bytes that do not match their digest.
    """

    def __init__(
        self,
        client: httpx.Client,
        passwords: Mapping[str, tuple[str, str]] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """`passwords` maps hosts, spelled as in references, to pairs of user and password."""
        self._client = client
        self._authorization = Authorization(client, passwords or {})
        self._sleep = sleep

    def digest(self, reference: str) -> str:
        """The digest of the image that a reference currently names."""
        return self.manifest(Reference.of(reference)).digest

    def manifest(self, reference: Reference) -> Document:
        what = f"read the manifest of {reference}"
        url = f"{reference.repository.url}/manifests/{reference.digest or reference.tag}"
        headers = {"Accept": ", ".join(MEDIA_TYPES)}  # other types would be "not found"
        request = _Request(what, reference.repository, "GET", url, headers)

        def attempt() -> Document:
            with self._answer(request, 200) as response:
                media_type = response.headers.get("Content-Type", "").partition(";")[0]
                return Document(media_type, transfer.read(response, what))

        document = self._retried(attempt)
        if reference.digest and document.digest != reference.digest:
            raise DataLoss(f"Could not {what}: its digest is {document.digest}")
        return document

    def find_manifest(self, reference: Reference) -> Document | None:
        """As `manifest`; None if there is none."""
        try:
            return self.manifest(reference)
        except NotFound:
            return None

    def put_manifest(self, reference: Reference, document: Document) -> None:
        """Names an image whose blobs are all there, in one step."""
        request = _Request(
            f"write the manifest of {reference}",
            reference.repository,
            "PUT",
            f"{reference.repository.url}/manifests/{reference.tag}",
            {"Content-Type": document.media_type},
            partial(iter, [document.content]),
            len(document.content),
        )
        self._retried(lambda: self._call(request, 201))

    def blob(self, repository: Repository, blob: Blob) -> bytes:
        """The bytes of a small blob; raises InvalidArgument if it is larger than `LIMIT`."""
        if blob.size > LIMIT:
            raise InvalidArgument(
                f"{blob.digest} in {repository} has {blob.size} bytes; at most {LIMIT} can be read"
            )
        return self._retried(lambda: b"".join(self.stream(repository, blob)))

    def stream(self, repository: Repository, blob: Blob) -> Iterator[bytes]:
        """The bytes of a blob of any size, without retries; raises DataLoss only at the end."""
        what = f"read {blob.digest} of {repository}"
        url = f"{repository.url}/blobs/{blob.digest}"
        digest, size = sha256(), 0
        with self._answer(_Request(what, repository, "GET", url), 200) as response:
            for chunk in response.iter_bytes():
                digest.update(chunk)
                size += len(chunk)
                if size > blob.size:
                    break
                yield chunk
        if (f"sha256:{digest.hexdigest()}", size) != (blob.digest, blob.size):
            raise DataLoss(f"Could not {what}: its digest or size is wrong. Push it again")

    def put_blob(
        self,
        repository: Repository,
        blob: Blob,
        content: _Content,
        source: Repository | None = None,
    ) -> int:
        """Makes a repository hold a blob; returns the bytes sent.

        Sends nothing if the blob is already there, or can be mounted from `source`, a repository of
        the same registry. Calls `content` for each attempt.
        """
        what = f"upload {blob.digest} to {repository}"
        headers = {"Content-Type": "application/octet-stream"}

        def attempt() -> int:
            if self._has(repository, blob):
                return 0
            session = self._open_upload(what, repository, blob, source)
            if session is None:
                return 0
            _log.info("Uploading %d bytes to %s", blob.size, repository)
            self._call(_Request(what, repository, "PUT", session, headers, content, blob.size), 201)
            return blob.size

        return self._retried(attempt)

    def _has(self, repository: Repository, blob: Blob) -> bool:
        what = f"look for {blob.digest} in {repository}"
        url = f"{repository.url}/blobs/{blob.digest}"
        return self._call(_Request(what, repository, "HEAD", url), 200, 404).status_code == 200

    def _open_upload(
        self, what: str, repository: Repository, blob: Blob, source: Repository | None
    ) -> httpx.URL | None:
        """The URL for the blob's bytes; None if it was mounted."""
        url = httpx.URL(f"{repository.url}/blobs/uploads/")
        if source:
            url = url.copy_merge_params({"mount": blob.digest, "from": source.name})
        answer = self._call(_Request(what, repository, "POST", url), 201, 202)
        if answer.status_code == 201:
            return None
        if not (location := answer.headers.get("Location", "")):
            raise Unavailable(f"Could not {what}: the registry named no place to upload to")
        with transfer.translate_errors(what):
            return answer.url.join(location).copy_merge_params({"digest": blob.digest})

    def _call(self, request: _Request, *expected: int) -> httpx.Response:
        """As `_answer`, for an answer whose body does not matter."""
        with self._answer(request, *expected) as response:
            transfer.read(response, request.what)  # so that the connection can be reused
        return response

    @contextmanager
    def _answer(self, request: _Request, *expected: int) -> Iterator[httpx.Response]:
        """An answer with an expected status; one challenge to authenticate is answered."""
        what, repository, content = request.what, request.repository, request.content
        for challenged in (False, True):
            with transfer.translate_errors(what):
                built = self._client.build_request(
                    request.method,
                    request.url,
                    headers={
                        "Accept-Encoding": "identity",  # digests are of the bytes as sent
                        **({"Content-Length": str(request.size)} if content else {}),
                        **request.headers,
                        **self._authorization.headers(repository, httpx.URL(request.url)),
                    },
                    content=content() if content else None,
                )
            with transfer.exchange(self._client, built, what) as response:
                if response.status_code == 401 and not challenged:
                    self._authorization.answer(repository, response, what)
                    continue
                transfer.check(response, what, *expected)
                yield response
                return

    def _retried(self, attempt: Callable[[], _T]) -> _T:
        for pause in _PAUSES:
            try:
                return attempt()
            except TransientError as error:
                _log.info("%s; retrying in %s s", error, pause)
                self._sleep(pause)
        try:
            return attempt()
        except TransientError as error:
            raise Unavailable(str(error)) from error
