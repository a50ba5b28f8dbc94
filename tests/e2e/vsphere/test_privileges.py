"""The role that docs/vsphere.md tells of is what the provider needs, no more and no less."""

import re
from pathlib import Path

from pyVmomi.VmomiSupport import GetWsdlMethod

from providers.core.adapter import GuestCredentials, Signal
from providers.vsphere.adapter import VsphereAdapter
from tests.e2e.following import GRACE, ended, watching
from tests.e2e.vsphere.conftest import Guest
from tests.rigs.vsphere.vcenter import VCenter

PAGE = Path(__file__).parents[3] / "docs" / "vsphere.md"
SESSION = {"Login", "Logout"}


def granted() -> dict[str, str]:
    """The privilege for each method, by the page's table."""
    rows = re.findall(r"^\| `(VirtualMachine\.[\w.]+)` \| (.*?) \|", PAGE.read_text(), re.MULTILINE)
    return {method: privilege for privilege, methods in rows for method in re.findall(r"`(\w+)`", methods)}


async def everything(vcenter: VCenter, adapter: VsphereAdapter, vm_id: str) -> set[str]:
    """The methods that are called when everything is done that the provider can do."""
    vcenter.reset_calls()
    async with watching(adapter) as watch:
        await adapter.get(vm_id)
        await ended(await adapter.guest_exec(vm_id, ["true"], GuestCredentials("root", "guest")))
        await adapter.snapshot(vm_id, "before", "", False)
        await adapter.save(vm_id)
        await adapter.power_on(vm_id)
        await watch.until(lambda vm: vm.id == vm_id and Signal.VMWARE_TOOLS in vm.signals)
        await adapter.send_signal(vm_id, Signal.VMWARE_TOOLS, GRACE)
        await watch.until_off(vm_id)
        await adapter.power_on(vm_id)
        await adapter.power_off(vm_id)
    await adapter.close()
    return {method for method in vcenter.calls() if not method.startswith("GET ")}


def required(method: str) -> str:
    """The privilege that pyvmomi knows a method to need; it knows none for those of guests."""
    return str(GetWsdlMethod("urn:vim25", method).info.privId)


async def test_the_role_is_for_what_is_called_and_for_nothing_else(
    vcenter: VCenter, adapter: VsphereAdapter, guest: Guest
) -> None:
    called = await everything(vcenter, adapter, guest())
    free = {method for method in called - granted().keys() if required(method) in ("System.View", "System.Anonymous")}
    assert called - free - SESSION == granted().keys()


def test_the_page_names_the_privileges_that_the_interface_demands() -> None:
    known = {method: required(method) for method in granted() if not method.endswith("InGuest")}
    del known["InitiateFileTransferFromGuest"]
    assert known == {method: granted()[method] for method in known}


def test_the_command_that_makes_the_role_has_the_same_privileges() -> None:
    command = re.sub(r"(\S+)\{([\w,]+)\}", _spread, PAGE.read_text().split("govc role.create vmpower")[1].split("$")[0])
    assert set(re.findall(r"VirtualMachine\.[\w.]+", command)) == set(granted().values())


def _spread(braces: re.Match[str]) -> str:
    return " ".join(braces[1] + word for word in braces[2].split(","))
