"""The stand-in's check of signatures accepts what botocore signs, and nothing that was changed."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx
import pytest

from support.sigv4 import Signing, refusal

_URL = "https://api.example/v1/models/MLP/labels/a%20b:predict?x=2&a=1%2F"
_SCOPE = "eu-west-1/execute-api"
_SECRETS = {"AKID": "secret"}


@pytest.fixture
def request_signed(monkeypatch: pytest.MonkeyPatch) -> httpx.Request:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKID",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "session",
    }.items():
        monkeypatch.setenv(name, value)
    request = httpx.Request("POST", _URL, content=b'{"instances": [1.0]}')
    [signed] = Signing("eu-west-1").auth_flow(request)
    return signed


def _refusal(
    request: httpx.Request,
    *,
    method: str = "POST",
    url: str = _URL,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    scope: str = _SCOPE,
) -> str:
    parts = urlsplit(url)
    told = {**request.headers, **(headers or {})}
    content = request.content if body is None else body
    target = f"{parts.path}?{parts.query}"
    return refusal(method, target, told, content, _SECRETS.get, scope)


def test_signature_of_botocore_is_accepted(request_signed: httpx.Request) -> None:
    assert _refusal(request_signed) == ""


def test_changed_request_is_refused(request_signed: httpx.Request) -> None:
    other = "another signature"
    assert _refusal(request_signed, method="PUT") == other
    assert _refusal(request_signed, body=b"{}") == other
    assert _refusal(request_signed, url=_URL.replace("MLP", "CNN")) == other
    assert _refusal(request_signed, url=_URL.replace(":predict", "%3Apredict")) == other
    assert _refusal(request_signed, url=_URL.replace("x=2", "x=3")) == other
    assert _refusal(request_signed, headers={"host": "other"}) == other
    assert _refusal(request_signed, headers={"x-amz-security-token": "other"}) == other
    assert _refusal(request_signed, headers={"x-amz-more": "1"}) == "not signed: x-amz-more"
    assert _refusal(request_signed, scope="us-east-1/execute-api").startswith("signed for ")
    assert _refusal(request_signed, headers={"x-amz-date": "20200101T000000Z"}) == (
        "signature expired"
    )
    assert _refusal(request_signed, headers={"authorization": "Bearer x"}) == "no signature"
    unknown = request_signed.headers["authorization"].replace("AKID", "OTHER")
    assert _refusal(request_signed, headers={"authorization": unknown}) == "unknown access key"
