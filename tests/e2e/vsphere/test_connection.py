"""The connection to vCenter: trusted, few, lost and found; the adapter on the rig."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from providers.core.adapter import Listed, OffCause, PowerState, Signal
from providers.core.errors import HypervisorUnavailable
from providers.core.lanes import AT_ONCE, Lane
from providers.vsphere.adapter import VsphereAdapter
from providers.vsphere.session import STREAMS
from tests.e2e.following import GRACE, following, watching
from tests.e2e.vsphere.conftest import Guest, Settings
from tests.e2e.vsphere.settled import settled
from tests.rigs.polling import poll
from tests.rigs.vsphere.vcenter import VCenter

TOOLS = Signal.VMWARE_TOOLS


@pytest.fixture
async def other(settings: Settings) -> AsyncIterator[VsphereAdapter]:
    """Another adapter, which has not logged in yet."""
    adapter = VsphereAdapter(settings())
    yield adapter
    await adapter.close()


# Trust


@pytest.mark.parametrize("digest", ["sha256", "sha1"])
async def test_vcenter_is_known_by_its_thumbprint(vcenter: VCenter, settings: Settings, digest: str) -> None:
    adapter = VsphereAdapter(settings(thumbprint=getattr(vcenter.thumbprint, digest)))
    assert await adapter.list()
    await adapter.close()


@pytest.mark.parametrize("trust", [{"thumbprint": "ab" * 32}, {"ca_file": None}], ids=["thumbprint", "system"])
async def test_a_vcenter_that_is_not_trusted_is_not_told_the_password(
    vcenter: VCenter, settings: Settings, trust: dict[str, Any]
) -> None:
    vcenter.reset_calls()
    adapter = VsphereAdapter(settings(**trust))
    with pytest.raises(HypervisorUnavailable, match="SSLCertVerificationError"):
        await adapter.list()
    assert vcenter.calls() == {}
    await adapter.close()


async def test_an_insecure_adapter_does_not_verify(settings: Settings) -> None:
    adapter = VsphereAdapter(settings(insecure=True))
    assert await adapter.list()
    await adapter.close()


# Calls and connections


async def test_the_calls_of_a_shutdown_do_not_grow_with_its_length(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    quick, slow = guest("quick", shutdown_time="100ms"), guest("slow", shutdown_time="3s")
    async with settled(adapter) as watch:
        for vm_id in (quick, slow):
            vcenter.reset_calls()
            await adapter.send_signal(vm_id, TOOLS, GRACE)
            await watch.until_off(vm_id)
            assert vcenter.calls().keys() == {"ShutdownGuest", "WaitForUpdatesEx"}
            assert vcenter.calls()["ShutdownGuest"] == 1


async def test_power_and_its_task_are_one_call(vcenter: VCenter, adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(power_off_time="500ms")
    async with settled(adapter):
        vcenter.reset_calls()
        await adapter.power_off(vm_id)
        assert vcenter.calls().keys() == {"PowerOffVM_Task", "WaitForUpdatesEx"}
        assert vcenter.calls()["PowerOffVM_Task"] == 1


async def test_nothing_is_asked_while_nothing_happens(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    async with settled(adapter):
        vcenter.reset_calls()
        await asyncio.sleep(1)
        assert vcenter.calls().keys() <= {"WaitForUpdatesEx"}
        assert vcenter.calls().get("WaitForUpdatesEx", 0) <= 1


async def test_calls_one_after_the_other_share_a_connection_beside_the_streams(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest(ignores=True)
    before = vcenter.connections().opened
    async with settled(adapter):
        for _ in range(50):
            await adapter.send_signal(vm_id, TOOLS, GRACE)
    assert vcenter.connections().opened - before == 2


async def test_a_distant_vcenter_is_asked_by_many_at_once_over_few_connections(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("providers.core.lanes.PATIENCE", 60.0)  # on a busy machine calls would give their places up
    with VCenter({"web": {"count": 80, "ignores": True}}, latency=0.05) as distant:
        adapter = VsphereAdapter(settings(url=distant.url, credentials_dir=distant.credentials, ca_file=distant.ca))
        async with watching(adapter):
            ids = [distant.show(f"web-{number:04}")["instance_uuid"] for number in range(1, 81)]
            await asyncio.gather(*(adapter.send_signal(vm_id, TOOLS, GRACE) for vm_id in ids))
            await asyncio.gather(*(adapter.get(vm_id) for vm_id in ids))
        await adapter.close()
        assert all(distant.show(f"web-{number:04}")["asked_at"] for number in range(1, 81))
        assert STREAMS + AT_ONCE[Lane.ASK] / 2 < distant.connections().peak <= STREAMS + AT_ONCE[Lane.ASK]


async def test_guests_whose_asking_hangs_hold_up_nothing_else(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    hanging = [guest(f"hang-{number:02}", faults={"ShutdownGuest": ["hang"]}) for number in range(30)]
    vm_id = guest()
    vcenter.reset_calls()
    async with watching(adapter) as watch:
        asking = [asyncio.create_task(adapter.send_signal(each, TOOLS, GRACE)) for each in hanging]
        full = AT_ONCE[Lane.ASK]
        await asyncio.to_thread(poll, lambda: vcenter.calls().get("ShutdownGuest", 0) >= full)
        async with asyncio.timeout(10):  # a third of what a call that hangs may take
            await adapter.power_off(vm_id)
            await watch.until_off(vm_id)
            await adapter.power_on(vm_id)
            await adapter.snapshot(vm_id, "before", "", False)
            assert (await adapter.get(vm_id)).power_state is PowerState.ON
            assert (await adapter.get(hanging[-1])).power_state is PowerState.ON
            await adapter.power_off(hanging[0])
        assert not any(task.done() for task in asking)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def test_closing_logs_out(vcenter: VCenter, settings: Settings) -> None:
    adapter = VsphereAdapter(settings())
    await adapter.list()
    vcenter.reset_calls()
    await adapter.close()
    assert vcenter.calls()["Logout"] == 1


# Sessions


async def test_an_expired_session_is_renewed_unnoticed(vcenter: VCenter, adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest()
    async with watching(adapter) as watch:
        vcenter.expire_sessions()
        await adapter.send_signal(vm_id, TOOLS, GRACE)
        assert (await watch.until_off(vm_id)).off_cause is OffCause.GUEST


async def test_all_who_find_the_session_expired_share_one_login(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    ids = [guest(f"web-{number}", ignores=True) for number in range(20)]
    async with watching(adapter):
        vcenter.reset_calls()
        vcenter.expire_sessions()
        await asyncio.gather(*(adapter.send_signal(vm_id, TOOLS, GRACE) for vm_id in ids))
        assert vcenter.calls()["Login"] == 1


async def test_a_watch_whose_session_expires_lists_anew(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    async with watching(adapter) as watch:
        vcenter.expire_sessions()
        assert isinstance(await watch.next(), Listed)


async def test_a_rotated_password_is_used_at_the_next_login(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest()
    async with watching(adapter) as watch:
        vcenter.rotate_password("Neu-2!")
        vcenter.expire_sessions()
        await adapter.send_signal(vm_id, TOOLS, GRACE)
        await watch.until_off(vm_id)


async def test_a_wrong_password_is_tried_once_and_not_again_until_it_changes(
    vcenter: VCenter, other: VsphereAdapter
) -> None:
    right = vcenter.password
    (vcenter.credentials / "password").write_text("wrong")
    vcenter.reset_calls()
    for _ in range(5):
        with pytest.raises(HypervisorUnavailable, match="refuses the user or password"):
            await other.list()
    assert vcenter.calls()["Login"] == 1
    (vcenter.credentials / "password").write_text(right)
    assert await other.list()


# Outages


@pytest.mark.parametrize("keep_sessions", [True, False], ids=["kept", "lost"])
@pytest.mark.parametrize("busy", [True, False], ids=["busy", "gone"])
async def test_an_outage_ends_the_watch_and_the_next_one_goes_on(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest, keep_sessions: bool, busy: bool
) -> None:
    stays, leaves = guest("stays"), guest("leaves")
    async with watching(adapter) as watch:
        vcenter.stop(keep_sessions=keep_sessions, busy=busy)
        try:
            with pytest.raises(HypervisorUnavailable):
                await watch.until_off(stays)
            with pytest.raises(HypervisorUnavailable, match="cannot be reached"):
                await adapter.get(stays)
            vcenter.power("leaves", "crash")
        finally:
            vcenter.start()
    async with following(adapter) as watch:
        assert (await watch.until_off(leaves)).off_cause is OffCause.CRASHED
        await adapter.send_signal(stays, TOOLS, GRACE)
        assert (await watch.until_off(stays)).off_cause is OffCause.GUEST


async def test_a_task_is_waited_for_although_the_watch_breaks(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    vm_id = guest(power_off_time="500ms")
    async with watching(adapter) as watch:
        vcenter.faults(WaitForUpdatesEx=["cut"])
        switching = asyncio.create_task(adapter.power_off(vm_id))
        with pytest.raises(HypervisorUnavailable):
            await watch.until_off(vm_id)
    async with watching(adapter):
        await asyncio.wait_for(switching, 30)
    assert vcenter.show("web")["power"] == "poweredOff"
    assert len(vcenter.show("web")["asked_at"]) == 1


async def test_an_answer_that_is_lost_is_an_outage(vcenter: VCenter, adapter: VsphereAdapter, guest: Guest) -> None:
    vm_id = guest(ignores=True)
    async with watching(adapter):
        vcenter.faults(ShutdownGuest=["lost"])
        with pytest.raises(HypervisorUnavailable):
            await adapter.send_signal(vm_id, TOOLS, GRACE)
        await adapter.send_signal(vm_id, TOOLS, GRACE)
