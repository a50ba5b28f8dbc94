from controller.status_models import Statement, conditions
from tests.unit.controller.builders import NOW, seconds

LATER = NOW + seconds(60)


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    said = conditions((), {"Ready": Statement("False", "Pending")}, NOW, 1)
    same = conditions(said, {"Ready": Statement("False", "ShuttingDown")}, LATER, 2)
    other = conditions(same, {"Ready": Statement("True", "Off")}, LATER, 2)
    assert [each[0].last_transition_time for each in (said, same, other)] == [NOW, NOW, LATER]
    assert [each[0].observed_generation for each in (said, same, other)] == [1, 2, 2]
