import pytest

from controller.enums import State


@pytest.mark.parametrize("state", State)
def test_only_three_states_are_final(state: State) -> None:
    assert state.final is (state in {"SUCCEEDED", "FAILED", "CANCELLED"})
