"""Lambda's operations on code, versions and invocations.

Sources: botocore's service model; the developer guide on function states and versions; LocalStack's
tests, validated against AWS: after any update of the code the next version is a new one, deleting
an absent version succeeds, and a list of versions omits their states.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from threading import Thread
from typing import Any

from support.aws_plane.function import Failure, Function, Version
from support.aws_plane.plane import Plane
from support.aws_plane.refused import BUSY, Refused, conflict, invalid, not_found, outdated

__all__ = ["OPERATIONS", "Given", "invoke", "named", "page"]

Given = Mapping[str, Any]
"""An operation's input or output: members as botocore names them."""
_WHY = {
    "Pending": Failure("Creating", "The function is being created."),
    "Inactive": Failure("Idle", "The function is idle."),
}
_PAGE = 2  # so that callers must read several pages
_STATES = (
    "State",
    "StateReason",
    "StateReasonCode",
    "LastUpdateStatus",
    "LastUpdateStatusReason",
    "LastUpdateStatusReasonCode",
)
_REQUEST_BYTES = {"RequestResponse": 6_291_456, "Event": 1_048_576}
_ANSWER_BYTES = 6_291_556


def named(plane: Plane, given: Given) -> Function:
    """The function in a request, by its name or its ARN."""
    name = given["FunctionName"].rpartition("function:")[2]
    if name not in plane.functions:
        raise not_found(f"Function not found: {given['FunctionName']}")
    return plane.functions[name]


def page(given: Given, member: str, every: list[dict[str, Any]]) -> Given:
    """One page of two items, with a marker for the next."""
    start = int(given.get("Marker", "0"))
    stop = start + min(_PAGE, given.get("MaxItems", _PAGE))
    more = {"NextMarker": str(stop)} if stop < len(every) else {}
    return {member: every[start:stop], **more}


def _get_function(plane: Plane, given: Given) -> Given:
    function = named(plane, given)
    image = function.find(given.get("Qualifier", "$LATEST"))[1].image
    return {
        "Configuration": _get_configuration(plane, given),
        "Code": {"RepositoryType": "ECR", "ImageUri": image, "ResolvedImageUri": _resolved(image)},
    }


def _get_configuration(plane: Plane, given: Given) -> Given:
    function = named(plane, given)
    return _configuration(function, *function.find(given.get("Qualifier", "$LATEST")))


def _update_code(plane: Plane, given: Given) -> Given:
    assert given.keys() <= {"FunctionName", "ImageUri", "RevisionId"}, given
    function = named(plane, given)
    before = function.latest
    if not before.look():
        raise _in_progress(function)
    if given.get("RevisionId", str(before.revision)) != str(before.revision):
        raise outdated()
    if given["ImageUri"] in plane.missing_images:
        raise invalid(
            f"Source image {given['ImageUri']} does not exist. Provide a valid source image."
        )
    if unfit := plane.unfit.get(given["ImageUri"]):
        shown = given["ImageUri"] if plane.shows_unfit else before.image
        latest = replace(before, image=shown)
    else:
        latest = replace(before, image=given["ImageUri"], update=before.update + 1)
    function.latest = replace(
        latest,
        looks=plane.looks,
        failure=unfit,
        revision=before.revision + 1,
        modified=plane.now(),
    )
    return _configuration(function, "$LATEST", function.latest)


def _publish(plane: Plane, given: Given) -> Given:
    function = named(plane, given)
    latest = function.latest
    if latest.looks:
        raise _in_progress(function)
    if given.get("RevisionId", str(latest.revision)) != str(latest.revision):
        raise outdated()
    if (asked := given.get("CodeSha256", latest.digest)) != latest.digest:
        raise invalid(
            f"CodeSHA256 ({asked}) is different from current CodeSHA256 in $LATEST"
            f" ({latest.digest}). Please try again with the CodeSHA256 in $LATEST."
        )
    number = function.publish(
        given.get("Description", latest.description),
        looks=plane.looks if plane.publish_looks is None else plane.publish_looks,
        failure=plane.broken.get(latest.image),
        now=plane.now(),
    )
    return _configuration(function, str(number), function.versions[number])


def _list_versions(plane: Plane, given: Given) -> Given:
    function = named(plane, given)
    every = [("$LATEST", function.latest), *((str(n), v) for n, v in function.versions.items())]
    told = [_configuration(function, number, version) for number, version in every]
    return page(given, "Versions", [_without_state(configuration) for configuration in told])


def _without_state(configuration: Given) -> dict[str, Any]:
    return {name: value for name, value in configuration.items() if name not in _STATES}


