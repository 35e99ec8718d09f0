"""What has become of a version that was pushed, in each situation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import pytest

from lambda_serving.release.deciding import actions
from lambda_serving.release.deciding.model_state import (
    LIVE,
    Alias,
    Deployment,
    FunctionVersion,
    Origin,
    Record,
    State,
)
from lambda_serving.release.deciding.outcome import Failed, Live, Outcome, Pending, outcome


def _function_version(number: int, version: int, image: str = "") -> FunctionVersion:
    return FunctionVersion(number, Origin(version, f"m{version}", image or f"i{version}"), _ACTIVE)


def _seen(
    aspired: Sequence[int],
    live: Alias,
    records: Mapping[int, Record] | None = None,
    **more: Any,
) -> Deployment:
    """Versions 1 and 2 are complete; function version 7 has the first, 8 the second."""
    seen = Deployment(
        "base",
        {1: "m1", 2: "m2"},
        aspired,
        records={**_ANSWERED, **(records or {})},
        function_versions=[_function_version(7, 1), _function_version(8, 2)],
        aliases={LIVE: live},
    )
    return replace(seen, **more)


_ACTIVE = State.ACTIVE
_ANSWERED = {
    1: Record("m1", "base", image="i1", warm=7),
    2: Record("m2", "base", image="i2", warm=8),
}
_ASKED = Record("m2", "base", asked=100, builds=1)
_FAILED = Record("m2", "base", error="It does not answer: boom")
_ON_7, _ON_8 = Alias(7), Alias(8)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (_seen([2], _ON_8), Live()),
        (_seen([2], _ON_7), Pending("Make function version 8 live")),
        (_seen([2], Alias(7, shares={8})), Pending("Make function version 8 live")),
        (_seen([2], Alias(8, shares={7})), Pending("Make function version 8 live")),
        (
            _seen([2], _ON_7, {2: _ASKED}, now=101),
            Pending("Wait: the image of version 2 is being built"),
        ),
        (_seen([2], _ON_7, {2: _FAILED}), Failed("It does not answer: boom")),
        # the record is of other files or of an older base image: it is tried again
        (_seen([2], _ON_7, {2: replace(_FAILED, content="other")}), Pending(str(actions.Build(2)))),
        (_seen([2], _ON_7, {2: replace(_FAILED, base="other")}), Pending(str(actions.Build(2)))),
        # it stays live while it is built on another base image
        (_seen([2], _ON_8, {2: replace(_ASKED, base="newer")}, base="newer"), Live()),
        # another content of the version is live
        (
            _seen([2], _ON_8, {2: replace(_ASKED, content="new")}, versions={2: "new"}, now=101),
            Pending("Wait: the image of version 2 is being built"),
        ),
        (
            _seen([1], _ON_7),
            Failed("The policy does not ask for it. It asks for these versions: 1"),
        ),
        (
            _seen([], _ON_7),
            Failed("The policy does not ask for it. It asks for these versions: none"),
        ),
        (
            _seen([2], _ON_7, versions={1: "m1"}),
            Failed("Its files are no longer complete in the bucket"),
        ),
        (
            _seen([2], _ON_7, {2: _ASKED}, versions={1: "m1"}, settling={2: 30.0}),
            Pending("Wait: version 2 is being copied"),
        ),
        (
            _seen(
                [3, 2],
                Alias(9),
                {3: Record("m3", "base", image="i3", warm=9)},
                versions={2: "m2", 3: "m3"},
                function_versions=[_function_version(8, 2), _function_version(9, 3)],
            ),
            Failed("Version 3 is larger and live. The policy keeps this one beside it"),
        ),
        # no release made what is live
        (_seen([2], Alias(1)), Pending("Make function version 8 live")),
    ],
)
def test_outcome_of_version_2_is(seen: Deployment, expected: Outcome) -> None:
    assert outcome(2, seen) == expected


def _example(action: type[Any]) -> Any:
    fields = {"alias": "label-stable", "error": "boom", "what": "something", "seconds": 1.0}
    return action(**{name: fields.get(name, 2) for name in action.__dataclass_fields__})


@pytest.mark.parametrize("action", get_args(actions.Action), ids=lambda action: action.__name__)
def test_action_is_told_as_a_sentence(action: type[Any]) -> None:
    said = str(_example(action))
    assert said[0].isupper()
    assert " " in said
    assert not {*"()='"} & {*said}
