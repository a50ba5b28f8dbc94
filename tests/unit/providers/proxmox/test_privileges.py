"""Which privileges of the role an account lacks, and where."""

from collections.abc import Sequence

from providers.core.adapter import MissingPrivilege
from providers.proxmox.guests import Guest, Rights
from providers.proxmox.privileges import missing

AGENT = "VM.GuestAgent.Unrestricted"
ALL = ("VM.Audit", "VM.PowerMgmt", "VM.Snapshot", AGENT)


def guests(*ids: str) -> list[Guest]:
    return [Guest(vm_id, "qemu", f"vm{vm_id}", "pve1", "running") for vm_id in ids]


def rights(*vms: str, nodes: Sequence[str] = ("Sys.Audit",), **others: Sequence[str]) -> Rights:
    """On /vms, on /nodes, and on guests by their ids (`vm100`)."""
    own = {f"/vms/{name.removeprefix('vm')}": dict.fromkeys(given, 1) for name, given in others.items()}
    return Rights({"/vms": dict.fromkeys(vms, 1), "/nodes": dict.fromkeys(nodes, 1)} | own)


def lacks(account: Rights, *ids: str, programs: bool = True, before_nine: bool = False) -> list[MissingPrivilege]:
    return list(missing(account, guests(*(ids or ("100", "101"))), programs=programs, before_nine=before_nine))


def test_the_whole_role_lacks_nothing() -> None:
    assert lacks(rights(*ALL)) == []


def test_what_lacks_on_all_guests_is_told_of_all_of_them() -> None:
    (found,) = lacks(rights("VM.Audit", "VM.PowerMgmt", AGENT))
    assert (found.privilege, found.place, found.required) == ("VM.Snapshot", "/vms", False)


def test_without_vm_powermgmt_no_guest_can_be_shut_down() -> None:
    (found,) = lacks(rights("VM.Audit", "VM.Snapshot", AGENT))
    assert (found.privilege, found.required) == ("VM.PowerMgmt", True)


def test_what_lacks_on_some_guests_is_told_of_a_few_of_them() -> None:
    less = ("VM.Audit", "VM.PowerMgmt", AGENT)
    account = rights(*ALL, vm101=less, vm102=less, vm103=less, vm104=less)
    (found,) = lacks(account, "100", "101", "102", "103", "104")
    assert found.place == "/vms/101, /vms/102, /vms/103 and 1 more"


def test_an_account_that_sees_no_guest_may_lack_vm_audit() -> None:
    (found,) = missing(rights(), [], programs=False, before_nine=False)
    assert (found.privilege, found.place, found.required) == ("VM.Audit", "/vms", True)


def test_an_account_that_may_see_guests_where_there_are_none_lacks_nothing() -> None:
    assert missing(rights("VM.Audit"), [], programs=True, before_nine=False) == ()


def test_without_sys_audit_who_stopped_a_guest_is_not_seen() -> None:
    (found,) = lacks(rights(*ALL, nodes=()))
    assert (found.privilege, found.place) == ("Sys.Audit", "/nodes")


def test_where_no_programs_run_the_lesser_privilege_of_the_agent_is_enough() -> None:
    account = rights("VM.Audit", "VM.PowerMgmt", "VM.Snapshot", "VM.GuestAgent.Audit")
    assert lacks(account, programs=False) == []
    assert [found.privilege for found in lacks(account)] == [AGENT]


def test_before_proxmox_ve_9_the_agents_privilege_is_vm_monitor() -> None:
    account = rights("VM.Audit", "VM.PowerMgmt", "VM.Snapshot")
    assert [found.privilege for found in lacks(account, before_nine=True)] == ["VM.Monitor"]
    assert lacks(rights(*ALL[:3], "VM.Monitor"), before_nine=True) == []
