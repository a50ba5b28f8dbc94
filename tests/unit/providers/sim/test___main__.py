from contextlib import closing
from pathlib import Path

import pytest

from providers.sim.__main__ import main, make_adapter
from providers.sim.config import SimSettings
from providers.sim.script import SimError, guest_id
from providers.sim.transitions import power_off
from providers.sim.world import World


def settings(tmp_path: Path, **flags: object) -> SimSettings:
    return SimSettings.model_validate({"listen": "unix:///nowhere", "state_dir": tmp_path / "state", **flags})


async def test_without_a_script_there_are_a_few_guests(tmp_path: Path) -> None:
    adapter = make_adapter(settings(tmp_path))
    assert [vm.name for vm in await adapter.list()] == ["broken", "deaf", "legacy", "spare", "web"]
    await adapter.close()


async def test_the_world_is_kept_beside_the_journal_unless_told_otherwise(tmp_path: Path) -> None:
    adapter = make_adapter(settings(tmp_path))
    assert adapter.endpoint == f"sim://{tmp_path}/state/world.db"
    await adapter.close()


async def test_the_next_provider_finds_the_world_as_it_was_left(tmp_path: Path) -> None:
    flags = settings(tmp_path, world=tmp_path / "my.db")
    first = make_adapter(flags)
    await first.power_off(guest_id("web"))
    await first.close()
    second = make_adapter(flags)
    assert (await second.get(guest_id("web"))).power_state == "OFF"
    await second.close()


async def test_a_second_provider_leaves_the_world_of_the_first_alone(tmp_path: Path) -> None:
    first = make_adapter(settings(tmp_path))
    script = tmp_path / "other.yaml"
    script.write_text("guests: {other: }")
    with pytest.raises(SimError, match="another provider runs this world"):
        make_adapter(settings(tmp_path, script=script))
    assert "other" not in [vm.name for vm in await first.list()]
    await first.close()


async def test_a_folder_that_is_missing_is_made(tmp_path: Path) -> None:
    await make_adapter(settings(tmp_path, world=tmp_path / "a" / "b" / "world.db")).close()
    with closing(World(tmp_path / "a" / "b" / "world.db")) as world:
        assert world.change(guest_id("web"), power_off).name == "web"


def test_a_mistake_in_the_script_is_said_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "sim.yaml"
    script.write_text("guests: {web: {boot_time: soon}}")
    flags = ["--listen", f"unix://{tmp_path}/socket", "--state-dir", str(tmp_path), "--script", str(script)]
    monkeypatch.setattr("sys.argv", ["providers.sim", *flags])
    with pytest.raises(SystemExit, match=r"^providers\.sim: .*guest web: boot_time: 'soon' is no duration; .*$"):
        main()
