"""`predict` and APIs of deployed stacks, whose stand-in checks signatures as AWS does."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from lambda_serving.cli.access import TOKEN
from lambda_serving.cli.predict import predict
from lambda_serving.release.golden import read
from support import cloud, cloudformation, commands, front, tls_proxy
from support.aws_plane import Plane, listening
from support.cloud import ACCOUNT, REGION, SYSTEM, Cloud
from support.cloudformation import CloudFormation, Stack
from support.iam.roles import Role

_HOST = f"abc123.execute-api.{REGION}.amazonaws.com"
_URL = f"https://{_HOST}"
_NONE = dict.fromkeys(
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
)
_SECRET = "verysecret"  # noqa: S105 - nobody's


def _run(_: str, event: Any, __: str) -> Any:
    rows = json.loads(event["body"])["instances"]
    body = json.dumps({"predictions": rows})
    return {"statusCode": 200, "body": body, "isBase64Encoded": False}


@dataclass
class _Api:
    """The model MLP behind `https://_HOST`; `port` is where it listens on this machine."""

    cloud: Cloud
    port: int
    environment: Mapping[str, str]

    def predict(self, *arguments: str, **more: str | None) -> tuple[int, str, str]:
        given = ["MLP", "[1.0]", *arguments]
        code, told, said = commands.run(predict, given, {**self.environment, **more})
        assert _SECRET not in told + said
        return code, told, said


@pytest.fixture(scope="module")
def api(moto: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Api]:
    folder = tmp_path_factory.mktemp("authority")
    with cloud.running(Plane(run=_run), moto) as deployed:
        deployed.deploy_model("MLP", "registry/models@sha256:template")
        with front.running(deployed) as port, tls_proxy.running(_HOST, port, folder) as environment:
            settings = {**environment, TOKEN: None, "AWS_EC2_METADATA_DISABLED": "true"}
            yield _Api(deployed, port, settings)  # type: ignore[arg-type] # None removes a variable


@pytest.fixture(autouse=True)
def _signed(api: _Api) -> Iterator[None]:
    """Each test begins with an API that takes signed requests, and denies nobody who may call."""
    if api.cloud.access != "IAM":
        api.cloud.change_access("IAM")
    yield
    api.cloud.guard.denied.clear()


_ANSWER = '{"predictions": [1.0]}\n'


def test_request_to_api_gateway_is_signed(api: _Api) -> None:
    for url in (_URL, f"{_URL}/", f"{_URL}/v1/models/MLP:predict"):
        assert api.predict("--url", url) == (0, _ANSWER, "")


def test_golden_pair_of_a_deployed_api_is_one_that_a_push_takes(api: _Api) -> None:
    code, told, _ = api.predict("--url", _URL, "--golden")
    [pair] = read(told.encode(), "standard output")
    assert (code, pair.request, pair.response) == (
        0,
        '{"instances": [1.0]}',
        {"predictions": [1.0]},
    )


def test_stack_has_the_url(api: _Api, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = CloudFormation()
    nested = Stack("nested", {}, outputs={"PredictUrl": f"{_URL}/other/v1/models/MLP:predict"})
    outputs = {"MLPPredictUrl": f"{_URL}/v1/models/MLP:predict", "Dashboard": "https://x/y"}
    stacks.add(Stack(SYSTEM, {}, outputs=outputs), Mlp=nested)
    with cloudformation.running(stacks, monkeypatch):
        assert api.predict("--stack", SYSTEM) == (0, _ANSWER, "")
        code, _, said = commands.run(predict, ["CNN", "[1]", "--stack", SYSTEM], api.environment)
        assert (code, "no predict URL of model CNN. Models with one: MLP." in said) == (1, True)
        code, _, said = api.predict("--stack", "nobody")
        assert (code, "There is no stack nobody in " in said) == (1, True)
    code, _, said = api.predict("--stack", SYSTEM, "--url", _URL)
    assert (code, "not both" in said) == (2, True)


@pytest.mark.parametrize(
    ("environment", "arguments", "reason"),
    [
        (
            {"AWS_SECRET_ACCESS_KEY": _SECRET},
            [],
            "It was signed: the caller's policy must allow execute-api:Invoke on this route",
        ),
        (_NONE, [], "It was not signed: no AWS credentials were found. Log in, or choose"),
        ({}, ["--no-sign"], "It was not signed and had no token. Use --sign or --token"),
        ({}, ["--region=us-east-1"], "It was signed: "),
        ({TOKEN: _SECRET}, [], "It had a token: that may have expired"),
    ],
)
def test_refused_caller_is_told_what_to_change(
    api: _Api, environment: dict[str, str | None], arguments: list[str], reason: str
) -> None:
    code, told, said = api.predict("--url", _URL, *arguments, **environment)
    assert (code, told) == (1, "")
    assert said.splitlines()[-1].startswith("Error: 403 from the server: Forbidden. ")
    assert reason in said


def test_caller_needs_the_right_to_invoke(api: _Api) -> None:
    def allow(model: str) -> None:
        stage = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api.cloud.api_id}/$default"
        on = f"{stage}/POST/v1/models/{model}:predict"
        statement = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": on}
        role = Role(f"arn:aws:iam::{ACCOUNT}:role/Caller", [statement], [])
        api.cloud.guard.roles = {**api.cloud.guard.roles, "Caller": role}

    allow("MLP")
    with api.cloud.acting("Caller"):
        session = {"AWS_SESSION_TOKEN": "of a session"}
        assert api.predict("--url", _URL, **session) == (0, _ANSWER, "")
        allow("CNN")
        code, _, said = api.predict("--url", _URL)
    assert (code, "execute-api:Invoke" in said) == (1, True)


def test_profile_has_the_credentials(api: _Api, tmp_path: Path) -> None:
    settings = tmp_path / "credentials"
    settings.write_text("[other]\naws_access_key_id = test\naws_secret_access_key = test\n")
    environment = {**_NONE, "AWS_SHARED_CREDENTIALS_FILE": str(settings)}
    assert api.predict("--url", _URL, "--profile=other", **environment)[0] == 0
    code, _, said = api.predict("--url", _URL, "--profile=nobody", **environment)
    assert (code, "The config profile (nobody) could not be found" in said) == (1, True)


def test_other_hosts_are_signed_for_on_demand(api: _Api) -> None:
    url = f"http://127.0.0.1:{api.port}"
    assert api.predict("--url", url)[0] == 1
    assert api.predict("--url", url, "--sign", f"--region={REGION}") == (0, _ANSWER, "")
    code, _, said = api.predict("--url", url, "--sign", AWS_DEFAULT_REGION=None)
    assert (code, "The region of 127.0.0.1 is not known" in said) == (1, True)
    code, _, said = api.predict("--url", url, "--sign", f"--region={REGION}", **_NONE)
    assert (code, "cannot be signed: no AWS credentials were found" in said) == (1, True)


def test_token_opens_an_api_that_takes_tokens(api: _Api) -> None:
    api.cloud.change_access("JWT")
    good, bad = (
        headers["authorization"].removeprefix("Bearer ")
        for headers in (front.token(), front.token(audience="other"))
    )
    assert api.predict("--url", _URL, **{TOKEN: f"{good}\n"}) == (0, _ANSWER, "")
    assert api.predict("--url", _URL, "--token", f"Bearer {good}")[0] == 0
    code, _, said = api.predict("--url", _URL, **{TOKEN: bad})
    assert (code, bad in said, "401 from the server: Unauthorized" in said) == (1, False, True)
    code, _, said = api.predict("--url", _URL)
    assert (code, "An API that takes tokens needs --token" in said) == (1, True)


def test_open_api_needs_nothing(api: _Api) -> None:
    api.cloud.change_access("OPEN")
    assert api.predict("--url", _URL)[0] == 0
    assert api.predict("--url", _URL, **_NONE)[0] == 0


@pytest.mark.parametrize(
    ("url", "token", "reason"),
    [
        ("http://api.example", _SECRET, "The token is not sent to api.example"),
        (_URL, f"{_SECRET}\x01", "has characters that no token has"),
        (_URL, f"{_SECRET}\r\nX-Other: 1", "has characters that no token has"),
        (f"https://me:{_SECRET}@api.example", "", "must not hold a name or a password"),
        (f"{_URL}?key=1", "", "without what follows ? or #"),
        ("file:///etc/passwd", "", "--url must begin with http:// or https://"),
        ("ftp://api.example", "", "--url must begin with http:// or https://"),
        ("http://127.0.0.1:abc", "", "Could not reach http://127.0.0.1:abc/v1/"),
    ],
)
def test_mistake_sends_and_shows_no_secret(api: _Api, url: str, token: str, reason: str) -> None:
    code, told, said = api.predict("--url", url, **{TOKEN: token})
    assert (code, told) == (1, "")
    assert reason in said


def test_credential_with_a_line_break_is_not_shown(api: _Api) -> None:
    code, told, said = api.predict("--url", _URL, AWS_SESSION_TOKEN=f"{_SECRET}\nb")
    assert (code, told) == (1, "")
    assert "such as a line break" in said


class _Elsewhere(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(307)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what failed."""


def test_redirect_is_told_and_not_followed(api: _Api) -> None:
    with listening(_Elsewhere) as port:
        code, _, said = api.predict("--url", f"http://127.0.0.1:{port}", **{TOKEN: _SECRET})
    assert code == 1
    assert "307 from the server: it redirects to http://127.0.0.1:9/elsewhere. Use that" in said


def test_server_that_does_not_answer_is_given_up(api: _Api) -> None:
    assert "AWS_ACCESS_KEY_ID" in os.environ  # the request is signed, and nobody answers it
    with listening(type("Silent", (_Elsewhere,), {"do_POST": lambda _: None})) as port:
        code, _, said = api.predict("--url", f"http://127.0.0.1:{port}", "--timeout=0.2")
    assert (code, "Could not reach " in said) == (1, True)
