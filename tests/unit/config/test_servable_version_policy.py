import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving.config.servable_version_policy import (
    All,
    Latest,
    Specific,
    VersionPolicy,
    aspired,
    resolve,
)
from lambda_serving.errors import InvalidArgument, NotFound
from lambda_serving.model_spec import ModelSpec, ServableId

_VERSIONS = st.lists(st.integers(0, 2**63 - 1))


@pytest.mark.parametrize(
    ("policy", "available", "expected"),
    [
        (Latest(), [1, 3, 2], [3]),
        (Latest(2), [1, 3, 2], [3, 2]),
        (Latest(0), [1, 3, 2], [3]),
        (Latest(9), [1, 2], [2, 1]),
        (Latest(), [], []),
        (All(), [9, 10, 1], [10, 9, 1]),
        (Specific(frozenset({1, 7})), [1, 2], [1]),
        (Specific(frozenset()), [1, 2], []),
    ],
)
def test_aspires_largest_version_first(
    policy: VersionPolicy, available: list[int], expected: list[int]
) -> None:
    assert aspired(policy, available) == expected


@given(_VERSIONS, st.integers(0, 5))
def test_latest_versions_are_a_prefix_of_all(available: list[int], count: int) -> None:
    assert aspired(All(), available)[: max(count, 1)] == aspired(Latest(count), available)


@pytest.mark.parametrize(
    ("spec", "version"),
    [
        (ModelSpec("m"), 10),
        (ModelSpec("m", version=2), 2),
        (ModelSpec("m", label="stable"), 2),
    ],
)
def test_resolves_to_a_loaded_version(spec: ModelSpec, version: int) -> None:
    assert resolve(spec, {2, 10}, {"stable": 2, "gone": 1}) == ServableId("m", version)


def test_unknown_label_is_an_invalid_argument() -> None:
    with pytest.raises(InvalidArgument, match="^Unrecognized servable version label: nope$"):
        resolve(ModelSpec("m", label="nope"), {1}, {"stable": 1})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ModelSpec("m", version=3), "Servable not found for request: Specific(m, 3)"),
        (ModelSpec("m", label="gone"), "Servable not found for request: Specific(m, 1)"),
    ],
)
def test_version_that_is_not_loaded_is_not_found(spec: ModelSpec, message: str) -> None:
    with pytest.raises(NotFound) as raised:
        resolve(spec, {2}, {"gone": 1})
    assert str(raised.value) == message


def test_latest_of_nothing_is_not_found() -> None:
    with pytest.raises(NotFound, match=r"^Servable not found for request: Latest\(m\)$"):
        resolve(ModelSpec("m"), set(), {})
