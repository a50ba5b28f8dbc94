"""What a shutdown makes of a guest that crashes while its VM keeps its power, or is reset."""

from typing import Any

import pytest

from providers.core.adapter import PowerState, Problem, Reason, Signal
from tests.unit.providers.finisher import MakeFinisher
from tests.unit.providers.world import elapsed, ending, until

pytestmark = pytest.mark.looptime

DEAF = {"signals": (), "problems": (Problem("Its guest has crashed.", Reason.TOOLS_UNAVAILABLE),)}
COMING_BACK = {"signals": (), "problems": (Problem("It boots.", Reason.TOOLS_UNAVAILABLE, passing=True),)}


@pytest.mark.parametrize(
    ("becomes", "at_once"),
    [
        ({"power_state": PowerState.PAUSED, "signals": (), "problems": (Problem("Halted.", Reason.PAUSED),)}, True),
        (DEAF, True),
        (COMING_BACK, False),
        ({"signals": (Signal.ACPI,)}, False),
    ],
    ids=["halted", "deaf", "coming back", "reset"],
)
async def test_a_guest_that_crashed_is_cut_at_once_unless_it_is_to_be_heard_again(
    make_finisher: MakeFinisher, becomes: dict[str, Any], at_once: bool
) -> None:
    provider = await make_finisher()
    provider.adapter.cuts = False
    operation = await provider.ask(timeout=60)
    await until(10)
    provider.adapter.change(crashed=True, **becomes)
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended) == 10) == ("SUCCEEDED: CRASHED", at_once)
    assert at_once or elapsed(ended) >= 60
