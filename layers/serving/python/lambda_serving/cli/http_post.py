"""A POST request whose failure becomes a sentence."""

import http.client
import json
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any

from lambda_serving.cli.access import Authorized
from lambda_serving.cli.console import printable
from lambda_serving.errors import Unavailable, Unknown

__all__ = ["post"]

_REDIRECTS = range(300, 400)
_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET, and take a token to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def post(url: str, body: bytes, authorized: Authorized, seconds: float) -> str:
    """The text of a server's answer.

    Raises Unknown for an answer with an error, and Unavailable if there is none in so many seconds.
    """
    request = urllib.request.Request(url, body, authorized.headers)  # noqa: S310 - the user names the server
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=seconds) as response:
            text: str = response.read().decode("utf-8", "replace")
            return text
    except urllib.error.HTTPError as error:
        with error:
            raise Unknown(_told(error, authorized.advice)) from error
    except ValueError as error:  # its message has the value, which may be a secret
        raise Unavailable(
            f"Could not ask {url}: the URL, or a header from the AWS settings, has characters that"
            " HTTP does not allow, such as a line break"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise Unavailable(f"Could not reach {url}: {reason}. Is the server running?") from error


def _told(error: urllib.error.HTTPError, advice: str) -> str:
    try:
        said = _message(error.read().decode("utf-8", "replace"))
    except (OSError, http.client.HTTPException) as broken:
        said = f"its answer broke off ({broken})"
    if error.code in _REDIRECTS:
        said = f"it redirects to {error.headers.get('Location')}. Use that URL"
    hint = f". {advice}" if error.code in _REFUSED else ""
    shown = "\n".join(map(printable, said.splitlines()))
    return f"{error.code} from the server: {shown}{hint}"


def _message(answer: str) -> str:
    """What an error's body says: a server's `error`, or API Gateway's `message`."""
    try:
        document = json.loads(answer)
        return str(document.get("error") or document["message"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return answer
