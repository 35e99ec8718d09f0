"""`logs`, `metrics` and `cost` of a deployed stack."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from lambda_serving.cli.cost import cost
from lambda_serving.cli.logs import logs
from lambda_serving.cli.metrics import metrics
from lambda_serving.project.deployed.logs import Event, Reader, followed, told
from lambda_serving.project.deployed.metrics import Query, Window, read
from support import commands
from support.cloud import SYSTEM
from support.cloudformation import Stack
from support.deployed_project import API, Deployed, make_project

_STACK = f"--stack={SYSTEM}"
_MLP = f"/aws/lambda/{SYSTEM}-MLP"
_RELEASE = f"/aws/lambda/{SYSTEM}_release"
_ACCESS = f"/aws/vendedlogs/{SYSTEM}/access"


def _run(command: click.Command, *arguments: str) -> tuple[int, str, str]:
    return commands.run(command, arguments, {})


def _line(**fields: Any) -> str:
    return json.dumps(fields)


def test_logs_of_all_functions_come_in_the_order_of_time(deployed: Deployed) -> None:
    now = int(time.time() * 1000)
    deployed.log(_MLP, (now - 3000, "first"), (now - 1000, "third\n"))
    deployed.log(_RELEASE, (now - 2000, "second"))
    deployed.log(_ACCESS, (now - 1500, "a request"))
    deployed.log(_MLP, (now - 3_600_000, "an hour ago"))
    code, said, _ = _run(logs, _STACK)
    assert code == 0
    assert [line.split(" ", 1)[1] for line in said.splitlines()] == [
        "MLP first",
        "_release second",
        "MLP third",
    ]
    code, said, _ = _run(logs, "MLP", _STACK, "--since=2h")
    assert [line.split(" ", 2)[2] for line in said.splitlines()] == [
        "an hour ago",
        "first",
        "third",
    ]
    _, said, _ = _run(logs, "_access", _STACK)
    assert said.endswith(" _access a request\n")


def test_logs_as_json_are_whole(deployed: Deployed) -> None:
    now = int(time.time() * 1000)
    written = _line(_aws={}, RequestCount=1)
    deployed.log(_MLP, (now, written))
    assert _run(logs, _STACK) == (0, "", "")
    code, said, _ = _run(logs, _STACK, "--json")
    assert code == 0
    found = json.loads(said)
    assert (found["source"], found["stream"], found["message"]) == ("MLP", "1", written)
    assert found["time"].endswith("Z")


@pytest.mark.usefixtures("deployed")
def test_logs_of_an_unknown_model_say_whose_there_are() -> None:
    code, said, reason = _run(logs, "MPL", _STACK)
    assert (code, said) == (1, "")
    assert (
        f"Stack {SYSTEM} has no logs of MPL. It has those of: CNN, MLP, _access, _build" in reason
    )


def test_reader_finds_late_events_once(deployed: Deployed) -> None:
    now = int(time.time() * 1000)
    reader = Reader(deployed.logs, {_MLP: "MLP", _RELEASE: "_release"}, now - 60_000)
    deployed.log(_MLP, (now, "a"))
    assert [each.message for each in reader.read()] == ["a"]
    deployed.log(_MLP, (now, "b"))
    deployed.log(_RELEASE, (now - 600_000, "too late"), (now - 5000, "late"))
    assert [each.message for each in reader.read()] == ["late", "b"]
    assert list(reader.read()) == []


def test_following_goes_on_after_an_answer_that_did_not_come(deployed: Deployed) -> None:
    now, waits, told = int(time.time() * 1000), list[int](), list[str]()
    deployed.log(_MLP, (now, "a"))
    refused = [{"Code": "ThrottlingException", "Message": "Rate exceeded"}]

    def refuse(**_: object) -> tuple[AWSResponse, dict[str, Any]] | None:
        return (
            (AWSResponse("", 400, HTTPHeaders(), None), {"Error": refused.pop()})
            if refused
            else None
        )

    deployed.logs.meta.events.register("before-call", refuse)
    reader = Reader(deployed.logs, {_MLP: "MLP"}, now - 60_000)
    event = next(followed(reader, lambda: waits.append(1), told.append))
    assert (event.message, waits) == ("a", [1])
    assert ["Rate exceeded" in each for each in told] == [True]


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        ("plain\ntext", ["plain", "text"]),
        (_line(level="INFO", message="loaded"), ["INFO loaded"]),
        (_line(message={"a": 1}), ['{"a": 1}']),
        (
            _line(level="ERROR", message="no", exception="Traceback\nError"),
            ["ERROR no", "Traceback", "Error"],
        ),
        (
            _line(
                level="ERROR", message="no", errorType="E", errorMessage="m", stackTrace=["f\n", 2]
            ),
            ["ERROR no", "E: m", "f"],
        ),
        (
            _line(log_level="ERROR", errorType="E", errorMessage="m", stackTrace=[]),
            ["ERROR E: m"],
        ),
        (_line(_aws={}, RequestCount=1), []),
        (_line(type="platform.start", record={}), []),
        (
            _line(
                type="platform.report",
                record={
                    "metrics": {"durationMs": 12.5, "billedDurationMs": 13, "maxMemoryUsedMB": 300},
                    "status": "success",
                },
            ),
            ["REPORT took 12.5 ms, billed 13 ms, memory 300 MB"],
        ),
        (
            _line(
                type="platform.report", record={"status": "timeout", "metrics": {"durationMs": 9}}
            ),
            ["REPORT timeout: took 9 ms"],
        ),
        (_line(type="platform.report"), ["REPORT"]),
        (_line(other=1), ['{"other": 1}']),
        ("[" * 100_000, ["[" * 100_000]),
        ("3", ["3"]),
        ("", []),
    ],
)
def test_events_are_told_to_people(message: str, lines: list[str]) -> None:
    assert list(told(Event(0, "MLP", "1", message))) == lines


def test_control_characters_of_a_log_do_not_reach_the_terminal(deployed: Deployed) -> None:
    deployed.log(_MLP, (int(time.time() * 1000), "\x1b[31mred\x07"))
    _, said, _ = _run(logs, _STACK)
    assert said.endswith(" MLP \\x1b[31mred\\x07\n")


@pytest.fixture
def used(deployed: Deployed) -> Deployed:
    """Two versions that answered, and another stack's."""
    names = {"service": "lambda_serving", "model": "MLP"}
    for stack, version, requests in ((SYSTEM, "1", 1), (SYSTEM, "10", 3), ("other", "9", 7)):
        dimensions = {**names, "stack": stack, "version": version}
        for number in range(requests):
            deployed.count("LambdaServing", "RequestCount", 1, **dimensions)
            deployed.count("LambdaServing", "Latency", 10 * number + 5, **dimensions)
            deployed.count("LambdaServing", "ColdStart", int(number == 0), **dimensions)
    for dimensions in (names, {**names, "version": "10"}):
        deployed.count("LambdaServing", "ErrorCount", 1, stack=SYSTEM, **dimensions)
    for metric, value in (("Count", 5), ("4xx", 1), ("5xx", 0), ("Latency", 30)):
        deployed.count("AWS/ApiGateway", metric, value, ApiId=API)
    for function, milliseconds in ((f"{SYSTEM}-MLP", 4_000_000), (f"{SYSTEM}_build", 60_000)):
        deployed.count("AWS/Lambda", "Invocations", 4, FunctionName=function)
        deployed.count("AWS/Lambda", "Duration", milliseconds, FunctionName=function)
    return deployed


