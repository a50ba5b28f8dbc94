from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from controller.models import VirtualMachine
from controller.source import Key, SourceError
from controller.sources.state import StateDirectory
from controller.status_models import HookStatus, LastPowerOff, VirtualMachineStatus
from tests.unit.controller.builders import machine, provider, record

WEB = Key("VirtualMachine", "default", "web")
SPEC = {"powerState": "Off"}


def identified(state: StateDirectory, spec: dict[str, str] | None = None) -> tuple[str, int]:
    found = state.identify(machine(), spec or SPEC).metadata
    return found.uid, found.generation


def test_identity_generation_and_status_outlive_the_process(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path)
    identity = identified(first)
    status = VirtualMachineStatus(
        phase="Off",
        power_state="Off",
        operation=record(force_after=datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)),
        last_power_off=LastPowerOff(
            operation="op-1",
            outcome="GRACEFUL",
            start_time=datetime(2030, 1, 1, tzinfo=UTC),
            completion_time=datetime(2030, 1, 1, tzinfo=UTC),
            duration_seconds=0,
            hooks=(HookStatus(name="a", state="SUCCEEDED", output="Off\n\tyes: \x00 ü\n"),),
        ),
    )
    first.write_status(WEB, status)
    second = StateDirectory(tmp_path)
    assert identified(second) == identity
    assert second.identify(machine(), SPEC).status == status


def test_each_change_of_the_spec_is_a_generation(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    specs = [{"a": "1"}, {"a": "1"}, {"a": "2"}, {"a": "1"}]
    assert [identified(state, spec)[1] for spec in specs] == [1, 1, 2, 3]


def test_a_change_while_nobody_looked_is_a_generation_too(tmp_path: Path) -> None:
    uid, _ = identified(StateDirectory(tmp_path))
    assert identified(StateDirectory(tmp_path), {"powerState": "On"}) == (uid, 2)


def test_a_resource_whose_state_is_lost_is_another_one(tmp_path: Path) -> None:
    uids = {identified(StateDirectory(tmp_path / name))[0] for name in "ab"}
    assert len(uids) == 2


def test_the_file_reads_like_a_resource(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    state.identify(machine(), SPEC)
    state.write_status(WEB, VirtualMachineStatus(phase="Off", power_state="Off"))
    document = yaml.safe_load((tmp_path / "default/VirtualMachine/web.yaml").read_text())
    assert (document["kind"], document["metadata"]["name"]) == ("VirtualMachine", "web")
    assert (document["status"]["phase"], document["status"]["powerState"]) == ("Off", "Off")


@pytest.mark.parametrize("text", ["1e3", "08", "a\x9bb\u202e\nc", "\x1b[2J\n"])
def test_whatever_guests_say_is_remembered_and_cannot_command_a_terminal(tmp_path: Path, text: str) -> None:
    status = VirtualMachineStatus(phase="Off", id=text)
    state = StateDirectory(tmp_path)
    identified(state)
    state.write_status(WEB, status)
    assert StateDirectory(tmp_path).identify(machine(), SPEC).status == status
    written = (tmp_path / "default/VirtualMachine/web.yaml").read_text()
    assert written.replace("\n", "").isprintable()


def test_a_file_that_was_damaged_begins_anew(tmp_path: Path) -> None:
    uid, _ = identified(StateDirectory(tmp_path))
    (tmp_path / "default/VirtualMachine/web.yaml").write_text("kind: [")
    assert identified(StateDirectory(tmp_path))[0] != uid


def test_a_status_that_makes_no_sense_begins_anew_with_the_same_identity(tmp_path: Path) -> None:
    uid, _ = identified(StateDirectory(tmp_path))
    file = tmp_path / "default/VirtualMachine/web.yaml"
    file.write_text(file.read_text().replace("status: {}", "status: {operation: 7}"))
    found = StateDirectory(tmp_path).identify(machine(), SPEC)
    assert (found.metadata.uid, found.status) == (uid, VirtualMachineStatus())


def test_the_status_of_a_stranger_is_not_written(tmp_path: Path) -> None:
    assert not StateDirectory(tmp_path).write_status(WEB, VirtualMachineStatus())
    assert not (tmp_path / "default").exists()


def test_two_kinds_may_bear_one_name(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    vm, other = state.identify(machine(name="a"), SPEC), state.identify(provider("a"), SPEC)
    assert isinstance(vm, VirtualMachine)
    assert vm.metadata.uid != other.metadata.uid


def test_no_half_written_file_is_left_behind(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    state.identify(machine(), SPEC)
    for phase in ("A", "B"):
        state.write_status(WEB, VirtualMachineStatus(phase=phase))
    assert [path.name for path in (tmp_path / "default/VirtualMachine").iterdir()] == ["web.yaml"]


def test_a_directory_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "default").write_text("in the way")
    with pytest.raises(SourceError, match="default"):
        StateDirectory(tmp_path).identify(machine(), SPEC)


def test_one_controller_at_a_time(tmp_path: Path) -> None:
    first, second = StateDirectory(tmp_path), StateDirectory(tmp_path)
    first.lock()
    with pytest.raises(SourceError, match="Another controller"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()
