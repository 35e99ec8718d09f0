import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambda_serving.core.aspired_version_policy import Action, Load, Snapshot, Unload, next_action
from lambda_serving.core.servable_state import State

_START, _LOADING, _AVAILABLE, _UNLOADING, _END = State

_Standing = dict[int, tuple[bool, State]]


def _snapshots(versions: _Standing) -> list[Snapshot]:
    return [Snapshot(version, *standing) for version, standing in versions.items()]


@pytest.mark.parametrize(
    ("versions", "action"),
    [
        ({}, None),
        ({1: (True, _START)}, Load(1)),
        ({1: (True, _START), 3: (True, _START), 2: (True, _START)}, Load(3)),
        ({1: (True, _START), 3: (True, _LOADING)}, Load(1)),
        ({1: (True, _AVAILABLE), 2: (True, _AVAILABLE)}, None),
        ({1: (True, _END)}, None),
        # the old one stays until the new one is available
        ({1: (False, _AVAILABLE), 2: (True, _START)}, Load(2)),
        ({1: (False, _AVAILABLE), 2: (True, _LOADING)}, None),
        ({1: (False, _AVAILABLE), 2: (True, _END)}, None),
        ({1: (False, _AVAILABLE), 2: (True, _AVAILABLE)}, Unload(1)),
        ({1: (False, _UNLOADING), 2: (True, _AVAILABLE)}, None),
        # one of several old ones is enough
        ({1: (False, _AVAILABLE), 2: (False, _AVAILABLE), 3: (True, _START)}, Unload(1)),
        ({1: (False, _LOADING), 2: (False, _AVAILABLE), 3: (True, _START)}, Load(3)),
        # nothing is aspired: all go
        ({1: (False, _AVAILABLE)}, Unload(1)),
        ({1: (False, _LOADING)}, None),
        # back to an older one
        ({1: (True, _START), 2: (False, _AVAILABLE)}, Load(1)),
        # an old one goes first where others answer
        ({1: (False, _AVAILABLE), 2: (True, _AVAILABLE), 3: (True, _START)}, Unload(1)),
    ],
)
def test_next_action(versions: _Standing, action: Action | None) -> None:
    assert next_action(_snapshots(versions)) == action


_standings = st.dictionaries(
    st.integers(1, 6), st.tuples(st.booleans(), st.sampled_from(State)), max_size=6
)


@given(_standings)
def test_acting_ends_where_it_should_and_never_without_an_answer(versions: _Standing) -> None:
    aspired = {version for version, (is_aspired, _) in versions.items() if is_aspired}
    answered = any(state is _AVAILABLE for _, state in versions.values())
    steps = 0
    while action := next_action(_snapshots(versions)):
        is_aspired, _ = versions[action.version]
        assert isinstance(action, Load) is is_aspired
        state = _AVAILABLE if isinstance(action, Load) else _END
        versions[action.version] = (is_aspired, state)
        if aspired and answered:
            assert any(state is _AVAILABLE for _, state in versions.values())
        steps += 1
    assert steps <= len(versions)
    assert not any(is_aspired and state is _START for is_aspired, state in versions.values())
    available = {version for version, (_, state) in versions.items() if state is _AVAILABLE}
    assert len(available - aspired) <= (0 if available & aspired or not aspired else 1)
