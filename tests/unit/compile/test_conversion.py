"""Why TensorFlow's converter refused a model."""

import pytest

from lambda_serving.compile.conversion import unsupported


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            (
                "Could not translate MLIR to FlatBuffer.<unknown>:0: error: loc(fused['A:']):"
                " 'tf.StringLower' op is neither a custom op nor a flex op\n"
                "error: 'tf.TensorListReserve' op requires element_shape to be static\n"
                "error: 'tf.StringLower' op is neither a custom op nor a flex op\n"
            ),
            (
                "LiteRT does not have the operations StringLower, TensorListReserve, of a loop:"
                " recurrent layers of Keras convert if they are made with unroll=True"
            ),
        ),
        (
            "failed to legalize operation 'tf.ParseExampleV2' that was explicitly marked illegal",
            "LiteRT does not have the operation ParseExampleV2",
        ),
        (
            "Output 0 of node 'counter' has a reference type float_ref.\n\tEncountered while",
            (
                "TensorFlow's converter fails: Output 0 of node 'counter' has a reference type"
                " float_ref"
            ),
        ),
        ("", "TensorFlow's converter fails: it gives no reason"),
    ],
)
def test_operations_are_named_or_else_the_first_line(said: str, told: str) -> None:
    assert unsupported(said) == told
