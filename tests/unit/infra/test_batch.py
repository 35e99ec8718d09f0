"""The stack of batch jobs: what its jobs may do, and that nobody reaches them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.template_rules import (
    View,
    logs_are_kept_apart_and_not_for_ever,
    policies_have_no_wildcards,
)

_TEMPLATE = Path(__file__).parents[3] / "infra/batch.yaml"


@pytest.fixture(scope="module")
def batch(read: Callable[..., list[View]]) -> View:
    [view] = read(_TEMPLATE)
    return view


def _properties(view: View, name: str) -> dict[str, Any]:
    found: dict[str, Any] = view["stacks"][""][name]["Properties"]
    return found


@pytest.mark.parametrize(
    "rule",
    [policies_have_no_wildcards, logs_are_kept_apart_and_not_for_ever],
    ids=lambda rule: rule.__name__,
)
def test_rule_has_no_complaint(rule: Callable[[View], list[str]], batch: View) -> None:
    assert rule(batch) == []


def test_jobs_have_no_public_address_and_nothing_comes_in(batch: View) -> None:
    container = _properties(batch, "Job")["ContainerProperties"]
    assert container["NetworkConfiguration"] == {"AssignPublicIp": "DISABLED"}
    group = _properties(batch, "NoWayIn")
    assert "SecurityGroupIngress" not in group
    assert [rule["FromPort"] for rule in group["SecurityGroupEgress"]] == [443]


def test_jobs_are_not_root(batch: View) -> None:
    assert _properties(batch, "Job")["ContainerProperties"]["User"] not in {"", "0", "root"}


def test_bad_rows_are_not_tried_again_and_interruptions_are(batch: View) -> None:
    tries = _properties(batch, "Job")["RetryStrategy"]
    assert tries["Attempts"] > 1
    exits = [on["OnExitCode"] for on in tries["EvaluateOnExit"] if on["Action"] == "EXIT"]
    assert exits == ["4", "2"]
    assert tries["EvaluateOnExit"][-1] == {"OnReason": "*", "Action": "RETRY"}


def test_capacity_is_spot_and_there_only_for_jobs(batch: View) -> None:
    resources = _properties(batch, "Capacity")["ComputeResources"]
    assert resources["Type"] == "FARGATE_SPOT"