@pytest.mark.usefixtures("used")
def test_metrics_are_of_each_version_of_this_stack() -> None:
    code, said, _ = _run(metrics, _STACK, "--json")
    assert code == 0
    found = json.loads(said)
    names = ("model", "version", "requests", "errors", "p50", "p99", "cold_starts")
    assert [tuple(each[name] for name in names) for each in found["models"]] == [
        ("MLP", 1, 1, 0, 5.0, 5.0, 1),
        ("MLP", 10, 3, 1, 15.0, pytest.approx(25, abs=1), 1),
    ]
    assert found["api"] == {
        "requests": 5,
        "client_errors": 1,
        "server_errors": 0,
        "p50": 30.0,
        "p99": 30.0,
    }
    code, said, _ = _run(metrics, _STACK)
    assert code == 0
    assert [cell.strip() for cell in said.splitlines()[3].split("│")[1:-1]] == [
        *("MLP", "1", "1", "0", "5.0", "5.0", "1")
    ]
    assert "0 (4xx: 1)" in said


@pytest.mark.usefixtures("deployed")
def test_metrics_without_requests_say_so() -> None:
    code, said, _ = _run(metrics, _STACK)
    assert code == 0
    assert "No model has had requests" in said


@pytest.mark.parametrize(
    ("seconds", "now", "start", "end"),
    [
        (900, 3600, 2700, 3600),
        (900, 3601, 2760, 3660),
        (61, 120, 0, 120),
        (20 * 86400, 30 * 86400 + 1, 10 * 86400 + 300, 30 * 86400 + 300),
        (90 * 86400, 100 * 86400, 10 * 86400, 100 * 86400),
    ],
)
def test_window_ends_with_the_step_in_which_metrics_are_kept(
    seconds: int, now: float, start: int, end: int
) -> None:
    found = Window.of(seconds, now)
    assert (found.start.timestamp(), found.end.timestamp()) == (start, end)
    assert found.seconds == end - start


