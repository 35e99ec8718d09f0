"""Names of models, blocks and stacks, made of any text."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving.errors import InvalidArgument
from lambda_serving.project.names import (
    MAX_STACK,
    MODEL_NAME,
    check_model,
    model_id,
    model_like,
    stack_like,
)

_MODEL = (Path(__file__).parents[3] / "infra/model.yaml").read_text()
_STACK = re.compile("[A-Za-z][A-Za-z0-9-]*", re.ASCII)  # CloudFormation's CreateStack


def test_rules_are_those_of_the_template() -> None:
    assert f'AllowedPattern: "{MODEL_NAME}"' in _MODEL
    assert f"MaxLength: {MAX_STACK}\n" in _MODEL
    check_model("a" * 40)
    assert "MaxLength: 40\n" in _MODEL


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("my model", "my_model"),
        ("模型", "model"),
        ("../etc", "etc"),
        ("a__b", "a_b"),
        ("-x-", "x"),
        ("a" * 41, "a" * 40),
        ("", "model"),
        ("v1.2", "v1_2"),
        ("x\n", "x"),
        ("٣", "model"),
    ],
)
def test_name_that_aws_refuses_is_refused_with_one_that_it_takes(name: str, proposed: str) -> None:
    with pytest.raises(InvalidArgument, match=f"such as {proposed}$"):
        check_model(name)


@given(st.text())
def test_any_text_becomes_names(text: str) -> None:
    check_model(model_like(text))
    stack = stack_like(text)
    assert _STACK.fullmatch(f"{stack}-prod")
    assert len(f"{stack}-prod") <= MAX_STACK


@given(st.from_regex(MODEL_NAME, fullmatch=True))
def test_id_is_alphanumeric_free_and_read_as_text(name: str) -> None:
    taken = {model_id(name, ())}
    taken.add(made := model_id(name, taken))
    assert len(taken) == 2
    assert re.fullmatch("[A-Za-z][A-Za-z0-9]*", made, re.ASCII)
    assert list(yaml.safe_load("".join(f"{each}: 1\n" for each in taken))) == list(taken)
