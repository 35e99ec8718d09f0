"""Finds signatures that TensorFlow's converter merged with an equal one.

It does so with functions that are equal, as those of Keras 3's `serve` and `serving_default` are.
"""

from collections.abc import Callable, Mapping

from lambda_serving.compile import NotCompilable, verify
from lambda_serving.compile.expected_answers import Questions
from lambda_serving.servables.litert.exported_signatures import ends
from lambda_serving.servables.servable import Servable, Signature

__all__ = ["aliases"]


def aliases(
    export: Mapping[str, Signature],
    file: Mapping[str, Signature],
    questions: Questions,
    load: Callable[[], Servable],
) -> dict[str, str]:
    """For each signature of the export that a converted file lacks, the name of an equal one.

    That is one with the same inputs and outputs, which gives the same answers if there are several
    such; `load` loads the export. Raises NotCompilable if there is none, or if the file's signature
    of the same name has others.
    """
    for name, each in export.items():
        if name in file and ends(file[name]) != ends(each):
            raise NotCompilable(
                f"the converter gives its signature {name!r} {ends(file[name])} instead of"
                f" {ends(each)}"
            )
    lost = [each for name, each in export.items() if name not in file]
    return {each.name: _mate(each, file, questions, load) for each in lost}


def _mate(
    lost: Signature,
    file: Mapping[str, Signature],
    questions: Questions,
    load: Callable[[], Servable],
) -> str:
    found = [name for name, each in file.items() if ends(each) == ends(lost)]
    if len(found) > 1:
        found = [name for name in found if _answers_alike(name, lost.name, questions, load)]
    if not found:
        raise NotCompilable(f"the converter leaves out its signature {lost.name!r}")
    return found[0]


def _answers_alike(
    name: str, lost: str, questions: Questions, load: Callable[[], Servable]
) -> bool:
    """Whether the export's signature `name` answers like `lost`."""

    def ask(signature: str) -> verify.Answers:
        with load() as servable:
            return {lost: verify.answers(servable, {signature: questions.inputs[lost]})[signature]}

    try:
        verify.check({lost: questions.wanted[lost]}, ask(name), lambda: ask(lost))
    except verify.Differs:
        return False
    return True
