"""Has stand-ins of AWS refuse what a role may not do, in AWS's words."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from uuid import uuid4

from support.iam.policies import allows
from support.iam.requests import Ask, of_http
from support.iam.roles import Role

__all__ = ["Guard", "guarded", "key_of"]

_SIGNED = re.compile(r"Credential=(?P<key>[^/]+)/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/")
_ISSUED = re.compile(rb"<AccessKeyId>([^<]+)</AccessKeyId>")
_BODIES = {
    "ecr",
    "events",
    "logs",
    "sqs",
    "sts",
}  # services whose requests name the operation in the body
_App = Callable[[dict[str, Any], Any], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class _Session:
    role: str
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Guard:
    """Roles by name, each with its own access keys; `tags` are those of resources, by ARN.

    `used` are the permissions that were needed and granted: role, action and resource; `denied` are
    AWS's messages.
    """

    roles: Mapping[str, Role]
    account: str
    tags: Callable[[str], Mapping[str, str]]
    used: set[tuple[str, str, str]] = field(default_factory=set)
    denied: list[str] = field(default_factory=list)
    _sessions: dict[str, _Session] = field(default_factory=dict)

    def key(self, role: str) -> str:
        """A new access key for that role."""
        key = f"AKIA{uuid4().hex[:16].upper()}"
        self._sessions[key] = _Session(role)
        return key

    def refusal(self, key: str, asks: Iterable[Ask]) -> str | None:
        """AWS's message if the caller may not do all of that; None if it may, and for strangers."""
        if (session := self._sessions.get(key)) is None:
            return None
        said = None
        for ask in asks:
            if self._may(session, ask):
                self.used.add((session.role, ask.action, ask.resource))
                continue
            message = (
                f"User: arn:aws:sts::{self.account}:assumed-role/{session.role}/session is not"
                f" authorized to perform: {ask.action} on resource: {ask.resource} because no"
                f" identity-based policy allows the {ask.action} action"
            )
            self.denied.append(message)
            said = said if ask.optional else message
        return said

    def knows(self, key: str) -> bool:
        return key in self._sessions

    def sees_absence(self, key: str, bucket: str) -> bool:
        """Whether S3 answers that an object does not exist: callers that may not list get 403."""
        ask = Ask("s3:ListBucket", f"arn:aws:s3:::{bucket}")
        return key not in self._sessions or self.refusal(key, [ask]) is None

    def issued(self, key: str, role_arn: str, tags: Mapping[str, str]) -> None:
        """Notes that STS issued a key for a role, with tags of its session."""
        [name] = [name for name, role in self.roles.items() if role.arn == role_arn]
        self._sessions[key] = _Session(name, tags)

    def _may(self, session: _Session, ask: Ask) -> bool:
        context = {
            **{f"aws:ResourceTag/{key}": value for key, value in self.tags(ask.resource).items()},
            **{f"aws:PrincipalTag/{key}": value for key, value in session.tags.items()},
            **ask.context,
        }
        own = self.roles[session.role]
        if not allows(own.statements, ask.action, ask.resource, context):
            return False
        taken = [role for role in self.roles.values() if role.arn == ask.resource]
        return all(
            allows(
                [each for each in role.trust if each["Principal"] == {"AWS": own.arn}],
                ask.action,
                ask.resource,
                context,
            )
            for role in taken
        )


def key_of(authorization: str) -> str:
    """The access key with which a request is signed, from its header `Authorization`."""
    found = _SIGNED.search(authorization)
    return found["key"] if found else ""


def guarded(app: _App, guards: Iterable[Guard]) -> _App:
    """Moto's server behind IAM; `guards` are those of the stacks that exist now."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        signed = _SIGNED.search(environ.get("HTTP_AUTHORIZATION", ""))
        known = [guard for guard in guards if signed and guard.knows(signed["key"])]
        if not signed or not known:
            return app(environ, start_response)
        [guard] = known
        return _guarded(app, guard, signed, environ, start_response)

    return answer


def _guarded(
    app: _App, guard: Guard, signed: re.Match[str], environ: dict[str, Any], start_response: Any
) -> Iterable[bytes]:
    key, region, service = signed.groups()
    body = b""
    if service in _BODIES:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    headers = {
        "If-Match": environ.get("HTTP_IF_MATCH", ""),
        "X-Amz-Target": environ.get("HTTP_X_AMZ_TARGET", ""),
    }
    place = f"{region}:{guard.account}"
    asks = of_http(service, method, path, environ.get("QUERY_STRING", ""), headers, body, place)
    if said := guard.refusal(key, asks):
        return _refuse(service, said, start_response)
    told: list[Any] = []

    def start(*given: Any) -> None:  # the last time counts
        told[:] = given[:2]

    answered = b"".join(app(environ, start))
    status, answer_headers = told
    bucket, _, name = path.removeprefix("/").partition("/")
    if (
        service == "s3"
        and name
        and status.startswith("404")
        and not guard.sees_absence(key, bucket)
    ):
        said = f"{asks[0].resource} is not there, and the caller lacks s3:ListBucket to be told so"
        return _refuse(service, said, start_response)
    if service == "sts" and (issued := _ISSUED.search(answered)):
        prefix = "aws:RequestTag/"
        tags = {name.removeprefix(prefix): str(tag) for name, tag in asks[0].context.items()}
        guard.issued(issued[1].decode(), asks[0].resource, tags)
    start_response(status, answer_headers)
    return [answered]


def _refuse(service: str, said: str, start_response: Any) -> list[bytes]:
    """A refusal in the protocol of the service."""
    if service in {"s3", "sts"}:
        error = f"<Code>AccessDenied</Code><Message>{said}</Message>"
        text = f"<ErrorResponse><Error>{error}</Error></ErrorResponse>"
        body = (f"<Error>{error}</Error>" if service == "s3" else text).encode()
        headers = [("Content-Type", "application/xml")]
    else:
        body = json.dumps({"__type": "AccessDeniedException", "message": said}).encode()
        headers = [("x-amzn-ErrorType", "AccessDeniedException")]
    start_response("403 Forbidden", [*headers, ("Content-Length", str(len(body)))])
    return [body]
