"""Blocks are written into and taken from templates that people edit, and nothing else changes."""

import re
from collections.abc import Callable

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lambda_serving.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
)
from lambda_serving.project.starting import starter_template
from lambda_serving.project.template import Block, blocks, with_block, without_block

_EMPTY = starter_template()
_MLP = with_block(_EMPTY, "MLP", "models/MLP")
_TWO = with_block(_MLP, "half_plus_two", "models/half_plus_two")


def test_template_of_a_new_project_has_no_models() -> None:
    assert blocks(_EMPTY) == []
    assert "examples/" not in _EMPTY


def test_block_and_url_are_all_that_is_added() -> None:
    [(block, output)] = re.findall(
        r"\n(  MLP:\n(?:    .*\n)+)\nOutputs:\n(?s:.*)(  MLPPredictUrl:\n.*\n)\Z", _MLP
    )
    assert _MLP.replace(f"\n{block}", "").replace(output, "") == _EMPTY
    assert block == (
        "  MLP:\n"
        "    Type: AWS::CloudFormation::Stack\n"
        "    Properties:\n"
        "      TemplateURL: infra/model.yaml\n"
        "      Parameters:\n"
        "        <<: *settings\n"
        "        ModelName: MLP\n"
        "        ModelFolder: models/MLP\n"
    )
    assert output == "  MLPPredictUrl:\n    Value: !GetAtt MLP.Outputs.PredictUrl\n"


def test_blocks_are_told_with_their_lines() -> None:
    lines = [_TWO.split("\n").index(f"  {id_}:") + 1 for id_ in ("MLP", "HalfPlusTwo")]
    assert blocks(_TWO) == [
        Block("MLP", "MLP", "models/MLP", "function", lines[0]),
        Block("HalfPlusTwo", "half_plus_two", "models/half_plus_two", "function", lines[1]),
    ]


@pytest.mark.parametrize("name", ["no", "3d", "1e3", "007", "null", "True", "0x1F"])
def test_name_that_yaml_would_not_read_as_text_is_read_as_text(name: str) -> None:
    text = with_block(_EMPTY, name, f"models/{name}")
    [block] = blocks(text)
    found = yaml.safe_load(
        text[text.index(f"\n  {block.id}:") : text.index("\nOutputs")].replace(
            "<<: *settings", "x: 1"
        )
    )
    told = found[block.id]["Properties"]["Parameters"]
    assert (told["ModelName"], told["ModelFolder"]) == (name, f"models/{name}")


@pytest.mark.parametrize("name", ["System", "ModelSettings", "runtime", "memory-size", "MLP-"[:3]])
def test_id_is_neither_that_of_a_resource_nor_of_a_parameter(name: str) -> None:
    block = blocks(with_block(_EMPTY, name, "models/x"))[-1]
    assert f"\n  {block.id}:\n" not in _EMPTY


def _wide(text: str, section: str) -> str:
    """The text with twice the blanks before each line from a section on."""
    before, found, after = text.partition(section)
    return before + found + re.sub("^( +)", r"\1\1", after, flags=re.MULTILINE)


_EDITS: dict[str, Callable[[str], str]] = {
    "comments": lambda text: text.replace(
        "        ModelName: MLP\n",
        "        # ours\n        ModelName: MLP # the first\n\n        # Shifting: later\n",
    ),
    "resource after": lambda text: text.replace(
        "\nOutputs:", "\n  # a topic\n  Topic:\n    Type: AWS::SNS::Topic\n  # the end\n\nOutputs:"
    ),
    "list as far left as its key": lambda text: text.replace(
        "\nOutputs:", "\n  R:\n    Type: X\n    DependsOn:\n    - System\n\nOutputs:"
    ),
    "block scalar": lambda text: text.replace(
        "\nOutputs:", "\n  D:\n    Type: X\n    Properties:\n      T: |\n        # a\n\n\nOutputs:"
    ),
    "alias": lambda text: text.replace(
        "\nOutputs:", "\n  E:\n    Type: X\n    Properties: *settings\n\nOutputs:"
    ),
    "section after": lambda text: f"{text}\nConditions:\n  Never: !Equals [a, b]\n",
    "outputs first": lambda text: (
        f"{text[text.index('Outputs:') :]}\n{text[: text.index('Outputs:')]}"
    ),
    "blank lines": lambda text: f"\n\n{text}\n\n\n",
    "no line end": lambda text: text.rstrip("\n"),
    "words of others": lambda text: f"# Grüße, 世界 \U0001f600\u2028# a line for YAML\n{text}",
    "four columns": lambda text: _wide(text, "Resources:"),
    "windows": lambda text: text.replace("\n", "\r\n"),
    "byte order mark": lambda text: f"\ufeff{text}",
}
"""What people do to their templates, in an order in which all of it can be done."""
_NAMES = st.sampled_from(["a", "b-c", "d_e", "no", "9"])


@settings(deadline=None, max_examples=20)
@given(st.sets(st.sampled_from(sorted(_EDITS))), _NAMES)
def test_adding_and_removing_gives_the_text_of_before(edits: set[str], name: str) -> None:
    text = _TWO
    for edit in filter(edits.__contains__, _EDITS):
        text = _EDITS[edit](text)
    added = with_block(text, name, f"models/{name}")
    assert [block.name for block in blocks(added)] == ["MLP", "half_plus_two", name]
    newline = "\r\n" if "\r\n" in text else "\n"
    assert without_block(added, name) in {text, f"{text}{newline}"}
    lines = iter(added.splitlines())
    assert all(line in lines for line in text.splitlines())  # in this order
    assert not re.search("(?<!\r)\n", added) or "\r\n" not in text


