"""Names of servables, as messages show them."""

import pytest

from lambda_serving.model_spec import ModelSpec, ServableId


def test_servable_id_prints_as_in_tensorflow_servings_log() -> None:
    assert str(ServableId("MLP", 3)) == "{name: MLP version: 3}"


def test_servable_ids_sort_by_name_then_by_number() -> None:
    ids = [ServableId("b", 1), ServableId("a", 10), ServableId("a", 9)]
    assert sorted(ids) == [ServableId("a", 9), ServableId("a", 10), ServableId("b", 1)]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (ModelSpec("foo"), "Latest(foo)"),
        (ModelSpec("foo", 50), "Specific(foo, 50)"),
        (ModelSpec("foo", 0), "Specific(foo, 0)"),
    ],
)
def test_model_spec_prints_as_in_the_servable_not_found_message(spec: ModelSpec, text: str) -> None:
    assert str(spec) == text
