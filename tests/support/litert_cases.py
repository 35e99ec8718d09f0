"""The cases of the conformance table that hold for LiteRT, too."""

from support.build_tflite import MODELS
from support.conformance import Case, load_cases

__all__ = ["litert_cases"]

_NOT_OF_LITERT = {
    # its signatures that parse examples do not convert
    *("more-cls-07", "more-meta-03", "more-reg-02", "reg-01", "reg-02", "reg-06", "reg-19"),
    # TensorFlow computes other ranks than the signature declares
    *("col-04", "row-02"),
    # words of TensorFlow's kernel
    "more-row-08",
}


def litert_cases() -> list[Case]:
    """Those of the models that are converted, but for a few, which docs/differences.md explains."""
    return [
        case for case in load_cases() if _model(case) in MODELS and case.name not in _NOT_OF_LITERT
    ]


def _model(case: Case) -> str:
    return "".join(case.path.split("/")[3:4]).partition(":")[0]
