"""The privileges that the provider's role has (docs/vsphere.md), and which of them an account lacks, and where."""

from collections.abc import Mapping
from typing import Any

from common.text import some
from providers.core.adapter import MissingPrivilege
from providers.vsphere.session import Link

MOST = 100
"""VMs that are asked about, in one call: a role that is given on a folder is the same on all below it."""
EVERYWHERE = "all VMs"

PURPOSES = {
    "VirtualMachine.Interact.PowerOff": "every shutdown and stop",
    "VirtualMachine.Interact.PowerOn": "starts and reboots",
    "VirtualMachine.Interact.Suspend": "shutdowns that save memory (escalation SAVE)",
    "VirtualMachine.State.CreateSnapshot": "snapshot hooks",
    "VirtualMachine.GuestOperations.Execute": "exec hooks",
    "VirtualMachine.GuestOperations.Query": "exec hooks",
    "VirtualMachine.GuestOperations.Modify": "exec hooks",
}
REQUIRED = "VirtualMachine.Interact.PowerOff"


async def missing(link: Link, names: Mapping[str, str], *, programs: bool) -> tuple[MissingPrivilege, ...]:
    """What the account lacks on these VMs, whose names come by their managed object ids; one call, of
    AuthorizationManager.HasPrivilegeOnEntities. `programs`: whether hooks may run some in guests.

    Raises:
        vmodl.MethodFault: vCenter does not say.
    """
    manager = link.content.authorizationManager
    wanted = [name for name, purpose in PURPOSES.items() if programs or purpose != "exec hooks"]
    vms = [link.vm(moid) for moid in list(names)[:MOST]]
    if not vms or manager is None:
        return ()
    answer = await manager.HasPrivilegeOnEntities(vms, link.key, wanted)
    lacking = dict[str, list[str]]()
    for each in answer:
        for privilege in each.privAvailability:
            if not privilege.isGranted:
                lacking.setdefault(str(privilege.privId), []).append(names[_moid(each.entity)])
    return tuple(
        MissingPrivilege(name, _place(lacking[name], len(vms)), PURPOSES[name], name == REQUIRED)
        for name in wanted
        if name in lacking
    )


def _moid(entity: Any) -> str:
    return str(entity._moId)


def _place(names: list[str], of: int) -> str:
    return EVERYWHERE if len(names) == of else some(sorted(names))
