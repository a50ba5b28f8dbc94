"""Which privileges of the role an account lacks, and on which VMs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pyVmomi import vim

from providers.core.adapter import MissingPrivilege
from providers.vsphere.privileges import MOST, PURPOSES, REQUIRED, missing
from providers.vsphere.session import Link
from tests.unit.providers.vsphere.fake import FakeStub, link

SNAPSHOT = "VirtualMachine.State.CreateSnapshot"
NAMES = {"vm-1": "web", "vm-2": "db"}


class Answering:
    """vCenter's AuthorizationManager, which denies what it is told to, by VM."""

    def __init__(self, **denied: Sequence[str]) -> None:
        self.denied, self.asked = denied, list[tuple[int, str, list[str]]]()

    async def HasPrivilegeOnEntities(self, vms: list[Any], key: str, wanted: list[str]) -> list[Any]:  # noqa: N802
        self.asked.append((len(vms), key, wanted))
        return [self._of(vm, wanted) for vm in vms]

    def _of(self, vm: Any, wanted: list[str]) -> Any:
        denied = self.denied.get(NAMES.get(vm._moId, ""), ())
        told = [vim.AuthorizationManager.PrivilegeAvailability(privId=p, isGranted=p not in denied) for p in wanted]
        return vim.AuthorizationManager.EntityPrivilege(entity=vm, privAvailability=told)


class Content:
    """What a session has of vCenter."""

    def __init__(self, manager: Answering | None) -> None:
        self.authorizationManager = manager


def on(manager: Answering | None) -> Link:
    return replace(link(FakeStub()), content=Content(manager), key="session-1")


async def lacks(manager: Answering, *, programs: bool = True) -> list[MissingPrivilege]:
    return list(await missing(on(manager), NAMES, programs=programs))


async def test_an_account_with_the_role_lacks_nothing_and_is_asked_about_once() -> None:
    manager = Answering()
    assert await lacks(manager) == []
    assert manager.asked == [(2, "session-1", list(PURPOSES))]


async def test_what_lacks_everywhere_is_told_of_all_vms() -> None:
    assert await lacks(Answering(web=[SNAPSHOT], db=[SNAPSHOT])) == [
        MissingPrivilege(SNAPSHOT, "all VMs", "snapshot hooks")
    ]


async def test_what_lacks_on_some_vms_is_told_with_their_names() -> None:
    (found,) = await lacks(Answering(db=[REQUIRED]))
    assert (found.place, found.required) == ("db", True)


async def test_where_no_programs_run_their_privileges_are_not_asked_for() -> None:
    manager = Answering()
    await lacks(manager, programs=False)
    assert not any("GuestOperations" in privilege for privilege in manager.asked[0][2])


async def test_of_very_many_vms_only_some_are_asked_about() -> None:
    manager = Answering()
    await missing(on(manager), {f"vm-{n}": f"web-{n}" for n in range(5000)}, programs=True)
    assert manager.asked[0][0] == MOST


async def test_where_there_are_no_vms_or_nobody_to_ask_nothing_is_known() -> None:
    manager = Answering()
    assert await missing(on(manager), {}, programs=True) == ()
    assert await missing(on(None), NAMES, programs=True) == ()
    assert manager.asked == []
