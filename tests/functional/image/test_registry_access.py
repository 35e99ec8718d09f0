"""Who gets credentials: registries, token services and storage, by password and by token."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from lambda_serving.errors import (
    NotFound,
    PermissionDenied,
    ServingError,
    Unavailable,
)
from support.registry import PASSWORD, USER
from support.registry_wire import DOCKER, OCI, Repository, Wire


def test_layers_are_copied_from_another_registry(
    base: Repository, closed: str, folder: Path, wire: Wire
) -> None:
    base.push(DOCKER)
    target = Repository(closed, (USER, PASSWORD))
    passwords = {closed: (USER, PASSWORD)}
    appended = wire.append(base.tag("base"), folder, target.tag("MLP-3"), passwords)
    assert target.manifest("MLP-3").headers["Docker-Content-Digest"] == appended.digest
    target.close()
    authorized = {
        f"{request.url.host}:{request.url.port}"
        for request in wire.requests
        if "Authorization" in request.headers
    }
    assert authorized == {closed}


@pytest.mark.parametrize(
    ("host", "scheme"),
    [
        ("localhost", "http"),
        ("localhost:5000", "http"),
        ("127.0.0.1:5000", "http"),
        ("[::1]:5000", "http"),
        ("1.dkr.ecr.eu-west-1.amazonaws.com", "https"),
        ("127.0.0.1.example.org:5000", "https"),
        ("localhost.example.org", "https"),
    ],
)
def test_only_this_machine_is_asked_without_encryption(
    folder: Path, wire: Wire, host: str, scheme: str
) -> None:
    wire.before = lambda _: httpx.Response(404)
    with pytest.raises(NotFound):
        wire.append(f"{host}/a:b", folder, f"{host}/a:c")
    [request] = wire.requests
    assert str(request.url) == f"{scheme}://{host}/v2/a/manifests/b"


def test_redirect_to_storage_takes_no_credentials_along(folder: Path, wire: Wire) -> None:
    def before(request: httpx.Request) -> httpx.Response:
        if request.url.host != "registry.example.org":
            return httpx.Response(404)
        if "Authorization" not in request.headers:
            return httpx.Response(401, headers={"WWW-Authenticate": "Basic realm=x"})
        return httpx.Response(307, headers={"Location": "https://storage.example.org/x"})

    wire.before = before
    passwords = {"registry.example.org": (USER, PASSWORD)}
    with pytest.raises(NotFound):
        wire.append("registry.example.org/a:b", folder, "registry.example.org/a:c", passwords)
    assert [
        (request.url.host, "Authorization" in request.headers) for request in wire.requests
    ] == [
        ("registry.example.org", False),
        ("registry.example.org", True),
        ("storage.example.org", False),
    ]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://storage.example.org/", "http://storage.example.org, which is not encrypted"),
        ("https://a.example.org/v2/a/manifests/b", "the registry redirects without end"),
        ("https://a.example.org:x/", "Invalid URL in location header"),
    ],
)
def test_redirect_that_leads_nowhere_is_reported(
    folder: Path, wire: Wire, location: str, reason: str
) -> None:
    wire.before = lambda _: httpx.Response(307, headers={"Location": location})
    with pytest.raises(Unavailable, match=reason):
        wire.append("a.example.org/a:b", folder, "a.example.org/a:c")


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ({}, "the registry named no place to upload to"),
        ({"Location": "http://storage.example.org/"}, "storage.example.org, which is not encrypt"),
        ({"Location": "https://a:x/"}, "the address is malformed"),
    ],
)
def test_upload_that_leads_nowhere_is_reported(
    base: Repository, folder: Path, wire: Wire, location: Mapping[str, str], reason: str
) -> None:
    base.push(OCI)
    wire.before = lambda request: (
        httpx.Response(202, headers=location) if request.method == "POST" else None
    )
    with pytest.raises(Unavailable, match=reason):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))


class TestClosedRegistry:
    @pytest.fixture
    def base(self, closed: str) -> Iterator[Repository]:
        repository = Repository(closed, (USER, PASSWORD))
        repository.push(DOCKER)
        yield repository
        repository.close()

    def test_takes_the_password_of_its_host(
        self, base: Repository, folder: Path, wire: Wire
    ) -> None:
        target = f"{base.host}/other/{uuid4()}:MLP-3"
        appended = wire.append(base.tag("base"), folder, target, {base.host: (USER, PASSWORD)})
        assert appended.new
        asked = [request for request in wire.requests if "Authorization" not in request.headers]
        assert [request.method for request in asked] == ["GET", "GET"]  # one per repository

    @pytest.mark.parametrize(
        ("passwords", "reason"),
        [
            ({}, "asks for a user and a password. Give them; for ECR, use AWS and the token"),
            ({"elsewhere": (USER, PASSWORD)}, "asks for a user and a password"),
            ({"HOST": (USER, "wr0ng")}, "does not accept these credentials. Renew them"),
        ],
        ids=["none", "another host's", "wrong"],
    )
    def test_refuses_others(
        self,
        base: Repository,
        folder: Path,
        wire: Wire,
        passwords: Mapping[str, tuple[str, str]],
        reason: str,
    ) -> None:
        by_host = {base.host if name == "HOST" else name: p for name, p in passwords.items()}
        with pytest.raises(PermissionDenied, match=reason) as refused:
            wire.append(base.tag("base"), folder, base.tag("MLP-3"), by_host)
        assert "wr0ng" not in str(refused.value)
        assert PASSWORD not in str(refused.value)


@dataclass
class _Tokens:
    """A registry that takes bearers of tokens only, which its own service hands out.

    A token is good for its scope and for some requests.
    """

    lives: int = 1000
    asked: list[tuple[str | None, list[str]]] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)

    def __call__(self, request: httpx.Request) -> httpx.Response | None:
        if request.url.path == "/token":
            assert request.url.params["account"] == "a"  # of the realm itself
            assert request.url.params["service"] == "the registry"
            scopes = request.url.params.get_list("scope")
            self.asked.append((request.headers.get("Authorization"), scopes))
            token = f"{len(self.asked)} {' '.join(scopes)}"
            self.left[token] = self.lives
            return httpx.Response(200, json={"token": token})
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        scope = self._scope(request)
        if set(scope.split()) <= set(token.split()[1:]) and self.left[token]:
            self.left[token] -= 1
            return None
        realm = request.url.copy_with(path="/token", query=b"account=a")
        challenge = f'Bearer realm="{realm}",service="the registry",scope="{scope}"'
        return httpx.Response(401, headers={"WWW-Authenticate": challenge})

    @staticmethod
    def _scope(request: httpx.Request) -> str:
        name = "/".join(request.url.path.split("/")[2:4])
        actions = "pull" if request.method in {"GET", "HEAD"} else "pull,push"
        mounted = request.url.params.get("from")
        return f"repository:{name}:{actions}" + (f" repository:{mounted}:pull" if mounted else "")


@pytest.mark.parametrize("lives", [1000, 1], ids=["long", "one request"])
def test_bearers_fetch_tokens_as_they_are_asked_to(
    base: Repository, target: Repository, folder: Path, lives: int
) -> None:
    base.push(OCI)
    tokens = _Tokens(lives)
    appended = Wire(tokens).append(base.tag("base"), folder, target.tag("MLP-3"))
    assert target.manifest("MLP-3").headers["Docker-Content-Digest"] == appended.digest
    pull, push = f"repository:{base.name}:pull", f"repository:{target.name}:pull,push"
    assert (None, [pull]) in tokens.asked
    assert (None, [push, pull]) in tokens.asked


def test_bearers_show_their_password_to_the_token_service_alone(
    base: Repository, folder: Path
) -> None:
    base.push(OCI)
    tokens = _Tokens()
    wire = Wire(tokens)
    wire.append(base.tag("base"), folder, base.tag("MLP-3"), {base.host: ("user", "password")})
    assert {shown for shown, _ in tokens.asked} == {"Basic dXNlcjpwYXNzd29yZA=="}
    assert all(
        request.headers.get("Authorization", "Bearer").startswith("Bearer")
        for request in wire.requests
        if request.url.path != "/token"
    )


def test_upload_to_storage_takes_no_credentials_along_and_is_not_redirected(
    base: Repository, folder: Path
) -> None:
    base.push(OCI)
    tokens = _Tokens()

    def before(request: httpx.Request) -> httpx.Response | None:
        if request.url.host == "storage.example.org":
            return httpx.Response(307, headers={"Location": "/elsewhere"})
        answer = tokens(request)
        if answer is None and request.method == "POST":
            return httpx.Response(202, headers={"Location": "https://storage.example.org/a"})
        return answer

    wire = Wire(before)
    with pytest.raises(Unavailable, match=r"the registry refuses \(it answered 307"):
        wire.append(base.tag("base"), folder, base.tag("MLP-3"))
    [stored] = [request for request in wire.requests if request.url.host == "storage.example.org"]
    assert "Authorization" not in stored.headers


@pytest.mark.parametrize(
    ("realm", "answer", "kind", "reason"),
    [
        ("https://a.org/token", httpx.Response(403), PermissionDenied, "access is denied"),
        ("https://a.org/token", httpx.Response(200), Unavailable, "a.org gave no token to a.org/a"),
        ("https://a.org/token", httpx.Response(200, json=[]), Unavailable, "a.org gave no token"),
        ("https://a.org/token", httpx.Response(200, json={}), Unavailable, "a.org gave no token"),
        ("http://a.org/token", httpx.Response(200), Unavailable, "a.org, which is not encrypted"),
        ("", httpx.Response(200), Unavailable, "which is not encrypted"),
        ("https://a:x/", httpx.Response(200), Unavailable, "the address is malformed"),
    ],
)
def test_token_that_is_not_given_is_reported(
    folder: Path,
    wire: Wire,
    realm: str,
    answer: httpx.Response,
    kind: type[ServingError],
    reason: str,
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}"'}
    wire.before = lambda request: (
        answer if request.url.path == "/token" else httpx.Response(401, headers=challenge)
    )
    with pytest.raises(kind, match=reason) as refused:
        wire.append("a.org/a:b", folder, "a.org/a:c", {"a.org": ("user", "p4ssword")})
    assert "p4ssword" not in str(refused.value)