def _delete(plane: Plane, given: Given) -> Given:
    function = named(plane, given)
    qualifier = given.get("Qualifier")
    assert qualifier, f"the whole function {function.name} would be gone"
    if not qualifier.isdecimal():
        raise invalid(f"{qualifier} cannot be deleted by this operation")
    number = int(qualifier)
    names = [
        name
        for name, alias in function.aliases.items()
        if number == alias.function_version or number in alias.weights
    ]
    if names:
        told = ", ".join(names)
        raise conflict(
            f"Unable to delete version because the following aliases reference it: [{told}]"
        )
    function.versions.pop(number, None)
    return {"StatusCode": 204}


def invoke(plane: Plane, given: Given) -> Given:
    """The answer of an invocation; an event is only accepted, and runs in the background."""
    kind, size = given.get("InvocationType", "RequestResponse"), len(given.get("Payload") or b"")
    if size > (most := _REQUEST_BYTES[kind]):
        raise Refused(
            413,
            "RequestTooLargeException",
            f"{size} byte payload is too large for the {kind} invocation type (limit {most} bytes)",
        )
    with plane.lock:
        function = named(plane, given)
        qualifier = given.get("Qualifier", "$LATEST")
        number, version = function.choose(qualifier)
    event = json.loads(given.get("Payload") or "null")

    def run() -> Given:
        try:
            payload, failed = function.run(version.image, event, qualifier), {}
        except RuntimeError as error:
            payload = {"errorType": "RuntimeError", "errorMessage": str(error)}
            failed = {"FunctionError": "Unhandled"}
        told = json.dumps(payload).encode()
        if len(told) > _ANSWER_BYTES:
            told, failed = _too_large(), {"FunctionError": "Unhandled"}
        return {"StatusCode": 200, "ExecutedVersion": number, "Payload": told, **failed}

    match kind:
        case "RequestResponse":
            return run()
        case "Event":
            _start(plane, run)
            return {"StatusCode": 202, "Payload": b""}
        case other:
            raise AssertionError(f"{other} is not stood in for")


def _too_large() -> bytes:
    message = (
        f"Response payload size exceeded maximum allowed payload size ({_ANSWER_BYTES} bytes)."
    )
    error = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": message}
    return json.dumps(error).encode()


def _start(plane: Plane, run: Callable[[], object]) -> None:
    def recorded() -> None:
        try:
            run()
        except Exception as error:  # noqa: BLE001 told at the end of `serving`
            plane.failures.append(error)

    thread = Thread(target=recorded)
    thread.start()
    plane.background.append(thread)


def _configuration(function: Function, number: str, version: Version) -> dict[str, Any]:
    revision, ready = str(version.revision), version.look()
    state = _state(number, version, ready=ready)
    return {
        "FunctionName": function.name,
        "FunctionArn": function.arn("" if number == "$LATEST" else number),
        "Version": number,
        "Description": version.description,
        "CodeSha256": version.digest,
        "MemorySize": version.memory,
        "Environment": {"Variables": dict(version.environment)},
        "RevisionId": revision,
        "LastModified": datetime.fromtimestamp(version.modified / 1000, UTC).isoformat(),
        **state,
        "PackageType": "Image",
    }


def _state(number: str, version: Version, *, ready: bool) -> dict[str, str]:
    """The state of a version, and of the function's last update."""
    failure = version.failure if ready else None
    if number == "$LATEST":
        status = "Failed" if failure else "Successful" if ready else "InProgress"
        return {"State": "Active", "LastUpdateStatus": status, **_told(failure, "LastUpdateStatus")}
    state = version.state or ("Failed" if failure else "Active" if ready else "Pending")
    why = failure or _WHY.get(state)
    return {"State": state, "LastUpdateStatus": "Successful", **_told(why, "State")}


def _told(failure: Failure | None, name: str) -> dict[str, str]:
    if failure is None:
        return {}
    return {f"{name}Reason": failure.reason, f"{name}ReasonCode": failure.code}


def _in_progress(function: Function) -> Exception:
    return conflict(BUSY[0].format(function.arn()))


def _resolved(image: str) -> str:
    """The image by its digest; a tag's digest is made up, but always the same."""
    name, _, digest = image.partition("@")
    repository = re.sub(r":[^:/]+$", "", name)
    return f"{repository}@{digest or 'sha256:' + hashlib.sha256(name.encode()).hexdigest()}"


OPERATIONS: Mapping[str, Callable[[Plane, Given], Given]] = {
    "DeleteFunction": _delete,
    "GetFunction": _get_function,
    "GetFunctionConfiguration": _get_configuration,
    "ListVersionsByFunction": _list_versions,
    "PublishVersion": _publish,
    "UpdateFunctionCode": _update_code,
}
