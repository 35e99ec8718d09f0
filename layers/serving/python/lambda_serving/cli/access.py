"""How a request to a deployed API shows who sends it: by a signature, by a token, or not at all.

API Gateway signs by AWS's Signature Version 4 with the service `execute-api`; a token is a JWT in
the header `Authorization`. No secret is ever part of a message.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from lambda_serving.errors import FailedPrecondition, InvalidArgument

__all__ = ["TOKEN", "Access", "Authorized"]

TOKEN = "LAMBDA_SERVING_TOKEN"  # noqa: S105 - the name of a variable
_API_GATEWAY = re.compile(
    r"[a-z0-9-]+\.execute-api\.(?P<region>[a-z0-9-]+)\.(amazonaws\.(com|com\.cn|eu)|api\.aws)"
)
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750, b64token
_LOCAL = {"localhost", "127.0.0.1", "::1"}


class Authorized(NamedTuple):
    """The headers of a request; `advice` is for a caller whom the API refuses."""

    headers: dict[str, str]
    advice: str


@dataclass(frozen=True, slots=True)
class Access:
    """What the user chose: a `token`, or to `sign` with the settings of a profile.

    Without either, requests to API Gateway are signed if there are credentials.
    """

    token: str | None = field(default=None, repr=False)
    sign: bool | None = None
    profile: str | None = None
    region: str | None = None

    def authorize(self, url: str, headers: dict[str, str], body: bytes) -> Authorized:
        """The headers for a POST request to a URL.

        Raises InvalidArgument for a token that is none or that would be sent in the clear,
        FailedPrecondition if nothing is there to sign with, and what `Account` raises.
        """
        if self.token:
            return self._with_token(url, headers, self.token)
        gateway = _gateway(url)
        if self.sign or (self.sign is None and gateway is not None):
            return self._signed(url, headers, body, gateway)
        return Authorized(headers, "It was not signed and had no token. Use --sign or --token")

    def _with_token(self, url: str, headers: dict[str, str], token: str) -> Authorized:
        scheme, _, rest = token.strip().partition(" ")
        plain = rest.strip() if scheme.lower() == "bearer" and rest else token.strip()
        if not _TOKEN.fullmatch(plain):
            raise InvalidArgument(
                f"The token from --token or {TOKEN} has characters that no token has. It is sent as"
                " `Authorization: Bearer TOKEN`, so give the bare token"
            )
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _LOCAL:
            raise InvalidArgument(
                f"The token is not sent to {parts.hostname}, because http:// would show it to"
                f" others. Use https://, or unset {TOKEN}"
            )
        return Authorized(
            {**headers, "Authorization": f"Bearer {plain}"},
            "It had a token: that may have expired, be for another audience, or lack a scope. An"
            " API that takes signed requests needs --sign instead",
        )

    def _signed(
        self, url: str, headers: dict[str, str], body: bytes, gateway: str | None
    ) -> Authorized:
        from lambda_serving.release.aws.clients import Account  # boto3 takes 0.3 s to import

        account = Account.of_profile(self.profile, self.region)
        region = self.region or gateway or account.region
        if not region:
            raise InvalidArgument(
                f"The region of {urlsplit(url).hostname} is not known. Name it with --region"
            )
        signed = account.signed(url, {**headers, "Host": urlsplit(url).netloc}, body, region)
        if signed:
            return Authorized(
                signed,
                "It was signed: the caller's policy must allow execute-api:Invoke on this route."
                " An API that takes tokens needs --token instead",
            )
        lacking = "no AWS credentials were found. Log in, or choose a profile with --profile"
        if self.sign or self.profile:
            raise FailedPrecondition(f"The request cannot be signed: {lacking}")
        return Authorized(
            headers, f"It was not signed: {lacking}. An API that takes tokens needs --token"
        )


def _gateway(url: str) -> str | None:
    """The region of an API Gateway's own host, which speaks https only; None for another host."""
    parts = urlsplit(url)
    match = _API_GATEWAY.fullmatch(parts.hostname or "")
    return match["region"] if match and parts.scheme == "https" else None
