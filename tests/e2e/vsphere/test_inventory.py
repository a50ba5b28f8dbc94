"""What there is, where, and how it comes and goes: the adapter on the rig."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from providers.core.adapter import Changed, PowerState, Removed
from providers.core.errors import CommandFailed, HypervisorUnavailable, VMNotFound
from providers.vsphere.adapter import VsphereAdapter
from tests.e2e.following import watching
from tests.e2e.vsphere.conftest import Settings
from tests.rigs.vsphere.vcenter import VCenter

VMS: dict[str, dict[str, object]] = {
    "web": {"folder": "prod"},
    "twin-1": {"name": "twin", "folder": "prod/a"},
    "twin-2": {"name": "twin", "folder": "test"},
    "pooled": {"pool": "gold/inner"},
    "far": {"datacenter": "DC2"},
    "gäste-☕": {"folder": "prod", "power": "off"},
}


@pytest.fixture
def vcenter() -> Iterator[VCenter]:
    with VCenter(VMS) as vcenter:
        yield vcenter


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        ("", ["far", "gäste-☕", "pooled", "twin", "twin", "web"]),
        ("/DC0", ["gäste-☕", "pooled", "twin", "twin", "web"]),
        ("DC2", ["far"]),
        ("/DC0/vm/prod", ["gäste-☕", "twin", "web"]),
        ("/DC0/vm/prod/a", ["twin"]),
        ("/DC0/host/DC0_C0", ["gäste-☕", "pooled", "twin", "twin", "web"]),
        ("/DC0/host/DC0_C0/Resources/gold", ["pooled"]),
    ],
)
async def test_only_what_is_in_scope_exists(settings: Settings, scope: str, names: list[str]) -> None:
    adapter = VsphereAdapter(settings(scope=scope))
    assert sorted(vm.name for vm in await adapter.list()) == names
    await adapter.close()


async def test_a_scope_that_does_not_exist_is_named(settings: Settings) -> None:
    adapter = VsphereAdapter(settings(scope="/DC0/vm/prdo"))
    with pytest.raises(HypervisorUnavailable, match=r"/DC0/vm/prdo.*--scope"):
        await adapter.list()
    await adapter.close()


async def test_each_vm_has_its_path_also_one_of_a_pool(adapter: VsphereAdapter) -> None:
    paths = sorted(vm.labels["path"] for vm in await adapter.list())
    assert paths == [
        "/DC0/vm/pooled",
        "/DC0/vm/prod/a/twin",
        "/DC0/vm/prod/gäste-☕",
        "/DC0/vm/prod/web",
        "/DC0/vm/test/twin",
        "/DC2/vm/far",
    ]


async def test_the_folders_above_the_scope_are_part_of_the_path(settings: Settings) -> None:
    adapter = VsphereAdapter(settings(scope="/DC0/vm/prod/a"))
    assert [vm.aliases[0] for vm in await adapter.list()] == ["/DC0/vm/prod/a/twin"]
    await adapter.close()


async def test_a_new_vm_is_told_and_one_that_is_off_and_deleted_is_gone(
    vcenter: VCenter, adapter: VsphereAdapter
) -> None:
    async with watching(adapter) as watch:
        vcenter.add("new", power="off")
        vm = await watch.until(lambda vm: vm.name == "new")
        assert vm.id == vcenter.show("new")["instance_uuid"]
        vcenter.remove("new")
        assert await watch.next() == Removed(vm.id)
    with pytest.raises(VMNotFound):
        await adapter.get(vm.id)


async def test_a_running_vm_whose_host_is_taken_away_is_gone(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    vm_id = vcenter.show("web")["instance_uuid"]
    async with watching(adapter) as watch:
        vcenter.remove("web")
        assert await watch.next() == Removed(vm_id)


async def test_a_new_name_is_told(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    vm_id = vcenter.show("web")["instance_uuid"]
    async with watching(adapter) as watch:
        vcenter.rename("web", "shop")
        vm = await watch.until(lambda vm: vm.id == vm_id)
        assert (vm.name, vm.labels["path"]) == ("shop", "/DC0/vm/prod/shop")


async def test_a_new_place_is_told(vcenter: VCenter, adapter: VsphereAdapter) -> None:
    vm_id = vcenter.show("web")["instance_uuid"]
    async with watching(adapter) as watch:
        vcenter.move("web", "archive/2030")
        vm = await watch.until(lambda vm: vm.id == vm_id and "archive" in vm.labels.get("path", ""))
        assert vm.labels["path"] == "/DC0/vm/archive/2030/web"


async def test_a_running_vm_that_is_moved_out_of_scope_is_not_followed_and_takes_no_operations(
    vcenter: VCenter, settings: Settings
) -> None:
    adapter = VsphereAdapter(settings(scope="/DC0/vm/prod"))
    vm_id = vcenter.show("web")["instance_uuid"]
    async with watching(adapter) as watch:
        vcenter.move("web", "archive")
        vm = await watch.until(lambda vm: vm.id == vm_id and bool(vm.refused))
        assert (vm.power_state, vm.signals) == (PowerState.UNKNOWN, ())
        with pytest.raises(CommandFailed, match="scope"):
            await adapter.power_off(vm_id)
        vcenter.move("web", "prod")
        assert (await watch.until(lambda vm: vm.id == vm_id and bool(vm.signals))).refused == ""
    assert vcenter.show("web")["asked_at"] == []
    await adapter.close()


async def test_a_vm_that_is_out_of_scope_is_said_to_be_there_when_it_is_asked_for(
    vcenter: VCenter, settings: Settings
) -> None:
    adapter = VsphereAdapter(settings(scope="/DC0/vm/prod"))
    async with watching(adapter):
        vm = await adapter.get(vcenter.show("twin-2")["instance_uuid"])
    assert vm.power_state is PowerState.UNKNOWN
    assert "scope" in vm.refused
    await adapter.close()


@pytest.mark.parametrize("connection", ["disconnected", "inaccessible", "invalid", "orphaned"])
async def test_a_vm_that_vcenter_does_not_reach_is_neither_gone_nor_off(
    vcenter: VCenter, adapter: VsphereAdapter, connection: str
) -> None:
    vm_id = vcenter.show("web")["instance_uuid"]
    async with watching(adapter) as watch:
        vcenter.set("web", connection=connection)
        change = await watch.next()
        assert isinstance(change, Changed)
        assert (change.vm.id, change.vm.power_state) == (vm_id, PowerState.UNKNOWN)
        assert (await adapter.get(vm_id)).power_state is PowerState.UNKNOWN
        vcenter.set("web", connection="connected")
        assert (await watch.until(lambda vm: vm.id == vm_id)).power_state is PowerState.ON


async def test_a_host_that_stands_alone_works_as_well(settings: Settings) -> None:
    with VCenter({"web": {}}, esx=True) as host:
        adapter = VsphereAdapter(settings(url=host.url, credentials_dir=host.credentials, ca_file=host.ca))
        async with watching(adapter) as watch:
            vm_id = host.show("web")["instance_uuid"]
            await adapter.power_off(vm_id)
            assert (await watch.until_off(vm_id)).labels["path"] == "/ha-datacenter/vm/web"
        assert "ESXi" in adapter.version
        await adapter.close()


async def test_the_addresses_that_tools_report_are_told(adapter: VsphereAdapter, vcenter: VCenter) -> None:
    vcenter.add("addressed", address="198.51.100.7")
    (vm,) = [vm for vm in await adapter.list() if vm.name == "addressed"]
    assert ((await adapter.get(vm.id)).guest_addresses, vm.guest_addresses) == (("198.51.100.7",), ("198.51.100.7",))


async def test_the_uuid_of_its_firmware_is_another_than_its_id(adapter: VsphereAdapter) -> None:
    told = [(UUID(vm.system_uuid), UUID(vm.id)) for vm in await adapter.list()]
    assert told
    assert all(firmware != vm_id for firmware, vm_id in told)
