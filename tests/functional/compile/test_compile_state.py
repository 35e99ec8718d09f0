"""State in compiled models: a graph carries it, or the model stays as it is."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lambda_serving.compile.compiler import compile_saved_model
from lambda_serving.compile.freezer import Freezer
from lambda_serving.compile.timing import Race
from lambda_serving.compile.verify import answers
from lambda_serving.dtypes import Array, DType
from lambda_serving.servables import saved_model
from lambda_serving.servables.servable import Servable

_BUILD_STATE = Path(__file__).parents[2] / "support/build_state.py"
_VARIABLES = "it changes its variables as it answers: {}"
_TABLES = "it fills its tables as it answers: {}"
_OTHER = "it depends on state that a compiled graph does not carry: {}"
_REASONS = {
    "AddSparseToTensorsMap": _OTHER,
    "AssignAddVariableOp": _VARIABLES,
    "Barrier": _OTHER,
    "BoostedTreesEnsembleResourceHandleOp": _OTHER,
    "ConditionalAccumulator": _OTHER,
    "CountUpTo": _VARIABLES,
    "FIFOQueueV2": _OTHER,
    "IteratorV2": _OTHER,
    "LookupTableInsertV2": _TABLES,
    "MapSize": _OTHER,
    "MutableDenseHashTableV2": _OTHER,
    "OneShotIterator": _OTHER,
    "OrderedMapSize": _OTHER,
    "PaddingFIFOQueueV2": _OTHER,
    "PriorityQueueV2": _OTHER,
    "RandomShuffleQueueV2": _OTHER,
    "ResourceConditionalAccumulator": _OTHER,
    "RngReadAndSkip": _VARIABLES,
    "StageSize": _OTHER,
    "TextLineReaderV2": _OTHER,
}
_WORDS: Array = np.array([b"cat", b"fish", b"dog"], object)
_FLOATS = np.array([1.0, 0.0, 2.0], np.float32)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder of the models of `build_state.py`, and why the compiler refuses the others."""
    folder = tmp_path_factory.mktemp("state")
    ended = subprocess.run(
        [sys.executable, _BUILD_STATE, folder], capture_output=True, text=True, check=True
    )
    return folder, json.loads(ended.stdout)


def test_state_that_is_not_carried_is_reported(built: tuple[Path, dict[str, str]]) -> None:
    _, reasons = built
    assert reasons.keys() == _REASONS.keys()
    for kind, reason in reasons.items():
        assert reason.startswith(_REASONS[kind].format(kind)), reason


@pytest.fixture(scope="module", params=["carried", "tf1_table"])
def both(
    request: pytest.FixtureRequest, built: tuple[Path, dict[str, str]], freezer: Freezer
) -> Iterator[tuple[Servable, Servable]]:
    """An export whose state is carried, and its compiled servable; neither has run yet."""
    source = built[0] / str(request.param)
    compiled = source.with_name(f"{source.name}_compiled")
    race = Race(1, 1, lambda _: False)
    report = compile_saved_model(source, compiled, race=race, freezer=freezer)
    assert report.reason is None
    with saved_model.load(source) as export, saved_model.load(compiled) as made:
        yield export, made


def test_carried_state_answers_as_the_export_call_by_call(both: tuple[Servable, Servable]) -> None:
    export, compiled = both
    inputs = {
        name: [{"x": _WORDS if signature.inputs["x"].dtype is DType.STRING else _FLOATS}]
        for name, signature in export.signatures.items()
    }
    wanted, got = (
        {
            name: [
                {"error": str(each)} if isinstance(each, Exception) else each["y"].tolist()
                for each in outcomes
            ]
            for name, outcomes in answers(servable, inputs).items()
        }
        for servable in (export, compiled)
    )
    assert got == wanted
    assert not [name for name, outcomes in wanted.items() if "error" in outcomes[0]]
    if "table" in wanted:
        assert wanted["table"] == [[7, -1, 8]] * 2
        assert wanted["seeded"][0] != wanted["seeded"][1]
    else:
        assert wanted["serving_default"] == [[1.5, 0.5, -1.0]] * 2
