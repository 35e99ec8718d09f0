"""One HTTP exchange with a registry. What httpx raises and what statuses mean is told here."""

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

__all__ = ["LIMIT", "Passing", "check", "exchange", "explained", "open_client", "read"]

LIMIT = 4 * 2**20  # bytes of a document; registries refuse larger manifests

_REDIRECTS = 5
_SAID = 300
# A registry stores what it was sent before it answers: seconds for gigabytes.
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


class Passing(Exception):
    """A failure that may be gone the next time; `Unavailable` to callers when it is not."""


def open_client() -> httpx.Client:
    """A client with time limits that suit registries; the caller closes it."""
    return httpx.Client(timeout=_TIMEOUT)


@contextmanager
def exchange(client: httpx.Client, request: httpx.Request, what: str) -> Iterator[httpx.Response]:
    """The answer to a request, whose body is still to be read; redirects of reads are followed.

    `what` is what could not be done in a message. Raises what `explained` does, while the body is
    read too, and Unavailable for an address that is not encrypted. httpx takes credentials off a
    request that is redirected to another host.
    """
    with explained(what):
        response = _send(client, request, what)
        try:
            yield response
        finally:
            response.close()


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Tells what httpx raises: Passing for a connection, Unavailable for a malformed address."""
    try:
        yield
    except httpx.RequestError as error:
        raise Passing(
            f"Could not {what}: the connection failed ({type(error).__name__}: {error}). Check the"
            " network and the address of the registry"
        ) from error
    except (httpx.InvalidURL, UnicodeError) as error:  # the latter of hosts that IDNA refuses
        raise Unavailable(f"Could not {what}: the address is malformed: {error}") from error


def check(response: httpx.Response, what: str, *expected: int) -> None:
    """Raises the error that a status means, unless it is expected."""
    status = response.status_code
    if status in expected:
        return
    said = " ".join(read(response, what).decode(errors="replace").split())[:_SAID]
    kind: type[Exception]
    if status in {408, 429} or status >= 500:
        kind, reason = Passing, "the registry is busy or broken. Try again later"
    elif "DIGEST_INVALID" in said:
        kind, reason = DataLoss, "the registry received other bytes than were sent. Try again"
    elif "TAG_INVALID" in said:
        kind, reason = AlreadyExists, "the repository is immutable. Name a tag that is not there"
    else:
        kind, reason = _REFUSALS.get(status, (Unavailable, "the registry refuses"))
    raise kind(f"Could not {what}: {reason} (it answered {status} {said})")


def read(response: httpx.Response, what: str) -> bytes:
    """The whole body. Raises InvalidArgument when it has more bytes than `LIMIT`."""
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
