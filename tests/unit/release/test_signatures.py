"""Differences between what callers send and get now and later."""

import pytest

from lambda_serving.dtypes import DType
from lambda_serving.errors import DataLoss
from lambda_serving.protos import plain_signature
from lambda_serving.protos.plain_signature import PlainSignature, TensorInfo
from lambda_serving.release.signatures import (
    Signatures,
    Tensor,
    changes,
    of_definitions,
    of_metadata,
)

_X, _Y = Tensor("float", "[n]"), Tensor("float", "[n, 10]")
_OLD: Signatures = {"serving_default": {"input x": _X, "output y": _Y}}


@pytest.mark.parametrize(
    ("now", "lines"),
    [
        (_OLD, []),
        (
            {"serving_default": {"input image": _X, "output y": _Y}},
            [
                "  signature serving_default",
                "  + input image: float [n]",
                "  - input x: float [n]",
            ],
        ),
        (
            {"serving_default": {"input x": Tensor("int32", "[n]"), "output y": _Y}},
            ["  signature serving_default", "  ~ input x: dtype float -> int32"],
        ),
        (
            {"serving_default": {"input x": _X, "output y": Tensor("half", "[n, 12]")}},
            [
                "  signature serving_default",
                "  ~ output y: dtype float -> half, shape [n, 10] -> [n, 12]",
            ],
        ),
        (
            {**_OLD, "embed": {"input x": _X}},
            ["+ signature embed", "  + input x: float [n]"],
        ),
        ({}, ["- signature serving_default"]),
        (
            {"embed": {}},
            ["+ signature embed", "- signature serving_default"],
        ),
    ],
)
def test_changes_are_told_signature_by_signature(now: Signatures, lines: list[str]) -> None:
    assert [*changes(_OLD, now)] == lines


def test_an_input_is_not_an_output_of_the_same_name() -> None:
    assert [*changes({"s": {"input x": _X}}, {"s": {"output x": _X}})] == [
        "  signature s",
        "  - input x: float [n]",
        "  + output x: float [n]",
    ]


def _definition(*, callable_: bool = True) -> bytes:
    inputs = {"x": TensorInfo("x:0", DType.FLOAT, (-1, 28)), "any": TensorInfo("a:0", 9, None)}
    outputs = {"y": TensorInfo("y:0", DType.STRING, ())} if callable_ else {}
    return plain_signature.write(PlainSignature(inputs, outputs, "predict"))


def test_signatures_are_those_that_can_be_called() -> None:
    definitions = {
        "s": _definition(),
        "__saved_model_init_op": _definition(),
        "none": _definition(callable_=False),
    }
    assert of_definitions(definitions) == {
        "s": {
            "input any": Tensor("int64", "any"),
            "input x": Tensor("float", "[n, 28]"),
            "output y": Tensor("string", "[]"),
        }
    }


@pytest.mark.parametrize(
    "answer",
    [
        {"statusCode": 404, "body": {"error": "Servable not found"}},
        {"statusCode": 200, "body": "{}"},
        {"statusCode": 200, "body": {"metadata": {"signature_def": {"signature_def": [1]}}}},
        {},
        None,
        [],
        "x",
    ],
)
def test_other_answers_are_no_signatures(answer: object) -> None:
    with pytest.raises(DataLoss, match="It does not tell its signatures, but"):
        of_metadata(answer)
