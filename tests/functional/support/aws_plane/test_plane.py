"""The stand-in itself: several functions, interference by tests, and its own errors."""

import threading
from contextlib import ExitStack
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.aws_plane import Plane, Refused, serving
from support.plane_clients import IMAGE, client_of, code_of


def test_event_is_taken_at_once_and_runs_until_the_plane_ends() -> None:
    go, seen = threading.Event(), []

    def run(_: str, event: Any, qualifier: str) -> None:
        go.wait(300)
        seen.append((event, qualifier))

    plane = Plane()
    plane.add("f", IMAGE("a"), run=run)
    with serving(plane) as endpoint:
        client = client_of("lambda", endpoint)
        answer = client.invoke(
            FunctionName="f", Qualifier="live", InvocationType="Event", Payload=b"{}"
        )
        assert (answer["StatusCode"], seen) == (202, [])
        go.set()
        client.close()
    assert seen == [({}, "live")]


def test_each_of_several_functions_is_found_by_name_or_arn(functions: Any, plane: Plane) -> None:
    other = plane.add("g", IMAGE("g"), alias=False, run=lambda *_: "of g")
    assert functions.list_aliases(FunctionName="g")["Aliases"] == []
    assert functions.invoke(FunctionName=other.arn())["Payload"].read() == b'"of g"'
    with pytest.raises(ClientError) as error:
        functions.get_function(FunctionName="h")
    assert code_of(error) == (404, "ResourceNotFoundException")


def test_calls_are_told_and_can_be_interfered_with(functions: Any, plane: Plane) -> None:
    def refuse(operation: str, moment: str) -> None:
        if (operation, moment) == ("DeleteAlias", "after"):
            raise Refused(429, "TooManyRequestsException", "later")

    plane.interfere = refuse
    with pytest.raises(ClientError, match="later"):
        functions.delete_alias(FunctionName="f", Name="live")
    assert plane.calls == ["DeleteAlias"]
    assert plane.functions["f"].aliases == {}


def test_error_in_the_stand_in_is_raised_at_its_end(plane: Plane) -> None:
    plane.add("f", IMAGE("a"))
    with ExitStack() as stack:
        client = client_of("lambda", stack.enter_context(serving(plane)))
        with pytest.raises(ClientError, match="The stand-in"):
            client.delete_function(FunctionName="f")
        client.close()
        with pytest.raises(AssertionError, match="whole function"):
            stack.close()
