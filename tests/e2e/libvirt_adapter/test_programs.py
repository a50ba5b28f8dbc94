"""Programs in real guests, and snapshots of them."""

import signal

import pytest

from providers.core.adapter import GuestExit, PowerState
from providers.core.errors import CommandFailed, ProgramMissing
from providers.libvirt.adapter import LibvirtAdapter
from tests.e2e.libvirt_adapter.waiting import Run, ended, execute
from tests.rigs.guests.domain import Guest
from tests.rigs.libvirtd import Libvirtd


@pytest.fixture(scope="module")
def executor(rig: Libvirtd) -> str:
    vm_id = rig.define(Guest("executor"), start=True)
    rig.wait_ready("executor")
    return vm_id


async def test_a_program_reports_its_exit_code_and_both_streams(adapter: LibvirtAdapter, executor: str) -> None:
    end = await execute(adapter, executor, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert end == GuestExit(7, b"out\nerr\n")


async def test_no_shell_comes_between(adapter: LibvirtAdapter, executor: str) -> None:
    assert (await execute(adapter, executor, "echo", "$HOME", "a b", "*", "ü")).output.decode() == "$HOME a b * ü\n"


async def test_a_program_that_runs_has_no_end_yet(adapter: LibvirtAdapter, executor: str) -> None:
    process = await adapter.guest_exec(executor, ["sleep", "60"], None)
    assert await process.poll() is None
    assert (await execute(adapter, executor, "kill", process.pid)).exit_code == 0
    assert (await ended(process)).exit_code == 128 + signal.SIGTERM


async def test_a_missing_program_is_reported_in_the_guests_words(adapter: LibvirtAdapter, executor: str) -> None:
    with pytest.raises(ProgramMissing, match="No such file or directory"):
        await adapter.guest_exec(executor, ["/no/such/program"], None)


async def test_a_megabyte_of_output_arrives_whole(adapter: LibvirtAdapter, executor: str) -> None:
    end = await execute(adapter, executor, "sh", "-c", "yes 12345678 | head -c 1048576; echo end >&2")
    assert len(end.output) == 1048576 + 4
    assert end.output.endswith(b"end\n")


async def test_output_beyond_what_libvirt_carries_is_reported_as_such(adapter: LibvirtAdapter, executor: str) -> None:
    with pytest.raises(CommandFailed, match="more than libvirt carries"):
        await execute(adapter, executor, "sh", "-c", "yes 12345678 | head -c 4194304")
    assert (await execute(adapter, executor, "true")).exit_code == 0


async def test_a_guests_agent_tells_its_addresses(adapter: LibvirtAdapter, executor: str) -> None:
    assert (await execute(adapter, executor, "ip", "addr", "add", "203.0.113.7/32", "dev", "lo")).exit_code == 0
    assert "203.0.113.7" in await adapter.guest_addresses(executor)


async def test_a_guest_without_agent_tells_no_addresses(adapter: LibvirtAdapter, run: Run) -> None:
    with pytest.raises(CommandFailed):
        await adapter.guest_addresses(run(Guest("noagent", agent="off")))


async def test_a_guest_without_agent_runs_no_program(adapter: LibvirtAdapter, run: Run) -> None:
    vm_id = run(Guest("noagent", agent="off"))
    with pytest.raises(CommandFailed, match="agent is not configured"):
        await adapter.guest_exec(vm_id, ["true"], None)


# Snapshots


async def test_snapshots_with_and_without_memory_are_there_afterwards(
    rig: Libvirtd, adapter: LibvirtAdapter, run: Run
) -> None:
    vm_id = run(Guest("disk", disk=True))
    await adapter.snapshot(vm_id, "whole & <all>", "with memory", True)
    await adapter.snapshot(vm_id, "disks", "without memory", False)
    with rig.connect() as connection:
        domain = connection.lookupByName("disk")
        found = {snapshot.getName(): snapshot.getXMLDesc() for snapshot in domain.listAllSnapshots()}
    assert set(found) == {"whole & <all>", "disks"}
    assert "<memory snapshot='internal'/>" in found["whole & <all>"]
    assert "<memory snapshot='no'/>" in found["disks"]
    assert "<description>without memory</description>" in found["disks"]
    assert (await adapter.get(vm_id)).power_state is PowerState.ON


async def test_a_guest_without_disk_has_no_snapshot(adapter: LibvirtAdapter, executor: str) -> None:
    with pytest.raises(CommandFailed, match="no disk"):
        await adapter.snapshot(executor, "snapshot", "", False)
