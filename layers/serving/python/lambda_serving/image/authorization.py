"""Authenticates to registries: anonymously, with a password, or with a token.

The token for a Bearer challenge is fetched as in the Docker token specification
(distribution.github.io/distribution/spec/auth/token), with or without the user's password.
"""

import json
import re
from collections.abc import Mapping

import httpx

from lambda_serving.errors import PermissionDenied, Unavailable
from lambda_serving.image.reference import Repository
from lambda_serving.image.transfer import check, exchange, read, translate_errors

__all__ = ["Authorization"]

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Authorization:
    """Answers the challenges of registries, and remembers the answers for each repository."""

    def __init__(self, client: httpx.Client, passwords: Mapping[str, tuple[str, str]]) -> None:
        self._client = client
        self._passwords = passwords
        self._headers: dict[Repository, str] = {}

    def headers(self, repository: Repository, url: httpx.URL) -> dict[str, str]:
        """The headers for a request to `url`; none outside the repository's own registry."""
        home, known = httpx.URL(repository.url), self._headers.get(repository)
        ours = (url.scheme, url.netloc) == (home.scheme, home.netloc)
        return {"Authorization": known} if known and ours else {}

    def answer(self, repository: Repository, refused: httpx.Response, what: str) -> None:
        """Prepares `headers` for the challenge in a response with status 401.

        Raises PermissionDenied when it needs a password and there is none.
        """
        challenges = refused.headers.get_list("WWW-Authenticate")
        by_scheme = {challenge.partition(" ")[0].lower(): challenge for challenge in challenges}
        if "bearer" in by_scheme:
            parameters = dict(_PARAMETER.findall(by_scheme["bearer"]))
            self._headers[repository] = f"Bearer {self._token(repository, parameters, what)}"
        elif "basic" in by_scheme and repository.host in self._passwords:
            self._headers[repository] = self._basic(repository)
        else:
            raise PermissionDenied(
                f"Could not {what}: {repository.host} asks for a user and a password. Give them;"
                " for ECR, use AWS and the token from GetAuthorizationToken"
            )

    def _token(self, repository: Repository, parameters: Mapping[str, str], what: str) -> str:
        login = repository.host in self._passwords
        with translate_errors(what):
            query = {
                "service": parameters.get("service", ""),
                "scope": parameters.get("scope", "").split(),
            }
            url = httpx.URL(parameters.get("realm", "")).copy_merge_params(query)
            headers = {"Authorization": self._basic(repository)} if login else {}
            request = self._client.build_request("GET", url, headers=headers)
        with exchange(self._client, request, what) as response:
            check(response, what, 200)
            content = read(response, what)
        try:
            document = json.loads(content)
            token: str = document.get("token") or document["access_token"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unavailable(
                f"Could not {what}: {request.url.host} gave no token to {repository}"
            ) from error
        return token

    def _basic(self, repository: Repository) -> str:
        user, password = self._passwords[repository.host]
        request = httpx.Request("GET", repository.url)
        flow = httpx.BasicAuth(user, password).auth_flow(request)
        return next(flow).headers["Authorization"]