def test_any_number_of_metrics_is_read(deployed: Deployed) -> None:
    deployed.count("Any", "Latency", 7, number="501")
    queries = {
        number: Query("Any", "Latency", {"number": str(number)}, "Sum") for number in range(502)
    }
    found = read(queries, Window.of(3600, time.time()), deployed.cloudwatch)
    assert found == dict.fromkeys(range(502)) | {501: 7}


@pytest.mark.usefixtures("used")
def test_cost_is_time_memory_and_requests_at_the_price() -> None:
    code, said, _ = _run(cost, _STACK, "--json")
    assert code == 0
    found = json.loads(said)
    assert [(each["name"], each["invocations"]) for each in found["functions"]] == [
        (f"{SYSTEM}-MLP", 4),
        (f"{SYSTEM}_build", 4),
    ]
    assert found["functions"][0]["gb_seconds"] == 4000  # of 1024 MB
    assert found["functions"][0]["dollars"] == pytest.approx(4000 * 0.0000166667 + 4 * 0.2e-6)
    assert found["api_requests"] == 5
    assert found["dollars"] == pytest.approx(4060 * 0.0000166667 + 8 * 0.2e-6 + 5e-6)
    metrics_of_stack = 3 + 3 + 2
    assert (found["metrics"], found["alarms"], found["dashboards"]) == (metrics_of_stack, 2, 1)
    assert found["monthly"] == pytest.approx(metrics_of_stack * 0.3 + 2 * 0.1 + 3)
    code, said, _ = _run(cost, _STACK, "--days=7")
    assert code == 0
    assert "7 days" in said
    assert "$0.0677" in said
    assert "eu-west-1 may differ" in said


