import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from providers.core.adapter import Change, Changed, Listed, OffCause, PowerState, Removed
from providers.core.errors import HypervisorUnavailable
from providers.sim.adapter import SimAdapter
from providers.sim.control import main
from providers.sim.guest import power_state
from providers.sim.script import Script, guest_id
from providers.sim.world import World

WEB = guest_id("web")
Control = Callable[..., None]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "world.db")
    world.populate(Script.model_validate({"guests": {"web": {}, "db": {"power": "off", "boot_time": 0}}}))
    yield world
    world.close()


@pytest.fixture
def control(world: World) -> Control:
    return lambda *words: main(["--world", str(world.path), *words])


@pytest.fixture
async def changes(world: World) -> AsyncIterator[AsyncIterator[Change]]:
    """What a running provider tells after its first list."""
    adapter = SimAdapter(world)
    async with aclosing(adapter.watch()) as changes:  # type: ignore[type-var]
        assert isinstance(await anext(changes), Listed)
        yield changes
    await adapter.close()


@pytest.mark.parametrize(
    ("verb", "state"),
    [("off", "OFF"), ("crash", "OFF"), ("pause", "PAUSED"), ("suspend", "SUSPENDED"), ("on", "ON")],
)
def test_power_changes_without_a_provider(world: World, control: Control, verb: str, state: str) -> None:
    control(verb, "web")
    assert power_state(world.guest(WEB), world.now()) == state


@pytest.mark.parametrize(("verb", "cause"), [("off", OffCause.HOST), ("crash", OffCause.CRASHED)])
async def test_a_running_provider_tells_what_was_done(
    changes: AsyncIterator[Change], control: Control, verb: str, cause: OffCause
) -> None:
    control(verb, "web")
    change = await anext(changes)
    assert isinstance(change, Changed)
    assert (change.vm.power_state, change.vm.off_cause) == (PowerState.OFF, cause)


async def test_a_running_provider_tells_a_new_name(changes: AsyncIterator[Change], control: Control) -> None:
    control("rename", "web", "www")
    change = await anext(changes)
    assert isinstance(change, Changed)
    assert change.vm.name == "www"


async def test_a_running_provider_tells_of_a_new_guest(changes: AsyncIterator[Change], control: Control) -> None:
    control("add", "new", "power=off")
    change = await anext(changes)
    assert isinstance(change, Changed)
    assert (change.vm.name, change.vm.power_state) == ("new", PowerState.OFF)


async def test_a_running_provider_tells_of_a_removed_guest(changes: AsyncIterator[Change], control: Control) -> None:
    control("remove", "web")
    assert await anext(changes) == Removed(WEB)


async def test_a_running_provider_follows_a_changed_script(changes: AsyncIterator[Change], control: Control) -> None:
    control("set", "web", "agent=down", "acpi=none")
    change = await anext(changes)
    assert isinstance(change, Changed)
    assert change.vm.signals == ()


async def test_a_hidden_hypervisor_ends_the_watch(changes: AsyncIterator[Change], control: Control) -> None:
    control("hide", "5")
    with pytest.raises(HypervisorUnavailable):
        await anext(changes)


def test_a_lock_is_taken_off_by_an_empty_value(world: World, control: Control) -> None:
    control("set", "web", "locked=backup")
    control("set", "web", "locked=")
    assert world.guest(WEB).script.locked == ""


def test_a_console_is_printed(control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    control("crash", "web")
    control("console", "web")
    assert capsys.readouterr().out == "guest web: ready\nguest web: kernel panic\n"


def test_all_that_is_kept_is_shown_as_json(world: World, control: Control, capsys: pytest.CaptureFixture[str]) -> None:
    world.call(WEB, "get")
    control("show", "web")
    shown = json.loads(capsys.readouterr().out)
    assert (shown["power_state"], shown["calls"]) == ("ON", {"get": 1})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("off", "nobody"), "control: no guest is called nobody"),
        (("pause", "db"), "control: db is OFF; start or resume it first."),
        (("set", "web", "colour=red"), "control: colour: there is no such field"),
        (("set", "web", "boot_time=soon"), "control: boot_time: 'soon' is no duration; write it as 120s or 1m30s"),
        (("rename", "web"), "control: rename takes exactly one new name"),
    ],
)
def test_what_cannot_be_done_is_said(control: Control, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(SystemExit, match=f"^{message}$"):
        control(*words)


def test_a_name_that_two_guests_bear_is_not_guessed(control: Control) -> None:
    control("rename", "db", "web")
    with pytest.raises(SystemExit, match="several guests are called web"):
        control("off", "web")


def test_an_id_that_is_taken_is_refused(control: Control) -> None:
    with pytest.raises(SystemExit, match="give the new one another id="):
        control("add", "web")


def test_a_world_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no such world"):
        main(["--world", str(tmp_path / "none.db"), "console", "web"])
    assert list(tmp_path.iterdir()) == []
