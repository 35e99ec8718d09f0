"""A stand-in for Lambda's control plane: functions of images, their versions and aliases.

boto3 speaks to it over HTTP as it does to Lambda. It keeps what moto does not: a published version
keeps its image, code and versions take a while, an alias moves only for who has its revision, and
what an alias points to cannot be deleted. Every answer is checked against botocore's model of it.
Source: the developer guide on function states, versions and aliases; botocore's service model.
"""

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import botocore.session
from botocore.validate import ParamValidator

__all__ = ["Plane", "Refused", "serving"]

Run = Callable[[str, Any], Any]
"""What the function of an image returns for an event; what it raises is a function error."""
_MODEL = botocore.session.get_session().get_service_model("lambda")
_PATH = r"/2015-03-31/functions/(?P<name>[^/]+)"
_ROUTES = {
    ("PUT", "/code"): "UpdateFunctionCode",
    ("GET", ""): "GetFunction",
    ("POST", "/versions"): "PublishVersion",
    ("GET", "/versions"): "ListVersionsByFunction",
    ("GET", "/aliases/live"): "GetAlias",
    ("PUT", "/aliases/live"): "UpdateAlias",
    ("POST", "/invocations"): "Invoke",
    ("DELETE", ""): "DeleteFunction",
}


class Refused(Exception):
    """An error of Lambda: its HTTP status, its code, its message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(slots=True)
class _Version:
    """The code of a function, `$LATEST` or published, and for how many looks it is not ready."""

    image: str
    description: str = ""
    looks: int = 0
    broken: str = ""

    def look(self) -> bool:
        """Whether it is ready now; a look brings it nearer."""
        self.looks, before = max(self.looks - 1, 0), self.looks
        return before == 0


@dataclass(slots=True)
class Plane:
    """One function, `name`, whose alias `live` points to version 1, of the first image.

    New code and versions are ready after `looks`. Images in `broken` never become ready, for the
    reason given there. `calls` are the names of operations so far; `interfere` is called
    "before" and "after" each, and may raise `Refused`.
    """

    name: str
    image: str
    run: Run
    looks: int = 1
    broken: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    interfere: Callable[[str, str], None] = lambda _, __: None
    live: int = 1
    revision: int = 1
    latest: _Version = field(init=False)
    versions: dict[int, _Version] = field(init=False)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    def __post_init__(self) -> None:
        self.latest = _Version(self.image)
        self.versions = {1: _Version(self.image, "the template's")}

    def invoke(self, event: Any) -> Any:
        """What the version behind the alias returns."""
        with self._lock:
            image = self.versions[self.live].image
        return self.run(image, event)

    def answer(self, operation: str, query: dict[str, str], body: Any) -> Any:
        """The answer of an operation, as botocore names its members."""
        self.calls.append(operation)
        self.interfere(operation, "before")
        if operation == "Invoke":  # takes long, and others go on meanwhile
            found = self._invoke(query, body)
        else:
            with self._lock:
                found = _OPERATIONS[operation](self, query, body)
        self.interfere(operation, "after")
        return found

    def update_function_code(self, _: dict[str, str], body: Any) -> Any:
        if not self.latest.look():
            raise Refused(409, "ResourceConflictException", "An update is in progress")
        self.latest = _Version(body["ImageUri"], looks=self.looks)
        return self._configuration("$LATEST", self.latest)

    def get_function(self, _: dict[str, str], __: Any) -> Any:
        code = {"ImageUri": self.latest.image, "ResolvedImageUri": self.latest.image}
        return {"Configuration": self._configuration("$LATEST", self.latest), "Code": code}

    def publish_version(self, _: dict[str, str], body: Any) -> Any:
        if self.latest.looks:
            raise Refused(409, "ResourceConflictException", "An update is in progress")
        if body.get("CodeSha256", _sha(self.latest.image)) != _sha(self.latest.image):
            raise Refused(412, "PreconditionFailedException", "The code is another one")
        newest = max(self.versions)
        if self.versions[newest].image != self.latest.image:  # else there is nothing to publish
            newest = next(self._numbers)
            image = self.latest.image
            self.versions[newest] = _Version(
                image, body.get("Description", ""), self.looks, self.broken.get(image, "")
            )
        return self._configuration(str(newest), self.versions[newest])

    def list_versions(self, query: dict[str, str], _: Any) -> Any:
        """Two a page, as more than one page must be read."""
        every = [("$LATEST", self.latest), *((str(n), v) for n, v in self.versions.items())]
        start = int(query.get("Marker", "0"))
        page = [self._configuration(*each) for each in every[start : start + 2]]
        more = {"NextMarker": str(start + 2)} if start + 2 < len(every) else {}
        return {"Versions": page, **more}

    def get_alias(self, _: dict[str, str], __: Any) -> Any:
        return {"Name": "live", "FunctionVersion": str(self.live), "RevisionId": str(self.revision)}

    def update_alias(self, query: dict[str, str], body: Any) -> Any:
        if body.get("RevisionId", str(self.revision)) != str(self.revision):
            raise Refused(412, "PreconditionFailedException", "The alias has another revision")
        number = int(body["FunctionVersion"])
        if number not in self.versions:
            raise Refused(404, "ResourceNotFoundException", f"Version {number} is not there")
        self.live, self.revision = number, self.revision + 1
        return self.get_alias(query, body)

    def delete_function(self, query: dict[str, str], _: Any) -> Any:
        number = int(query["Qualifier"])
        if number == self.live:
            raise Refused(409, "ResourceConflictException", "The alias live points to it")
        self.versions.pop(number, None)
        return {}

    def _invoke(self, query: dict[str, str], event: Any) -> Any:
        version = self.versions[int(query["Qualifier"])]
        if version.looks or version.broken:
            raise Refused(409, "ResourceConflictException", "The version is not active")
        try:
            return {"Payload": self.run(version.image, event)}
        except RuntimeError as error:
            return {"FunctionError": "Unhandled", "Payload": {"errorMessage": str(error)}}

    def _configuration(self, number: str, version: _Version) -> dict[str, Any]:
        ready = version.look()
        state = "Failed" if ready and version.broken else "Active" if ready else "Pending"
        return {
            "FunctionName": self.name,
            "Version": number,
            "Description": version.description,
            "CodeSha256": _sha(version.image),
            "State": "Active" if number == "$LATEST" else state,
            "StateReason": version.broken,
            "LastUpdateStatus": "Successful" if ready else "InProgress",
            "PackageType": "Image",
        }


def _sha(image: str) -> str:
    """The digest of a function's code is that of its image."""
    return image.rpartition("sha256:")[2]


