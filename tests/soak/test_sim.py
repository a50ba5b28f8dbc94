"""The books of a sim: who ended which run, and when the provider cut one, from what was done to the world."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from providers.sim.control import TRANSITIONS
from providers.sim.guest import Guest as SimGuest
from providers.sim.script import HookScript
from providers.sim.transitions import Transition, ask_agent, power_off, power_on, save, start_process
from tests.soak.history import Cut, History, Run, Said, Saved
from tests.soak.sim import SimGround


class World:
    """A ground without a provider, whose calls are made here."""

    def __init__(self, ground: SimGround) -> None:
        self.ground = ground

    def provider(self, vm: str, call: str, transition: Transition) -> None:
        self.ground.world.call(self.ground.ids[vm], call, transition)  # type: ignore[arg-type]

    def colleague(self, vm: str, transition: Transition) -> None:
        self.ground.world.change(self.ground.ids[vm], transition)

    def runs(self, vm: str) -> list[Run]:
        return [each for each in self.ground.books([]) if isinstance(each, Run) and each.vm == vm]

    def cuts(self) -> list[Cut]:
        return [each for each in self.ground.books([]) if isinstance(each, Cut)]

    def saves(self) -> list[Saved]:
        return [each for each in self.ground.books([]) if isinstance(each, Saved)]


@pytest.fixture
def world() -> Iterator[World]:
    with SimGround(History()) as ground:
        yield World(ground)


def saved_at_once(guest: SimGuest, _now: float) -> SimGuest:
    return replace(guest, script=guest.script.model_copy(update={"save_time": 0.0}))


def at_once(guest: SimGuest, _now: float) -> SimGuest:
    """It goes down, and its programs end, in no time."""
    script = guest.script.model_copy(update={"shutdown_time": 0.0, "hooks": (HookScript(console="token"),)})
    return replace(guest, script=script)


def test_a_cut_by_the_provider_is_its_own(world: World) -> None:
    world.provider("deaf", "power_off", power_off)
    assert [run.causes for run in world.runs("deaf")] == [("PROVIDER",)]
    assert [cut.vm for cut in world.cuts()] == ["deaf"]


def test_a_plug_that_somebody_else_pulled_is_not(world: World) -> None:
    world.colleague("deaf", power_off)
    assert [run.causes for run in world.runs("deaf")] == [("OTHER",)]
    assert world.cuts() == []


def test_a_guest_that_went_by_itself_is_not_cut_by_a_late_call(world: World) -> None:
    world.colleague("web", at_once)
    world.provider("web", "send_signal", ask_agent)
    world.provider("web", "power_off", power_off)
    assert [run.causes for run in world.runs("web")] == [("GUEST",)]
    assert world.cuts() == []


def test_what_the_guest_heard_is_on_its_console(world: World) -> None:
    world.colleague("web", at_once)
    world.provider("web", "send_signal", ask_agent)
    assert [[signal for _, signal in run.heard] for run in world.runs("web")] == [["GUEST_AGENT"]]


def test_a_crash_is_told_from_a_cut(world: World) -> None:
    world.colleague("web", TRANSITIONS["crash"])
    assert [run.causes for run in world.runs("web")] == [("CRASH",)]


def test_each_start_begins_a_run(world: World) -> None:
    world.provider("deaf", "power_off", power_off)
    world.provider("deaf", "power_on", power_on)
    assert [run.ended is None for run in world.runs("deaf")] == [False, True]


def test_who_saved_its_memory_is_in_the_books(world: World) -> None:
    world.provider("deaf", "save", save)
    world.colleague("web", TRANSITIONS["save"])
    assert {each.vm: (each.by, each.ended) for each in world.saves()} == {
        "deaf": ("PROVIDER", None),
        "web": ("OTHER", None),
    }


def test_a_resume_keeps_the_run_and_a_cut_ends_it(world: World) -> None:
    for vm, call, transition in (("deaf", "power_on", power_on), ("large", "power_off", power_off)):
        world.colleague(vm, saved_at_once)
        world.provider(vm, "save", save)
        world.provider(vm, call, transition)
    assert [(each.ended is None, each.lost) for each in world.saves()] == [(False, False)] * 2
    assert [[run.causes for run in world.runs(vm)] for vm in ("deaf", "large")] == [[()], [("PROVIDER",)]]


def test_a_boot_of_what_was_saved_is_a_loss(world: World) -> None:
    world.colleague("large", saved_at_once)
    world.provider("large", "save", save)
    world.provider(
        "large", "power_on", lambda guest, now: replace(guest, held=None, saved_at=None, started_at=now, powered_at=now)
    )
    assert [each.lost for each in world.saves()] == [True]


def test_a_paused_guest_runs(world: World) -> None:
    world.colleague("web", TRANSITIONS["pause"])
    assert [run.ended for run in world.runs("web")] == [None]


def test_tokens_on_consoles_are_counted(world: World) -> None:
    world.colleague("web", at_once)
    for _ in range(2):
        world.provider("web", "guest_exec", lambda guest, now: start_process(guest, now, ["save"]))
    assert [each for each in world.ground.books(["token", "other"]) if isinstance(each, Said)] == [
        Said("token", 2),
        Said("other", 0),
    ]


def test_only_the_providers_calls_are_counted(world: World) -> None:
    world.colleague("deaf", power_off)
    before = world.ground.calls()
    world.provider("deaf", "power_on", power_on)
    assert (before, world.ground.calls()) == (0, 1)
