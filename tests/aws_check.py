"""Runs the commands of docs/aws-assumptions.md on a real account, and compares their output.

The page is the only list. Its commands are those of the AWS CLI, so that a reader can run one
alone. Here botocore runs them, as it does for the CLI, which need not be installed.
"""

import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Any

import botocore.session
import click
import jmespath
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError
from botocore.model import OperationModel, Shape
from jmespath.exceptions import JMESPathError
from rich.console import Console
from rich.table import Table

__all__ = [
    "PAGE",
    "VARIABLES",
    "Command",
    "Row",
    "main",
    "outcome",
    "parse",
    "rows",
    "run",
    "variables",
]

PAGE = Path(__file__).parents[1] / "docs/aws-assumptions.md"
VARIABLES = (
    *("STACK", "REGION", "ACCOUNT", "API", "BUCKET", "MODEL", "FUNCTION", "ROLE", "REPOSITORY"),
    *("QUEUE", "RELEASE", "BUILD"),
)
"""What the tool sets in commands."""
_COLUMNS = 4
_SHOWN = re.compile(r"`(?P<command>aws [^`]+)` → `(?P<expected>[^`]+)`")
_BY_HAND = "By hand: "
_READS = re.compile(r"(get|list|describe|head|batch-get|test|simulate|lookup|validate|filter)-.+")
_VARIABLE = re.compile(r"\$(?P<brace>\{)?(?P<name>[A-Z]+)(?(brace)\})")
_SERVICES = {"s3api": "s3"}
_WIDTH = 200  # of the table where it goes to a file
_CLI_ONLY = {"output": 1, "region": 1, "cli-binary-format": 1, "no-cli-pager": 0, "no-paginate": 0}


@dataclass(frozen=True, slots=True)
class Row:
    """A belief; a command and what it prints, or neither and what to do by hand."""

    section: str
    belief: str
    stand_in: str
    command: str
    expected: str
    by_hand: str


@dataclass(frozen=True, slots=True)
class Command:
    """A call of a service, and the part of its answer to show."""

    service: str
    operation: str
    parameters: Mapping[str, Any]
    query: str
    reads: bool
    """Whether it changes nothing and invokes nothing."""


def rows(text: str) -> list[Row]:
    """The rows of a page; raises ValueError for one that the tool could not run."""
    found, section = [], ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        if not line.startswith("| ") or line.startswith(("| what we believe", "| ---")):
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) != _COLUMNS:
            raise ValueError(f"A row has {len(cells)} columns, not {_COLUMNS}: {line}")
        belief, _, stand_in, shown = cells
        match = _SHOWN.fullmatch(shown)
        if match:
            found.append(Row(section, belief, stand_in, match["command"], match["expected"], ""))
        elif shown.startswith(_BY_HAND):
            found.append(Row(section, belief, stand_in, "", "", shown.removeprefix(_BY_HAND)))
        else:
            raise ValueError(f"Neither `aws ...` → `...` nor By hand: ... but {shown}")
    return found


def parse(command: str, values: Mapping[str, str], session: Any) -> Command:
    """A command of the AWS CLI with `$NAME`s filled in.

    Raises ValueError for anything else, according to the services' own descriptions.
    """
    words = [_filled(word, values) for word in shlex.split(command)]
    _, name, operation, *rest = words
    service = _SERVICES.get(name, name)
    model = session.get_service_model(service)
    known = {xform_name(each, "-"): each for each in model.operation_names}
    if operation not in known:
        raise ValueError(f"{name} has no operation {operation}")
    options = dict(_options(rest))
    query = " ".join(options.pop("query", []))
    described = model.operation_model(known[operation])
    return Command(
        service,
        known[operation],
        _parameters(described, options),
        query,
        _READS.fullmatch(operation) is not None,
    )


def _filled(word: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: values.get(match["name"], match[0]), word)


