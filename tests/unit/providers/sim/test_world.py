from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from providers.core.adapter import PowerState
from providers.core.errors import CommandFailed, HypervisorUnavailable, VMNotFound
from providers.sim.guest import power_state
from providers.sim.script import Fault, GuestScript, Script, SimError, guest_id
from providers.sim.transitions import power_off, press_button, resume
from providers.sim.world import World
from tests.unit.providers.fakes import open_files

WEB = guest_id("web")


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def script(faults: dict[str, Any] | None = None, **guests: dict[str, Any]) -> Script:
    return Script.model_validate({"guests": guests, "faults": faults or {}})


@contextmanager
def opened(path: Path | None, clock: Clock, script: Script | None = None) -> Iterator[World]:
    with closing(World(path, clock)) as world:
        if script:
            world.populate(script)
        yield world


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "world.db"


def test_a_guest_lives_on_while_nobody_looks(path: Path, clock: Clock) -> None:
    with opened(path, clock, script(web={"shutdown_time": "5s"})) as world:
        world.change(WEB, press_button)
    clock.advance(5)
    with opened(path, clock) as world:
        assert power_state(world.guest(WEB), world.now()) is PowerState.OFF


def test_the_same_script_again_changes_nothing(path: Path, clock: Clock) -> None:
    with opened(path, clock, script(web={})) as world:
        before = world.change(WEB, power_off)
        world.populate(script(web={}))
        assert world.guest(WEB) == before


def test_what_was_changed_in_a_script_survives_the_same_script(path: Path, clock: Clock) -> None:
    with opened(path, clock, script(web={})) as world:
        deaf = GuestScript(acpi="ignores")
        world.change(WEB, lambda guest, _now: replace(guest, script=deaf))
        world.populate(script(web={}))
        assert world.guest(WEB).script == deaf


def test_a_changed_script_counts_from_now_on_and_the_state_stays(path: Path, clock: Clock) -> None:
    with opened(path, clock, script(web={})) as world:
        world.change(WEB, power_off)
        world.populate(script(web={"boot_time": "9s"}))
        guest = world.guest(WEB)
        assert (power_state(guest, world.now()), guest.script.boot_time) == (PowerState.OFF, 9)


def test_a_script_may_bring_new_guests(path: Path, clock: Clock) -> None:
    with opened(path, clock, script(web={})) as world:
        world.populate(script(web={}, db={}))
        assert [guest.name for guest in world.guests()] == ["db", "web"]


def test_a_removed_guest_stays_away(path: Path, clock: Clock) -> None:
    with opened(path, clock, script(web={})) as world:
        world.remove(WEB)
    with opened(path, clock, script(web={})) as world:
        assert world.guests() == []


def test_a_removed_guest_is_unknown(clock: Clock) -> None:
    with opened(None, clock, script(web={})) as world:
        world.remove(WEB)
        with pytest.raises(VMNotFound, match=WEB):
            world.change(WEB, power_off)


def test_all_bearers_of_a_name_are_found(clock: Clock) -> None:
    twin = {"name": "twin"}
    with opened(None, clock, script(a=twin | {"id": "1"}, b=twin | {"id": "2"})) as world:
        assert [guest.id for guest in world.named("twin")] == ["1", "2"]


def test_two_processes_can_change_one_world(path: Path, clock: Clock) -> None:
    with opened(path, clock, script(web={})) as one, opened(path, clock) as other:
        other.change(WEB, power_off)
        assert power_state(one.guest(WEB), one.now()) is PowerState.OFF


def test_a_failed_stimulus_changes_nothing(clock: Clock) -> None:
    with opened(None, clock, script(web={})) as world:
        before = world.guest(WEB)
        with pytest.raises(CommandFailed):
            world.change(WEB, resume)
        assert world.guest(WEB) == before


def test_a_listener_hears_of_a_change(clock: Clock) -> None:
    heard: list[str] = []
    with opened(None, clock, script(web={})) as world:
        world.listener = heard.append
        world.change(WEB, power_off)
    assert heard == [WEB]


def test_a_listener_hears_nothing_when_nothing_changed(clock: Clock) -> None:
    heard: list[str] = []
    with opened(None, clock, script(web={"acpi": "ignores"})) as world:
        world.listener = heard.append
        world.change(WEB, press_button)
    assert heard == []


def test_faults_are_used_up_across_restarts(path: Path, clock: Clock) -> None:
    faulty = script(web={"faults": {"power_off": ["refuse", "lost"]}})
    with opened(path, clock, faulty) as world:
        first = world.call(WEB, "power_off")[0]
    with opened(path, clock, faulty) as world:
        assert (first, world.call(WEB, "power_off")[0], world.call(WEB, "power_off")[0]) == (
            Fault.REFUSE,
            Fault.LOST,
            Fault.OK,
        )


def test_the_worlds_own_calls_fail_as_scripted(clock: Clock) -> None:
    with opened(None, clock, script(faults={"list": "unavailable"}, web={})) as world:
        assert (world.count_own("list"), world.count_own("list")) == (Fault.UNAVAILABLE, Fault.OK)


def test_calls_are_counted(clock: Clock) -> None:
    with opened(None, clock, script(web={})) as world:
        world.call(WEB, "get")
        world.call(WEB, "get")
        assert world.guest(WEB).calls == {"get": 2}


def test_a_hidden_hypervisor_answers_again_in_time(clock: Clock) -> None:
    with opened(None, clock, script(web={})) as world:
        world.hide(5)
        with pytest.raises(HypervisorUnavailable):
            world.must_answer()
        clock.advance(5)
        world.must_answer()


def test_a_file_that_is_no_world_is_named(path: Path, clock: Clock) -> None:
    path.write_text("a shopping list, and a long one at that\n" * 100)
    with pytest.raises(SimError, match=r"world\.db: not a world"):
        World(path, clock)


def test_a_file_that_is_no_world_is_not_left_open(path: Path, clock: Clock) -> None:
    path.write_text("a shopping list, and a long one at that\n" * 100)
    with pytest.raises(SimError) as refused:  # its traceback keeps all that there was
        World(path, clock)
    assert refused.tb
    assert str(path) not in open_files()


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the host's clock, to seconds since 1970."""
    return lambda moment: monkeypatch.setattr("time.time", lambda: moment)


def test_a_step_of_the_hosts_clock_moves_no_guest(path: Path, set_clock: Callable[[float], None]) -> None:
    set_clock(1_000_000)
    with closing(World(path)) as world:
        set_clock(1_003_600)
        assert world.now() == pytest.approx(1_000_000, abs=60)
    with closing(World(path)) as world:
        assert world.now() == pytest.approx(1_000_000, abs=60)


def test_after_a_boot_the_hosts_clock_counts(
    path: Path, set_clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_clock(1_000_000)
    World(path).close()
    (tmp_path / "boot_id").write_text("another\n")
    monkeypatch.setattr("providers.core.clock.BOOT_ID", tmp_path / "boot_id")
    set_clock(1_003_600)
    with closing(World(path)) as world:
        assert world.now() == pytest.approx(1_003_600, abs=60)