@pytest.mark.parametrize("edit", sorted(_EDITS))
def test_own_words_of_others_stay_when_a_block_goes(edit: str) -> None:
    text = _EDITS[edit](_TWO)
    left = without_block(text, "half_plus_two")
    assert [block.name for block in blocks(left)] == ["MLP"]
    gone = [line.strip() for line in text.splitlines() if line not in left.splitlines()]
    assert set(gone) <= {
        "HalfPlusTwo:",
        "ModelName: half_plus_two",
        "ModelFolder: models/half_plus_two",
        "HalfPlusTwoPredictUrl:",
        "Value: !GetAtt HalfPlusTwo.Outputs.PredictUrl",
    }


def test_comment_directly_above_a_block_goes_with_it() -> None:
    text = _TWO.replace(
        "  HalfPlusTwo:\n    Type", "  # of Ann\n  # in March\n  HalfPlusTwo:\n    Type"
    )
    assert without_block(text, "half_plus_two") == _MLP


def _edited(old: str, new: str) -> str:
    assert old in _MLP
    return _MLP.replace(old, new)


@pytest.mark.parametrize(
    ("text", "name", "error", "told"),
    [
        (_MLP, "mlp", AlreadyExists, "has the model MLP"),
        (_MLP, "MLP", AlreadyExists, "has the model MLP"),
        (_MLP, "a b", InvalidArgument, "such as a_b"),
        ("Resources: [", "a", InvalidArgument, "not YAML: .* line 2"),
        ("- a\n", "a", InvalidArgument, "no sections"),
        ("", "a", InvalidArgument, "no sections"),
        ("a: \0", "a", InvalidArgument, "not YAML"),
        (f"Resources: {'[' * 5000}", "a", InvalidArgument, "not YAML"),
        ("Resources:\n", "a", InvalidArgument, "Resources must be there once"),
        (f"{_MLP}\nResources:\n  X: {{}}\n", "a", InvalidArgument, "once, as a mapping"),
        (_edited("ModelSettings:", "System:"), "a", InvalidArgument, "System is there twice"),
        (_MLP.replace("settings", "other"), "b", None, ""),
        (_edited("&settings", "").replace("<<: *settings", ""), "b", FailedPrecondition, "anchor"),
        ("Resources: {System: {P: &settings {}}}\n", "a", FailedPrecondition, "anchor"),
        (_edited("ModelName: MLP", "ModelName: !Ref N"), "a", InvalidArgument, "plain text"),
        (_edited("ModelName: MLP", "Other: MLP"), "a", InvalidArgument, "MLP has no ModelName"),
    ],
)  # fmt: skip
def test_template_that_no_command_can_edit_is_refused_with_a_sentence(
    text: str, name: str, error: type[ServingError] | None, told: str
) -> None:
    if error is None:
        assert len(blocks(with_block(text, name, "models/x"))) == 2
        return
    with pytest.raises(error, match=told):
        with_block(text, name, "models/x")


def test_section_in_braces_is_for_people() -> None:
    text = "Resources: {S: {M: {\n  Parameters: &settings\n    {}}}}\n"
    with pytest.raises(FailedPrecondition, match="line 1: Resources is written in braces"):
        with_block(text, "a", "models/a")


@pytest.mark.parametrize(
    "reference",
    [
        "!Ref MLP",
        "!GetAtt MLP.Outputs.PredictUrl",
        "!GetAtt [MLP, Outputs.PredictUrl]",
        "!Sub ${MLP.Outputs.PredictUrl}/x",
        "!Sub ['${a}${MLP}', {a: b}]",
        "{Ref: MLP}",
        "{Fn::GetAtt: [MLP, Arn]}",
        "{'Fn::Sub': '${MLP}'}",
        "!Join ['', [a, !Ref MLP]]",
    ],
)
def test_block_that_something_else_refers_to_stays(reference: str) -> None:
    other = f"\n  Other:\n    Type: X\n    Properties:\n      A: {reference}\n\nOutputs:"
    with pytest.raises(FailedPrecondition, match="refers to MLP"):
        without_block(_MLP.replace("\nOutputs:", other), "MLP")
    output = f"{_MLP}  Mine:\n    Value: {reference}\n"
    assert without_block(output, "MLP") == _EMPTY  # what only tells of it goes with it


@pytest.mark.parametrize("value", ["MLP", "!Ref MLP2", "!Sub ${!MLP}", "!Sub about MLP", "MLP.x"])
def test_word_that_only_looks_like_a_reference_is_none(value: str) -> None:
    other = f"\n  Other:\n    Type: X\n    Properties:\n      A: {value}\n\nOutputs:"
    assert without_block(_MLP.replace("\nOutputs:", other), "MLP") == _EMPTY.replace(
        "\nOutputs:", other
    )


def test_depending_on_a_block_is_a_reference() -> None:
    for depends in ("MLP", "[System, MLP]"):
        other = f"\n  Other:\n    Type: X\n    DependsOn: {depends}\n\nOutputs:"
        with pytest.raises(FailedPrecondition, match="refers to MLP"):
            without_block(_MLP.replace("\nOutputs:", other), "MLP")


def test_unknown_model_is_told_with_those_that_are_there() -> None:
    with pytest.raises(NotFound, match="Its models: MLP, half_plus_two$"):
        without_block(_TWO, "mlp")
    with pytest.raises(NotFound, match="Its models: none$"):
        without_block(_EMPTY, "a")


def test_outputs_are_made_where_there_are_none() -> None:
    text = _EMPTY[: _EMPTY.index("\nOutputs:")]
    added = with_block(text, "a", "models/a")
    assert added.endswith("\n\nOutputs:\n  APredictUrl:\n    Value: !GetAtt A.Outputs.PredictUrl\n")
