"""AWS's Signature Version 4: clients that sign, and the check that AWS makes.

Source: IAM user guide, "Create a signed AWS API request". Services other than S3 encode the path
once more than it was sent, so that the colon of `MLP:predict` is signed as `%3A`.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

import boto3
import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

__all__ = ["Signing", "refusal"]

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>\w+)/(?P<scope>[^,]+), SignedHeaders=(?P<names>[^,]+),"
    r" Signature=(?P<signature>[0-9a-f]{64})"
)
_TIME = "%Y%m%dT%H%M%SZ"
_OFF = timedelta(minutes=5)


class Signing(httpx.Auth):
    """Signs requests to API Gateway with the credentials of the environment."""

    requires_request_body = True

    def __init__(self, region: str) -> None:
        self._region = region

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override] # an iterator will do
        url, host = str(request.url), request.headers["host"]
        signed = AWSRequest(request.method, url, {"host": host}, request.content)
        credentials = boto3.Session().get_credentials()
        assert credentials
        SigV4Auth(credentials, "execute-api", self._region).add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        yield request


def refusal(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    secret_of: Callable[[str], str | None],
    scope: str,
) -> str:
    """Why AWS refuses the signature of a request; empty if it does not.

    Names of headers are in lower case. `scope` is `REGION/SERVICE`; `secret_of` gives the secret of
    an access key.
    """
    match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if not match:
        return "no signature"
    names, full_scope = (
        match["names"].split(";"),
        f"{headers['x-amz-date'][:8]}/{scope}/aws4_request",
    )
    if told := _told(match["scope"], full_scope, names, headers):
        return told
    secret = secret_of(match["key"])
    if secret is None:
        return "unknown access key"
    canonical = _canonical(method, target, headers, body, names)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in full_scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{full_scope}\n{digest}"
    expected = hmac.digest(key, text.encode(), "sha256").hex()
    return "" if hmac.compare_digest(expected, match["signature"]) else "another signature"


def _told(scope: str, expected: str, names: list[str], headers: Mapping[str, str]) -> str:
    """Why AWS refuses what a signature says of itself."""
    signed_at = datetime.strptime(headers["x-amz-date"], _TIME).replace(tzinfo=UTC)
    if abs(datetime.now(UTC) - signed_at) > _OFF:
        return "signature expired"
    if scope != expected:
        return f"signed for {scope}, not for {expected}"
    needed = {"host", *(name for name in headers if name.startswith("x-amz-"))}
    missing = sorted(needed - {*names})
    return f"not signed: {', '.join(missing)}" if missing else ""


def _canonical(
    method: str, target: str, headers: Mapping[str, str], body: bytes, names: list[str]
) -> str:
    path, _, query = target.partition("?")
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(query, keep_blank_values=True)
    )
    lines = [f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in sorted(names)]
    return "\n".join(
        (
            method,
            quote(path, safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            "".join(lines),
            ";".join(sorted(names)),
            hashlib.sha256(body).hexdigest(),
        )
    )
