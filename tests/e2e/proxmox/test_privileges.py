"""What the provider's account may do: the roles of docs/proxmox.md suffice, and each privilege that lacks is named."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.account import GRANTS, GUESTS, GUESTS_8, NODES, TOP
from tests.e2e.proxmox.conftest import denied
from tests.e2e.proxmox.served import Served, ending, served
from tests.rigs.polling import poll
from tests.rigs.proxmox.client import Client, Machine, Refused

VMS: dict[str, dict[str, object]] = {"web": {"agent": "answers"}, "ct": {"kind": "lxc"}, "held": {}}
HOOKS = [
    pb.Hook(name="keep", snapshot=pb.SnapshotHook(name="before")),
    pb.Hook(name="save", exec=pb.ExecHook(command=["true"])),
]


@contextmanager
def granted(
    vms: Sequence[str] = GUESTS, nodes: Sequence[str] = NODES, release: int = 9, *, lists: bool = True
) -> Iterator[Served]:
    """A cluster whose provider has these privileges and no others."""
    with served(VMS, "--active-interval=200ms", "--idle-interval=300ms", acl=True, release=release) as it:
        it.cluster.grant(it.cluster.user, "/vms", *vms)
        it.cluster.grant(it.cluster.user, "/nodes", *nodes)
        it.restart()  # else it is ten minutes before it looks again what it may do
        if lists:
            it.calls.wait_vm("web", lambda vm: bool(vm.forecast.signals) and "not been read" not in messages(vm))
        yield it


def without(privilege: str, release: int = 9) -> list[str]:
    return [one for one in (GUESTS if release == 9 else GUESTS_8) if one != privilege]


def missed(it: Served) -> list[tuple[str, str]]:
    """The privileges that the provider says its account lacks, and where."""

    def told() -> list[tuple[str, str]]:
        info = it.calls.stub.GetProviderInfo(pb.GetProviderInfoRequest(), wait_for_ready=True)
        return [(each.privilege, each.place) for each in info.missing_privileges]

    return poll(told)


def messages(vm: pb.VM) -> str:
    return " ".join(problem.message for problem in vm.forecast.problems)


@pytest.mark.parametrize(("release", "role"), [(9, GUESTS), (8, GUESTS_8)], ids=["PVE 9", "PVE 8"])
def test_the_role_suffices_for_everything(release: int, role: Sequence[str]) -> None:
    with granted(role, release=release) as it:
        it.calls.wait_vm("web", lambda vm: list(vm.forecast.signals) == [pb.SIGNAL_GUEST_AGENT])
        operation = it.calls.end(it.shutdown("web", pre_stop=HOOKS))
        assert [hook.state for hook in operation.verdict.hooks] == [pb.HOOK_STATE_SUCCEEDED] * 2
        assert ending(operation) == "GRACEFUL"
        assert it.ending(it.calls.stub.PowerOn(pb.PowerOnRequest(vm="web"))) == "STARTED"
        assert it.ending(it.calls.stub.PowerOff(pb.PowerOffRequest(vm="web"))) == "FORCED/REQUESTED"
        assert it.ending(it.shutdown("ct")) == "GRACEFUL"
        assert "privilege" not in "".join(map(messages, it.calls.stub.ListVMs(pb.ListVMsRequest()).vms))


@pytest.mark.parametrize("privilege", GUESTS)
def test_each_privilege_on_guests_that_the_commands_give_is_missed_without_it(privilege: str) -> None:
    with granted(without(privilege), lists=False) as it:
        assert missed(it) == [(privilege, "/vms")]


@pytest.mark.parametrize("privilege", NODES)
def test_each_privilege_on_nodes_that_the_commands_give_is_missed_without_it(privilege: str) -> None:
    with granted(nodes=[one for one in NODES if one != privilege]) as it:
        assert missed(it) == [(privilege, "/nodes")]


@pytest.mark.parametrize("privilege", TOP)
def test_each_privilege_on_the_root_that_the_commands_give_is_for_whether_ha_is_disarmed(privilege: str) -> None:
    with granted() as it, Client(it.cluster) as client:
        with pytest.raises(Refused, match=denied("/", privilege)):
            client.get("/cluster/ha/status/current")
        it.cluster.grant(it.cluster.user, "/", privilege)
        client.get("/cluster/ha/status/current")


def test_the_commands_give_nothing_anywhere_else() -> None:
    assert GRANTS.keys() == {"/vms", "/nodes", "/"}


def test_without_vm_audit_no_guest_is_seen() -> None:
    with granted(without("VM.Audit"), lists=False) as it:
        assert list(it.calls.stub.ListVMs(pb.ListVMsRequest(), wait_for_ready=True).vms) == []


@pytest.mark.parametrize("vm", ["web", "ct"])
@pytest.mark.parametrize(
    "begin",
    [
        lambda it, vm: it.shutdown(vm),
        lambda it, vm: it.calls.stub.PowerOff(pb.PowerOffRequest(vm=vm)),
    ],
    ids=["shutdown", "power off"],
)
def test_without_vm_powermgmt_the_privilege_is_named(vm: str, begin: Callable[[Served, str], pb.Operation]) -> None:
    with granted(without("VM.PowerMgmt")) as it:
        operation = it.calls.end(begin(it, vm))
        assert (operation.state, operation.error.reason) == (pb.OPERATION_STATE_FAILED, "COMMAND_FAILED")
        assert "lacks the privilege VM.PowerMgmt on /vms/" in operation.error.message
        assert "docs/proxmox.md" in operation.error.message


@pytest.mark.parametrize(
    ("release", "role", "named"),
    [
        (9, without("VM.GuestAgent.Unrestricted"), "VM.GuestAgent"),
        (8, without("VM.Monitor", 8), "VM.Monitor"),
    ],
    ids=["PVE 9", "PVE 8"],
)
def test_without_a_privilege_of_the_agent_the_forecast_names_it_and_the_agent_is_asked_all_the_same(
    release: int, role: Sequence[str], named: str
) -> None:
    with granted(role, release=release) as it:
        vm = it.calls.wait_vm("web", lambda vm: named in messages(vm))
        assert list(vm.forecast.signals) == [pb.SIGNAL_GUEST_AGENT]
        assert it.ending(it.shutdown("web")) == "GRACEFUL"
        assert [signal for _, signal in it.cluster.show("web")["heard"]] == ["agent"]


def test_vm_guestagent_audit_suffices_for_pings_but_a_program_fails_with_the_privilege() -> None:
    with granted([*without("VM.GuestAgent.Unrestricted"), "VM.GuestAgent.Audit"]) as it:
        assert list(it.calls.vm("web").forecast.problems) == []
        operation = it.calls.end(it.shutdown("web", pre_stop=HOOKS))
        keep, save = operation.verdict.hooks
        assert (keep.state, save.state) == (pb.HOOK_STATE_SUCCEEDED, pb.HOOK_STATE_FAILED)
        assert "lacks the privilege VM.GuestAgent.Unrestricted" in save.output


def test_without_vm_snapshot_a_snapshot_fails_with_the_privilege() -> None:
    with granted(without("VM.Snapshot")) as it:
        operation = it.calls.end(it.shutdown("web", pre_stop=HOOKS))
        keep, save = operation.verdict.hooks
        assert (keep.state, save.state) == (pb.HOOK_STATE_FAILED, pb.HOOK_STATE_SUCCEEDED)
        assert "lacks the privilege VM.Snapshot" in keep.output


def test_with_sys_modify_on_the_root_a_power_button_may_be_pressed_beside_an_agent() -> None:
    with served(VMS, acl=True) as it:
        it.cluster.grant(it.cluster.user, "/", *GUESTS, *NODES, "Sys.Modify")
        it.restart()
        vm = it.calls.wait_vm("web", lambda vm: bool(vm.forecast.signals))
        assert list(vm.forecast.signals) == [pb.SIGNAL_GUEST_AGENT, pb.SIGNAL_ACPI]
        operation = it.calls.end(it.shutdown("web", signal_policy=pb.SignalPolicy(order=[pb.SIGNAL_ACPI])))
        assert (ending(operation), it.asked("web")) == ("GRACEFUL", ["powerdown"])


def backup(it: Served) -> pb.VM:
    it.cluster.backup("held", 30)
    return it.calls.wait_vm("held", lambda vm: "locked (backup)" in messages(vm))


def test_with_sys_audit_the_task_behind_a_lock_is_named() -> None:
    with granted() as it:
        backup(it)
        it.calls.wait_vm("held", lambda vm: "vzdump by root@pam" in messages(vm))


def test_without_sys_audit_a_lock_is_told_without_its_task() -> None:
    with granted(nodes=()) as it:
        assert "vzdump" not in messages(backup(it))


@pytest.mark.parametrize("vm", ["web", "held", "ct"])
@pytest.mark.parametrize(("nodes", "end"), [(NODES, "OUT_OF_BAND"), ((), "UNKNOWN")], ids=["with", "without"])
def test_only_with_sys_audit_a_colleagues_stop_is_told_from_a_guest_that_obeyed(
    vm: str, nodes: Sequence[str], end: str
) -> None:
    with granted(nodes=nodes) as it:
        it.cluster.set(vm, ignores=True)
        operation = it.ask(vm)
        with Client(it.cluster) as client:
            client.log_in("root@pam", it.cluster.root_password)
            Machine(it.cluster, client, vm).asks("stop", overrule_shutdown=1)
        assert it.ending(operation) == end


@pytest.mark.parametrize("vm", ["web", "ct"])
def test_without_sys_audit_all_that_is_ours_is_told_as_ever(vm: str) -> None:
    with granted(nodes=()) as it:
        it.cluster.set(vm, ignores=True)
        assert it.ending(it.shutdown(vm, 2)) == "FORCED/TIMEOUT"
        assert it.ending(it.calls.stub.PowerOn(pb.PowerOnRequest(vm=vm))) == "STARTED"
        it.cluster.set(vm, ignores=False)
        assert it.ending(it.shutdown(vm)) == "GRACEFUL"
