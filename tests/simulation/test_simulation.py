"""2,000 random histories, and a kill after every single step of the plain ones. A failing seed prints its replay."""

from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from providers.core.model import Kind, Operation, Request
from tests.simulation.__main__ import failing, report
from tests.simulation.act import Act
from tests.simulation.checks import violations
from tests.simulation.hypervisor import Behaviour, Hypervisor
from tests.simulation.play import play
from tests.simulation.provider import EPOCH, ProviderMachine
from tests.simulation.scenario import Scenario, make
from tests.simulation.shrink import shrink
from tests.simulation.universe import Universe

SEEDS, CHUNK = 2000, 100
PLAIN = Behaviour(takes=1.0)
BUTTON = Behaviour(takes=1.0, agent=False)
DEAF = Behaviour(takes=None, agent=False)
TIED = Behaviour(takes=None, agent=False, saves=None, told_unsavable=False)
LATE = Behaviour(takes=12.0, agent=False)


def shutdown(at: float = 1.0, number: int = 0, **how: object) -> Act:
    given = {"timeout": 5.0, "escalation": "FORCE", "hooks": 0, "resend": 10.0, "request_id": f"request-{number}"}
    return Act(at, "Shutdown", "vm-0", tuple((given | how).items()))


def call(what: str, at: float, number: int = 9, **how: object) -> Act:
    return Act(at, what, "vm-0", tuple({"request_id": f"request-{number}", **how}.items()))


SCENARIOS = {
    "a guest that obeys": (PLAIN, shutdown()),
    "a guest without an agent": (BUTTON, shutdown()),
    "hooks": (PLAIN, shutdown(hooks=2)),
    "a deaf guest": (DEAF, shutdown()),
    "never": (DEAF, shutdown(escalation="NEVER")),
    "ask, then force": (DEAF, shutdown(escalation="ASK"), call("Force", 8.0)),
    "extended": (LATE, shutdown(), call("Extend", 3.0, timeout=20.0)),
    "cancelled": (DEAF, shutdown(), call("Cancel", 3.0)),
    "called off": (LATE, shutdown(timeout=10.0), call("PowerOn", 3.0)),
    "pre-empted": (DEAF, shutdown(timeout=30.0), call("PowerOff", 3.0)),
    "a power-off": (PLAIN, call("PowerOff", 1.0)),
    "off and on": (PLAIN, call("PowerOff", 1.0), call("PowerOn", 5.0, 8)),
    "saved": (DEAF, shutdown(escalation="SAVE", save_fallback="NEVER")),
    "saved, or forced": (TIED, shutdown(escalation="SAVE", save_fallback="FORCE")),
    "saved, or not": (TIED, shutdown(escalation="SAVE", save_fallback="NEVER")),
    "saved and resumed": (DEAF, shutdown(escalation="SAVE", save_fallback="NEVER"), call("PowerOn", 7.0)),
    "forced while it is saved": (DEAF, shutdown(escalation="SAVE", save_fallback="NEVER"), call("Force", 7.0)),
    "off while it is saved": (DEAF, shutdown(escalation="SAVE", save_fallback="NEVER"), call("PowerOff", 7.0)),
    "a reboot": (PLAIN, call("Reboot", 1.0, timeout=5.0, escalation="FORCE", hooks=0, resend=10.0)),
    "a reboot of a deaf guest": (DEAF, call("Reboot", 1.0, timeout=5.0, escalation="FORCE", hooks=0, resend=10.0)),
}


def scenario(name: str) -> Scenario:
    behaviour, *acts = SCENARIOS[name]
    assert isinstance(behaviour, Behaviour)
    return Scenario(1, (behaviour,), tuple(act for act in acts if isinstance(act, Act)))


@pytest.mark.parametrize("first", range(1, SEEDS + 1, CHUNK))
def test_no_seed_breaks_an_invariant(first: int) -> None:
    failed = failing(range(first, first + CHUNK))
    assert not failed, report(failed[0])


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_after_any_step_breaks_no_invariant(name: str) -> None:
    """Also those after the last answer: what was promised must hold."""
    steps = play(scenario(name)).steps
    broken = {step: violations(play(scenario(name), kill_at=step)) for step in range(1, steps + 1)}
    assert {step: lines for step, lines in broken.items() if lines} == {}


@pytest.mark.parametrize("name", SCENARIOS)
def test_undisturbed_everything_is_known(name: str) -> None:
    assert violations(play(scenario(name))) == []


def test_the_same_seed_is_the_same_history() -> None:
    assert [play(make(7)).lines() for _ in range(2)] == [play(make(7)).lines()] * 2


def test_a_failing_scenario_is_shrunk_to_what_fails() -> None:
    acts = tuple(Act(float(n), "kill", "vm-0", (("lasts", float(n)),)) for n in range(9))
    smallest = shrink(Scenario(1, (PLAIN,), acts), lambda each: {3.0, 7.0} <= {act.at for act in each.acts})
    assert [act.at for act in smallest.acts] == [3.0, 7.0]


def test_of_a_write_that_is_under_way_at_a_kill_a_part_is_on_disk_which_is_not_read(tmp_path: Path) -> None:
    universe = Universe(1)
    machine = ProviderMachine(universe, Hypervisor(universe, [PLAIN]), tmp_path)
    machine.start()
    assert machine.process
    request = Request(kind=Kind.SHUTDOWN, vm_id="vm-0", vm_name="vm-0")
    operation = Operation(id="op", request=request, create_time=EPOCH, timeout=timedelta(seconds=60))
    machine.process.disk._writing = partial(machine.process.journal._store.commit, [operation])
    machine.kill()
    assert (tmp_path / "journal.db-wal").stat().st_size > 0
    machine.start()
    found = machine.process.journal._store.many({}, "id")
    machine.kill()
    assert found == []