_OPERATIONS: dict[str, Callable[[Plane, dict[str, str], Any], Any]] = {
    "DeleteFunction": Plane.delete_function,
    "GetAlias": Plane.get_alias,
    "GetFunction": Plane.get_function,
    "ListVersionsByFunction": Plane.list_versions,
    "PublishVersion": Plane.publish_version,
    "UpdateAlias": Plane.update_alias,
    "UpdateFunctionCode": Plane.update_function_code,
}


@contextmanager
def serving(plane: Plane) -> Iterator[str]:
    """The endpoint at which boto3 finds the plane."""
    handler = type("Handler", (_Handler,), {"plane": plane})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    plane: Plane
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer

    def _answer(self) -> None:
        url = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        match = re.fullmatch(rf"{_PATH}(?P<rest>.*?)/?", url.path)
        assert match, url.path
        assert match["name"] == self.plane.name
        operation = _ROUTES[self.command, match["rest"]]
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        try:
            answer = self.plane.answer(operation, query, json.loads(content or b"{}"))
        except Refused as refused:
            self._send(refused.status, {"Message": refused.message}, refused.code)
        else:
            self._send_checked(operation, answer)

    do_DELETE = do_GET = do_POST = do_PUT = _answer  # noqa: N815 as http.server calls them

    def _send_checked(self, operation: str, answer: Any) -> None:
        model = _MODEL.operation_model(operation)
        if operation == "Invoke":
            error = answer.get("FunctionError")
            self._send(200, answer["Payload"], function_error=error)
            return
        if model.output_shape:
            report = ParamValidator().validate(answer, model.output_shape)
            assert not report.has_errors(), report.generate_report()
        self._send(model.http["responseCode"], answer)

    def _send(
        self, status: int, document: Any, code: str = "", function_error: str | None = None
    ) -> None:
        body = b"" if status == 204 else json.dumps(document).encode()
        self.send_response(status)
        if code:
            self.send_header("x-amzn-ErrorType", code)
        if function_error:
            self.send_header("X-Amz-Function-Error", function_error)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what failed."""
