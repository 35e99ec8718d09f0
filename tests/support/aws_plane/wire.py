"""Requests and answers as botocore's service models lay them out: rest-json and json.

Requests are checked against the model's patterns, lengths, ranges and enumerations, which boto3
itself leaves to AWS; answers are checked as boto3 checks requests.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import botocore.session
from botocore.model import (
    ListShape,
    MapShape,
    OperationModel,
    ServiceModel,
    Shape,
    StructureShape,
)
from botocore.validate import ParamValidator

from support.aws_plane.refused import Refused

__all__ = ["Operation", "find", "read", "write"]

_LAMBDA_VERSIONS = ("2015-03-31", "2019-09-30")  # whose operations the stand-in knows in part
_TARGET = "CodeDeploy_20141006."
Operation = OperationModel


def find(method: str, path: str, headers: Mapping[str, str]) -> Operation:
    """The operation that a request asks for."""
    if target := headers.get("X-Amz-Target"):
        assert target.startswith(_TARGET), target
        return _model("codedeploy").operation_model(target.removeprefix(_TARGET))
    for operation, pattern in _routes().items():
        model = _model("lambda").operation_model(operation)
        if model.http["method"] == method and pattern.fullmatch(_path(path)):
            return model
    raise AssertionError(f"no operation of Lambda: {method} {path}")


def read(
    operation: Operation, path: str, headers: Mapping[str, str], content: bytes
) -> dict[str, Any]:
    """The input of a request; refuses one whose form AWS would refuse."""
    shape = _input(operation)
    body = {} if "payload" in shape.serialization else json.loads(content or b"{}")
    given = dict(body)
    if operation.service_model.service_name == "lambda":
        given |= _located(operation, path, headers)
    if payload := shape.serialization.get("payload"):
        given[payload] = content
    report = ParamValidator().validate(given, shape)
    problem = report.generate_report() if report.has_errors() else _problem(shape, given, "")
    if problem:
        message = f"1 validation error detected: {problem}"
        raise Refused(400, "ValidationException", message)
    return given


def write(operation: Operation, answer: Mapping[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer, which is checked."""
    shape = operation.output_shape
    status = operation.http.get("responseCode", 200)
    if shape is None:
        assert not answer, answer
        return status, {}, b""
    report = ParamValidator().validate(answer, shape)
    assert not report.has_errors(), report.generate_report()
    headers, document = {}, {}
    for name, value in answer.items():
        member = shape.members[name].serialization
        match member.get("location"):
            case "statusCode":
                status = value
            case "header":
                headers[member["name"]] = value
            case _:
                document[name] = value
    if payload := shape.serialization.get("payload"):
        return status, headers, document[payload]
    return status, headers, b"" if status == 204 else json.dumps(document).encode()


@cache
def _model(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)


@cache
def _routes() -> dict[str, re.Pattern[str]]:
    """The paths of Lambda's operations on functions."""
    model = _model("lambda")
    uris = {name: model.operation_model(name).http["requestUri"] for name in model.operation_names}
    return {
        name: re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", uri.rstrip("/")))
        for name, uri in uris.items()
        if uri.startswith(tuple(f"/{version}/functions/" for version in _LAMBDA_VERSIONS))
    }


def _path(path: str) -> str:
    return urlsplit(path).path.rstrip("/")


def _located(operation: Operation, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """The part of the input that is outside the body."""
    match = _routes()[operation.name].fullmatch(_path(path))
    assert match, path
    query = parse_qs(urlsplit(path).query, keep_blank_values=True)
    given: dict[str, Any] = {}
    for name, shape in _input(operation).members.items():
        where = shape.serialization.get("name", name)
        value: str | None = None
        match shape.serialization.get("location"):
            case "uri":
                value = unquote(match[where])
            case "querystring":
                value = query[where][-1] if where in query else None
            case "header":
                value = headers.get(where)
        if value is not None:
            given[name] = int(value) if shape.type_name == "integer" else value
    return given


def _input(operation: Operation) -> StructureShape:
    assert operation.input_shape, operation.name
    return operation.input_shape


def _problem(shape: Shape, value: Any, where: str) -> str:
    """What is wrong with a value, empty if nothing is."""
    match shape:
        case StructureShape():
            parts = [(shape.members[name], each, name) for name, each in value.items()]
        case ListShape():
            parts = [(shape.member, each, where) for each in value]
        case MapShape():
            parts = [(shape.key, each, where) for each in value]
            parts += [(shape.value, each, where) for each in value.values()]
        case _:
            return _problem_of_scalar(shape.metadata, value, where)
    return next(filter(None, (_problem(*part) for part in parts)), "")


def _problem_of_scalar(rules: Mapping[str, Any], value: Any, where: str) -> str:
    size = len(value) if isinstance(value, str | bytes) else value
    broken = {
        "pattern": "pattern" in rules and not re.fullmatch(rules["pattern"], value),
        "enum": "enum" in rules and value not in rules["enum"],
        "min": "min" in rules and size < rules["min"],
        "max": "max" in rules and size > rules["max"],
    }
    return next(
        (
            f"Value '{value}' at '{where}' failed to satisfy constraint: {rule} {rules[rule]}"
            for rule, is_broken in broken.items()
            if is_broken
        ),
        "",
    )