def test_cost_of_a_load_needs_no_stack_and_knows_both_architectures() -> None:
    load = ("--requests=1000000", "--milliseconds=12", "--memory=2048", "--json")
    code, said, _ = _run(cost, *load, "--cold-starts=1000", "--cold-milliseconds=2000")
    assert code == 0
    found = json.loads(said)
    gb_seconds = (1_000_000 * 12 + 1000 * 2000) / 1000 * 2
    assert [(each["architecture"], each["gb_seconds"]) for each in found["monthly"]] == [
        ("x86_64", gb_seconds),
        ("arm64", gb_seconds),
    ]
    assert [each["dollars"] for each in found["monthly"]] == pytest.approx(
        [gb_seconds * price + 0.2 + 1.0 for price in (0.0000166667, 0.0000133334)]
    )
    code, said, _ = _run(cost, *load[:-1])
    assert code == 0
    assert "$1.60" in said


@pytest.mark.parametrize(
    ("command", "arguments", "reason"),
    [
        (cost, ["--requests=1"], "--requests also needs --milliseconds"),
        (cost, ["--milliseconds=1"], "--milliseconds also needs --requests"),
        (cost, ["--requests=-1"], "Invalid value"),
        (cost, ["--requests=1", "--milliseconds=inf"], "Invalid value"),
        (cost, ["--requests=1", "--milliseconds=nan"], "Milliseconds must be numbers"),
        (logs, ["--stack="], "--stack is empty"),
        (cost, ["--days=0"], "Invalid value"),
        (metrics, ["--since=5"], "'5' must be a number with s, m, h or d"),
        (metrics, ["--since=0m"], "must be a number"),
        (metrics, ["--since=456d"], "at most 455d"),
        (metrics, ["--since=9999999999d"], "must be a number"),
        (logs, ["--since=-1h"], "must be a number"),
        (logs, ["--env=dev", _STACK], "either --env or --stack"),
        (logs, [], "There is no project here. Change into one, or name a stack"),
    ],
)
def test_wrong_usage_is_said(
    command: click.Command,
    arguments: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, said = _run(command, *arguments)
    assert code == 2
    assert reason in said


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("command", [logs, metrics, cost])
def test_stack_that_is_not_there_is_said(command: click.Command) -> None:
    code, said, reason = _run(command, "--stack=nobody", "--region=eu-west-1")
    assert (code, said) == (1, "")
    assert "Error: There is no stack nobody in eu-west-1. Check the name" in reason


def test_stack_of_another_kind_is_said(deployed: Deployed) -> None:
    deployed.stacks.add(Stack("theirs", {}))
    code, _, reason = _run(metrics, "--stack=theirs")
    assert code == 1
    assert "Stack theirs has no release function" in reason


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        ("", "No region of AWS is named. Use --region"),
        ("eu-west-1", "Name a profile that has some"),
    ],
)
def test_settings_of_aws_that_are_missing_are_said(region: str, reason: str) -> None:
    nothing = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "PROFILE", "REGION", "DEFAULT_REGION")
    environment = {f"AWS_{name}": None for name in nothing} | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    options = [f"--region={region}"] if region else []
    code, _, said = commands.run(logs, [_STACK, *options], environment)
    assert (code, reason in said) == (1, True)


def test_cost_of_a_load_needs_no_boto3() -> None:
    code = "import sys; sys.modules['boto3'] = None; from lambda_serving.cli import main; main()"
    load = ("cost", "--requests=1000", "--milliseconds=5", "--json")
    said = subprocess.check_output([sys.executable, "-c", code, *load], text=True)
    assert [each["architecture"] for each in json.loads(said)["monthly"]] == ["x86_64", "arm64"]


def test_profile_that_is_not_there_is_said() -> None:
    code, _, reason = _run(logs, "--stack=any", "--profile=nobody")
    assert code == 1
    assert "nobody" in reason


@pytest.mark.usefixtures("deployed")
def test_environment_of_the_project_names_the_stack(tmp_path: Path) -> None:
    make_project(tmp_path, f'[prod.deploy.parameters]\nstack_name = "{SYSTEM}"\n')
    assert _run(logs, "--env=prod") == (0, "", "")
    code, _, reason = _run(logs)
    assert (code, "has no environment 'dev'. It has: prod" in reason) == (1, True)
