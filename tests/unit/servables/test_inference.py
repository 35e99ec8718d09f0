"""Classify and regress over servables that answer what a case tells them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from lambda_serving import protos
from lambda_serving.dtypes import Array, DType
from lambda_serving.errors import InvalidArgument
from lambda_serving.servables.inference import (
    Classifications,
    classification,
    regression,
)
from lambda_serving.servables.servable import Servable, Signature, TensorSpec
from support.functions import Computed, servable_of

_EXAMPLES = [b"one\0", b"two"]
_LABELS = np.array([[b"car", b"bike"], [b"bus", b"car"]], object)
_SCORES = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)


def _servable(
    answer: Mapping[str, Array],
    *,
    name: str = "serving_default",
    inputs: Sequence[str] = ("inputs",),
) -> tuple[Servable, Computed]:
    definition = protos.message("tensorflow.SignatureDef")(method_name="any/method")
    for alias in inputs:
        definition.inputs[alias].name = f"{alias}:0"
    signature = Signature(
        name,
        {alias: TensorSpec(DType.STRING, (None,), f"{alias}:0") for alias in inputs},
        {alias: TensorSpec(DType.FLOAT, None, f"{alias}:0") for alias in answer},
        method_name="any/method",
        definition=definition.SerializeToString(),
        defaults={},
    )
    function = Computed(lambda *_: list(answer.values()))
    return servable_of(signature, function=function), function


def _equal(got: Classifications, wanted: Classifications) -> bool:
    return all(
        (a is None and b is None)
        or (a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b))
        for a, b in ((got.classes, wanted.classes), (got.scores, wanted.scores))
    )


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ({"classes": _LABELS, "scores": _SCORES}, Classifications(_LABELS, _SCORES)),
        ({"classes": _LABELS}, Classifications(_LABELS, None)),
        ({"scores": _SCORES}, Classifications(None, _SCORES)),
        ({"other": _SCORES, "scores": _SCORES}, Classifications(None, _SCORES)),
    ],
    ids=["both", "classes", "scores", "scores and something else"],
)
def test_classify_answers_labels_and_scores(
    answer: dict[str, Array], wanted: Classifications
) -> None:
    servable, function = _servable(answer)
    assert _equal(classification(servable, "", _EXAMPLES).perform(servable, 5), wanted)
    [([fed], timeout_ms)] = function.calls
    assert (fed.tolist(), timeout_ms) == (_EXAMPLES, 5)


@pytest.mark.parametrize("shape", [(2,), (2, 1)], ids=str)
def test_regress_answers_a_vector(shape: tuple[int, ...]) -> None:
    servable, function = _servable({"outputs": np.array([1.5, 2.5], np.float32).reshape(shape)})
    values = regression(servable, "serving_default", _EXAMPLES).perform(servable, 9)
    np.testing.assert_array_equal(values, np.array([1.5, 2.5], np.float32), strict=True)
    [([fed], timeout_ms)] = function.calls
    assert (fed.tolist(), timeout_ms) == (_EXAMPLES, 9)


@pytest.mark.parametrize("call", [classification, regression])
@pytest.mark.parametrize(("name", "shown"), [("nope", "nope"), ("", "serving_default")])
def test_unknown_signature_is_named(call: Any, name: str, shown: str) -> None:
    servable, _ = _servable({"outputs": _SCORES}, name="other")
    with pytest.raises(InvalidArgument) as raised:
        call(servable, name, _EXAMPLES)
    assert str(raised.value) == f"No signature was found with the name: {shown}"


_SHOWN = 'inputs {\n  key: "x"\n  value {\n    name: "x:0"\n  }\n}\nmethod_name: "any/method"\n'
_SHOWN_INPUTS = _SHOWN.replace('"x"', '"inputs"').replace('"x:0"', '"inputs:0"')


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([], ["scores"], "Expected one input Tensor."),
        (["inputs", "x"], ["scores"], "Expected one input Tensor."),
        (["inputs"], list("abc"), "Expected one or two output Tensors, found 3"),
        (["x"], ["scores"], f"No classification inputs found in SignatureDef: {_SHOWN}"),
        (
            ["inputs"],
            ["y", "z"],
            (
                'Expected classification signature outputs to contain at least one of "classes" or'
                f' "scores". Signature was: {_SHOWN_INPUTS}'
            ),
        ),
    ],
)
def test_signature_that_is_no_classifier_is_refused(
    inputs: list[str], outputs: list[str], message: str
) -> None:
    servable, function = _servable(dict.fromkeys(outputs, _SCORES), inputs=inputs)
    with pytest.raises(InvalidArgument) as raised:
        classification(servable, "", _EXAMPLES).perform(servable)
    assert (str(raised.value), function.calls) == (message, [])


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([], ["outputs"], "Expected one input Tensor."),
        (["inputs", "x"], ["outputs"], "Expected one input Tensor."),
        (["inputs"], ["outputs", "y"], "Expected one output Tensor."),
        (["x"], ["outputs"], f"No regression inputs found in SignatureDef: {_SHOWN}"),
        (["inputs"], ["y"], f"No regression outputs found in SignatureDef: {_SHOWN_INPUTS}"),
    ],
)
def test_signature_that_is_no_regressor_is_refused(
    inputs: list[str], outputs: list[str], message: str
) -> None:
    servable, function = _servable(dict.fromkeys(outputs, _SCORES), inputs=inputs)
    with pytest.raises(InvalidArgument) as raised:
        regression(servable, "", _EXAMPLES).perform(servable)
    assert (str(raised.value), function.calls) == (message, [])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            {"scores": np.zeros(3, np.float32)},
            "Expected Tensor shape: [batch_size num_classes] but got [3]",
        ),
        (
            {"classes": np.full((2, 1, 4), b"", object)},
            "Expected Tensor shape: [batch_size num_classes] but got [2,1,4]",
        ),
        (
            {"scores": np.zeros((2, 3))},
            "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE",
        ),
        (
            {"classes": np.zeros((2, 3), np.int64)},
            "Expected classes Tensor of DT_STRING. Got: DT_INT64",
        ),
        (
            {"scores": np.zeros((1, 3), np.float32)},
            "Expected scores output batch size of 2. Got: 1",
        ),
        (
            {"classes": np.full((3, 1), b"", object), "scores": _SCORES},
            "Expected classes output batch size of 2. Got: 3",
        ),
        (
            {"classes": _LABELS, "scores": np.zeros((2, 3), np.float32)},
            "Tensors class and score should match in dim_size(1). Got 2 vs. 3",
        ),
    ],
)
def test_answer_that_is_no_classification_is_refused(
    answer: dict[str, Array], message: str
) -> None:
    servable, _ = _servable(answer)
    with pytest.raises(InvalidArgument) as raised:
        classification(servable, "", _EXAMPLES).perform(servable)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            np.zeros((2, 2), np.float32),
            (
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got"
                " [2,2]"
            ),
        ),
        (
            np.float32(1.0),
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got []",
        ),
        (
            np.zeros((2, 1, 1), np.float32),
            (
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got"
                " [2,1,1]"
            ),
        ),
        (
            np.zeros(1, np.float32),
            "Input batch size did not match output batch size: 2 vs. 1",
        ),
        (np.zeros(2, np.int32), "Expected output Tensor of DT_FLOAT.  Got: DT_INT32"),
    ],
)
def test_answer_that_is_no_regression_is_refused(answer: Array, message: str) -> None:
    servable, _ = _servable({"outputs": np.asarray(answer)})
    with pytest.raises(InvalidArgument) as raised:
        regression(servable, "", _EXAMPLES).perform(servable)
    assert str(raised.value) == message
