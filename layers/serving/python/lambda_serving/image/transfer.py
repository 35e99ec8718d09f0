"""One HTTP exchange with a registry; translates httpx's errors and HTTP statuses."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from lambda_serving.errors import (
    AlreadyExists,
    DataLoss,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from lambda_serving.image.reference import LOOPBACK

__all__ = [
    "LIMIT",
    "TransientError",
    "check",
    "exchange",
    "open_client",
    "read",
    "translate_errors",
]

LIMIT = 4 * 2**20  # bytes of a document; registries refuse larger manifests

_REDIRECTS = 5
_SHOWN = 300
# A registry answers an upload only once it is stored, which takes seconds for gigabytes.
_TIMEOUT = httpx.Timeout(60, connect=10, read=300)
_REFUSALS = {
    401: (
        PermissionDenied,
        "the registry does not accept these credentials. Renew them (ECR's last 12 hours)",
    ),
    403: (
        PermissionDenied,
        "access is denied. Allow the base to be read and the target's repository to be written",
    ),
    404: (
        NotFound,
        "the registry has no such repository, tag or blob. Correct the name or create it",
    ),
}


class TransientError(Exception):
    """A failure worth a retry; callers get Unavailable if the last one fails."""


def open_client() -> httpx.Client:
    """A client with time limits that suit registries; the caller closes it."""
    return httpx.Client(timeout=_TIMEOUT)


@contextmanager
def exchange(client: httpx.Client, request: httpx.Request, what: str) -> Iterator[httpx.Response]:
    """The answer to a request, its body not yet read; redirects of reads are followed.

    Messages say "Could not `what`". Raises what `translate_errors` raises, also while the body is
    read, and Unavailable for an address that is not encrypted. httpx removes credentials from a
    request that is redirected to another host.
    """
    with translate_errors(what):
        response = _send(client, request, what)
        try:
            yield response
        finally:
            response.close()


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Turns httpx's errors into ours.

    A failed connection becomes TransientError, a malformed address Unavailable.
    """
    try:
        yield
    except httpx.RequestError as error:
        raise TransientError(
            f"Could not {what}: the connection failed ({type(error).__name__}: {error}). Check the"
            " network and the address of the registry"
        ) from error
    except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: a host that IDNA rejects
        raise Unavailable(f"Could not {what}: the address is malformed: {error}") from error


def check(response: httpx.Response, what: str, *expected: int) -> None:
    """Raises the error for a status that is not expected."""
    status = response.status_code
    if status in expected:
        return
    said = " ".join(read(response, what).decode(errors="replace").split())[:_SHOWN]
    kind: type[Exception]
    if status in {408, 429} or status >= 500:
        kind, reason = TransientError, "the registry is busy or broken. Try again later"
    elif "DIGEST_INVALID" in said:
        kind, reason = DataLoss, "the registry received other bytes than were sent. Try again"
    elif "TAG_INVALID" in said:
        kind, reason = AlreadyExists, "the repository is immutable. Name a tag that is not there"
    else:
        kind, reason = _REFUSALS.get(status, (Unavailable, "the registry refuses"))
    raise kind(f"Could not {what}: {reason} (it answered {status} {said})")


def read(response: httpx.Response, what: str) -> bytes:
    """The whole body; raises InvalidArgument if it is larger than `LIMIT`."""
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > LIMIT:
            raise InvalidArgument(f"Could not {what}: it is larger than {LIMIT} bytes")
    return bytes(content)


def _send(client: httpx.Client, request: httpx.Request, what: str) -> httpx.Response:
    for _ in range(_REDIRECTS):
        _check_encrypted(request.url, what)
        response = client.send(request, stream=True, follow_redirects=False)
        if response.next_request is None or request.method not in {"GET", "HEAD"}:
            return response
        response.close()
        request = response.next_request
    raise Unavailable(f"Could not {what}: the registry redirects without end")


def _check_encrypted(url: httpx.URL, what: str) -> None:
    if url.scheme != "https" and url.host not in LOOPBACK:
        raise Unavailable(
            f"Could not {what}: the registry points to {url.scheme}://{url.host}, which is not"
            " encrypted. Configure its public address with https"
        )