def _options(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each `--name` with the words that follow it. A word before them is a file to write."""
    position = 0
    while position < len(words):
        name = words[position]
        position += 1
        if not name.startswith("--"):
            continue
        end = position
        most = _CLI_ONLY.get(name[2:], 1 if name == "--query" else len(words))
        while end < min(len(words), position + most) and not words[end].startswith("--"):
            end += 1
        if name[2:] not in _CLI_ONLY:
            yield name[2:], list(words[position:end])
        position = end


def _parameters(operation: OperationModel, options: Mapping[str, list[str]]) -> dict[str, Any]:
    members = operation.input_shape.members if operation.input_shape else {}
    names = {xform_name(member, "-"): member for member in members}
    parameters = {}
    for option, words in options.items():
        name = names.get(option) or names.get(option.removeprefix("no-"))
        if name is None:
            raise ValueError(f"{operation.name} has no option --{option}")
        shape = members[name]
        parameters[name] = (
            not option.startswith("no-") if shape.type_name == "boolean" else _value(shape, words)
        )
    return parameters


def _value(shape: Shape, words: list[str]) -> Any:
    if (
        words
        and words[0].startswith(("{", "["))
        and shape.type_name in {"list", "structure", "map"}
    ):
        return json.loads(" ".join(words))
    if shape.type_name == "list":
        element: Shape = shape.member  # type: ignore[attr-defined] # of lists alone
        return [_value(element, [word]) for word in words]
    if shape.type_name in {"structure", "map"}:
        return dict(pair.split("=", 1) for word in words for pair in word.split(","))
    [word] = [each for each in words if each != "/dev/stdout"]
    if shape.type_name in {"integer", "long"}:
        return int(word)
    return word.encode() if shape.type_name == "blob" else word


def run(command: Command, session: Any) -> str:
    """What the AWS CLI would print, as compact JSON, or the code of the error."""
    client = session.create_client(command.service)
    method = xform_name(command.operation)
    try:
        if client.can_paginate(method):
            pages = client.get_paginator(method).paginate(**command.parameters)
            answer = pages.build_full_result()
        else:
            answer = getattr(client, method)(**command.parameters)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    except BotoCoreError as error:
        return str(error)
    payload = answer.pop("Payload", None)
    answer.pop("ResponseMetadata", None)
    try:
        found = jmespath.search(command.query, answer) if command.query else answer
    except JMESPathError as error:  # the answer lacks the part
        found = str(error)
    return (payload.read().decode() if payload else "") + _text(found)


def _text(found: Any) -> str:
    return found if isinstance(found, str) else json.dumps(found, default=str)


def _as_expected(found: str, expected: str) -> bool:
    try:
        return bool(json.loads(found) == json.loads(expected))
    except ValueError:
        return fnmatchcase(found, re.sub(r"[?\[]", r"[\g<0>]", expected))


def variables(stack: str, session: Any) -> dict[str, str]:
    """The values of `VARIABLES` for a stack that is deployed."""
    stacks = (each for each in _resources(session, stack).values() if _is_stack(each))
    nested = (each["PhysicalResourceId"] for each in stacks)
    models = [model for each in nested if "PredictFunction" in (model := _resources(session, each))]
    if not models:
        raise click.ClickException(f"Stack {stack} has no model with a function")
    function = models[0]["PredictFunction"]["PhysicalResourceId"]
    code = session.create_client("lambda").get_function(FunctionName=function)["Code"]
    identity = session.create_client("sts").get_caller_identity()
    [told] = session.create_client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in told["Outputs"]}
    return {
        "STACK": stack,
        "REGION": session.get_config_variable("region"),
        "ACCOUNT": identity["Account"],
        "API": outputs["ApiId"],
        "BUCKET": outputs["ModelsBucket"],
        "MODEL": function.removeprefix(f"{stack}-"),
        "FUNCTION": function,
        "ROLE": models[0]["Role"]["PhysicalResourceId"],
        "REPOSITORY": re.split("[:@]", code["ImageUri"].partition("/")[2])[0],
        "QUEUE": outputs["ReleaseQueueUrl"],
        "RELEASE": f"{stack}_release",
        "BUILD": f"{stack}_build",
    }


def _resources(session: Any, stack: str) -> dict[str, Any]:
    client = session.create_client("cloudformation")
    found = client.describe_stack_resources(StackName=stack)["StackResources"]
    return {each["LogicalResourceId"]: each for each in found}


def _is_stack(resource: Mapping[str, Any]) -> bool:
    return bool(resource["ResourceType"] == "AWS::CloudFormation::Stack")


def outcome(row: Row, values: Mapping[str, str], session: Any, *, write: bool) -> tuple[str, str]:
    """What was found, and whether it is as expected."""
    if row.by_hand:
        return row.by_hand, "by hand"
    command = parse(row.command, values, session)
    if not (command.reads or write):
        return "WRITE=1 runs it", "not run"
    found = run(command, session)
    return found, "yes" if _as_expected(found, _filled(row.expected, values)) else "NO"


def planned(row: Row, values: Mapping[str, str], session: Any) -> tuple[str, str]:
    """The command that would be run, and what it takes to run it."""
    if row.by_hand:
        return row.by_hand, "by hand"
    reads = parse(row.command, values, session).reads
    return _filled(row.command, values), "reads" if reads else "WRITE=1"


@click.command()
@click.argument("stack")
@click.option("--dry-run", is_flag=True, help="Print the commands, run none.")
@click.option("--write", is_flag=True, help="Run those that create or invoke something, too.")
def main(stack: str, *, dry_run: bool, write: bool) -> None:
    """Check our beliefs about AWS on the account of STACK; the exit code is 1 if one is wrong."""
    page = rows(PAGE.read_text(encoding="utf-8"))
    session = botocore.session.get_session()
    title = f"What we believe of AWS: {stack}"
    if dry_run:
        values = {"STACK": stack}
        table = Table("belief", "expected", "command", "runs", title=title)
        _print(table, page, values, [planned(row, values, session) for row in page])
        return
    try:
        values = variables(stack, session)
    except (BotoCoreError, ClientError) as error:
        raise click.ClickException(f"Stack {stack} cannot be read: {error}") from error
    table = Table("belief", "expected", "found", "ok", title=title)
    found = [outcome(row, values, session, write=write) for row in page]
    _print(table, page, values, found)
    sys.exit(any(ok == "NO" for _, ok in found))


def _print(
    table: Table, page: list[Row], values: Mapping[str, str], ends: list[tuple[str, str]]
) -> None:
    """Prints all rows by section, each with its last two columns, and counts the last column."""
    for section, pairs in groupby(zip(page, ends, strict=True), lambda pair: pair[0].section):
        table.add_section()
        table.add_row(f"[bold]{section}")
        for row, end in pairs:
            cells = (row.belief, _filled(row.expected, values), *end)
            table.add_row(*map(_escaped, cells))
    counts = Counter(last for _, last in ends)
    table.caption = ", ".join(f"{count} {last}" for last, count in counts.items())
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


if __name__ == "__main__":
    main()
