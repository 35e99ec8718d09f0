"""Every model loads, and gives its golden answers through the handler that Lambda calls."""

from pathlib import Path

import pytest

from lambda_serving.project.folder import Model, Project
from lambda_serving.project.golden_answers import differences

_MODELS = Project(Path(__file__).parents[1]).models()


@pytest.mark.parametrize("model", _MODELS, ids=lambda model: model.name)
def test_model_gives_its_golden_answers(model: Model) -> None:
    assert differences(model) == []
