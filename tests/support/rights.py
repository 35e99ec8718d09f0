"""Rights that a page lists, given to a role of a stand-in and compared with what it used."""

import re
from collections.abc import Mapping
from typing import Any

import click
from click.testing import CliRunner

from support.cloud import ACCOUNT, Cloud
from support.iam.policies import allows, listed
from support.iam.roles import Role

__all__ = ["not_needed", "run_as", "statements_of", "take"]

Statements = list[dict[str, Any]]


def statements_of(page: str, values: Mapping[str, str]) -> dict[str, Statements]:
    """The statements of a page's table, by its first column; `values` are names and their values.

    A row is `| command | actions | resources |`; without a command it belongs to the one above.
    """
    found, who = dict[str, Statements](), ""
    for first, actions, resources in re.findall(
        r"^\|([^|]*)\| (`\w+:\w+`[^|]*)\| (`(?:arn:|\*)[^|]*)\|$", page, re.MULTILINE
    ):
        who = first.strip() or who
        arns = [
            re.sub("|".join(values), lambda name: values[name[0]], arn)
            for arn in re.findall("`(.*?)`", resources)
        ]
        statement = {"Effect": "Allow", "Action": re.findall("`(.*?)`", actions), "Resource": arns}
        found.setdefault(who, []).append(statement)
    return found


def take(deployed: Cloud, role: str, statements: Statements) -> None:
    """Makes a role with these statements."""
    made = Role(f"arn:aws:iam::{ACCOUNT}:role/{role}", statements, [])
    deployed.guard.roles = {**deployed.guard.roles, role: made}


def run_as(deployed: Cloud, role: str, command: click.Command, *arguments: str) -> str:
    """The output of a command that a role runs."""
    with deployed.acting(role):
        said = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert said.exit_code == 0, said.output
    return said.output


def not_needed(
    deployed: Cloud, role: str, statements: Statements, unseen: frozenset[str] = frozenset()
) -> list[tuple[str, str]]:
    """Actions on resources that statements allow and nobody used, whatever their conditions.

    `unseen` are actions that the stand-ins do not ask for.
    """
    used = [(what, on) for who, what, on in deployed.guard.used if who == role]
    return [
        (action, resource)
        for statement in statements
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
        if action not in unseen
        and not any(
            allows([{"Effect": "Allow", "Action": action, "Resource": resource}], what, on, {})
            for what, on in used
        )
    ]
