"""The decisions in the calls that neither the test driver nor a quick real guest can bring about."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from providers.core.errors import CommandFailed, Locked
from providers.libvirt import domains
from providers.libvirt.domains import AGENT_TOOK_IT_SECONDS
from providers.libvirt.states import Host

ID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
AGENT = libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT


class Failure(libvirt.libvirtError):  # type: ignore[misc]
    """A libvirtError of a given code."""

    def __init__(self, code: int) -> None:
        Exception.__init__(self, f"code {code}")
        self._code = code

    def get_error_code(self) -> int:
        return self._code


class Hypervisor:
    """One domain, as connection and handle in one. `fails` has what each call raises, and the state after; `job` is
    what jobStats returns, or the code of its error."""

    def __init__(
        self, state: int, *, reason: int = 0, agent: str = "connected", job: Any = None, **fails: tuple[int, int]
    ) -> None:
        self._state = state
        self._reason = reason
        self._agent = agent
        self._job = job
        self._fails = fails
        self.calls = list[tuple[str, tuple[Any, ...]]]()

    def lookupByUUIDString(self, _vm_id: str) -> "Hypervisor":  # noqa: N802 - libvirt's name
        return self

    def state(self) -> list[int]:
        if self._state < 0:
            raise Failure(libvirt.VIR_ERR_NO_DOMAIN)
        return [self._state, self._reason]

    def XMLDesc(self) -> str:  # noqa: N802 - libvirt's name
        target = f"<target name='org.qemu.guest_agent.0' state='{self._agent}'/>"
        return f"<domain><uuid>{ID}</uuid><devices><channel>{target}</channel></devices></domain>"

    def interfaceAddresses(self, _source: int) -> dict[str, Any]:  # noqa: N802 - libvirt's name
        return {}

    def jobStats(self) -> Any:  # noqa: N802 - libvirt's name
        if isinstance(self._job, int):
            raise Failure(self._job)
        return self._job

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> int:
            self.calls.append((name, args))
            if fail := self._fails.get(name):
                code, self._state = fail
                raise Failure(code)
            return 0

        return call


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How much later it is at each look at the clock."""
    steps = [0.0]
    moments = iter(range(2))
    clock = SimpleNamespace(monotonic=lambda: steps[0] * next(moments))
    monkeypatch.setattr("providers.libvirt.domains.time", clock)
    return steps


GONE = -1
MOVED = libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED
HOST = Host("node1", "", qemu=True)
RUNNING, OFF, GOING = libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTDOWN


@pytest.mark.parametrize("after", [OFF, GOING, GONE])
@pytest.mark.parametrize("code", [libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_AGENT_UNRESPONSIVE])
def test_an_error_after_the_guest_obeyed_is_none(code: int, after: int) -> None:
    domains.ask(Hypervisor(RUNNING, shutdownFlags=(code, after)), ID, AGENT)


@pytest.mark.parametrize("after", [RUNNING, libvirt.VIR_DOMAIN_PAUSED])
def test_an_error_while_the_guest_is_there_is_one(after: int) -> None:
    with pytest.raises(libvirt.libvirtError):
        domains.ask(Hypervisor(RUNNING, shutdownFlags=(libvirt.VIR_ERR_OPERATION_INVALID, after)), ID, AGENT)


@pytest.mark.parametrize("code", [libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_OPERATION_TIMEOUT])
def test_an_agent_that_never_answered_has_not_taken_the_request(code: int, seconds: list[float]) -> None:
    seconds[0] = AGENT_TOOK_IT_SECONDS - 1
    with pytest.raises(libvirt.libvirtError):
        domains.ask(Hypervisor(RUNNING, shutdownFlags=(code, RUNNING)), ID, AGENT)


def test_a_guest_slower_than_libvirts_patience_has_taken_the_request(seconds: list[float]) -> None:
    seconds[0] = AGENT_TOOK_IT_SECONDS + 1
    domains.ask(Hypervisor(RUNNING, shutdownFlags=(libvirt.VIR_ERR_AGENT_UNRESPONSIVE, RUNNING)), ID, AGENT)


def test_an_agent_that_left_before_it_was_asked_is_waited_for() -> None:
    gone = Hypervisor(RUNNING, agent="disconnected", shutdownFlags=(libvirt.VIR_ERR_AGENT_UNRESPONSIVE, RUNNING))
    with pytest.raises(Locked, match="has left"):
        domains.ask(gone, ID, AGENT)


def test_a_guest_that_was_moved_meanwhile_has_not_heard() -> None:
    moved = Hypervisor(OFF, reason=MOVED, shutdownFlags=(libvirt.VIR_ERR_OPERATION_INVALID, OFF))
    with pytest.raises(CommandFailed, match="moved to another host"):
        domains.ask(moved, ID, AGENT)


def test_qemu_is_asked_to_end_before_it_is_killed() -> None:
    world = Hypervisor(RUNNING)
    assert domains.power_off(world, ID)
    assert world.calls == [("destroyFlags", (libvirt.VIR_DOMAIN_DESTROY_GRACEFUL,))]


def test_a_qemu_that_does_not_end_is_killed() -> None:
    class Stubborn(Hypervisor):
        def destroyFlags(self, flags: int) -> None:  # noqa: N802 - libvirt's name
            self.calls.append(("destroyFlags", (flags,)))
            if flags == libvirt.VIR_DOMAIN_DESTROY_GRACEFUL:
                raise Failure(libvirt.VIR_ERR_SYSTEM_ERROR)

    world = Stubborn(RUNNING)
    assert domains.power_off(world, ID)
    assert world.calls[-1] == ("destroyFlags", (libvirt.VIR_DOMAIN_DESTROY_DEFAULT,))


def test_a_vm_that_is_killed_is_not_asked_first() -> None:
    world = Hypervisor(RUNNING)
    assert domains.kill(world, ID)
    assert world.calls == [("destroyFlags", (libvirt.VIR_DOMAIN_DESTROY_DEFAULT,))]


def test_a_vm_that_is_off_when_it_is_to_be_killed_was_not_cut_by_us() -> None:
    assert not domains.kill(Hypervisor(OFF), ID)


@pytest.mark.parametrize("after", [OFF, GONE])
def test_a_vm_that_went_off_by_itself_meanwhile_is_not_killed(after: int) -> None:
    world = Hypervisor(RUNNING, destroyFlags=(libvirt.VIR_ERR_OPERATION_INVALID, after))
    assert not domains.power_off(world, ID)
    assert len(world.calls) == 1


@pytest.mark.parametrize("code", [libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_OPERATION_TIMEOUT])
def test_a_qemu_that_heeds_sigterm_late_was_cut_by_us(code: int) -> None:
    assert domains.power_off(Hypervisor(RUNNING, destroyFlags=(code, OFF)), ID)


def test_a_guest_that_has_shut_down_already_is_not_cut_by_us() -> None:
    world = Hypervisor(GOING)
    assert not domains.power_off(world, ID)
    assert world.calls


@pytest.mark.parametrize("command", [domains.power_on, domains.power_off])
def test_nothing_is_done_to_a_vm_that_was_moved(command: Callable[[Any, str], object]) -> None:
    world = Hypervisor(OFF, reason=MOVED)
    with pytest.raises(CommandFailed, match="Its owner acts there"):
        command(world, ID)
    assert world.calls == []


def test_a_vm_that_is_moved_while_it_is_cut_is_an_error() -> None:
    class Moving(Hypervisor):
        def destroyFlags(self, _flags: int) -> None:  # noqa: N802 - libvirt's name
            self._state, self._reason = OFF, MOVED
            raise Failure(libvirt.VIR_ERR_OPERATION_INVALID)

    with pytest.raises(CommandFailed, match="moved to another host"):
        domains.power_off(Moving(RUNNING), ID)


def test_a_vm_that_cannot_be_killed_is_an_error() -> None:
    with pytest.raises(libvirt.libvirtError):
        domains.power_off(Hypervisor(RUNNING, destroyFlags=(libvirt.VIR_ERR_OPERATION_DENIED, RUNNING)), ID)


@pytest.mark.parametrize(
    ("state", "call"),
    [
        (OFF, "create"),
        (libvirt.VIR_DOMAIN_PAUSED, "resume"),
        (libvirt.VIR_DOMAIN_PMSUSPENDED, "pMWakeup"),
    ],
)
def test_each_state_is_left_in_its_own_way(state: int, call: str) -> None:
    world = Hypervisor(state)
    domains.power_on(world, ID)
    assert world.calls == [(call, ())]


def test_a_vm_that_somebody_else_started_meanwhile_is_on() -> None:
    domains.power_on(Hypervisor(OFF, create=(libvirt.VIR_ERR_OPERATION_INVALID, RUNNING)), ID)


@pytest.mark.parametrize("after", [OFF, GOING])
def test_a_vm_that_does_not_start_is_an_error(after: int) -> None:
    with pytest.raises(libvirt.libvirtError):
        domains.power_on(Hypervisor(OFF, create=(libvirt.VIR_ERR_OPERATION_FAILED, after)), ID)


# What is read


JOB, NO_JOB = {"type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED}, {"type": libvirt.VIR_DOMAIN_JOB_NONE}


@pytest.mark.parametrize(
    ("job", "told"),
    [
        (NO_JOB, ""),
        (JOB | {"operation": libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT}, "it is being migrated to another host"),
        (JOB | {"operation": libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP}, "its memory is being dumped"),
        (JOB | {"operation": libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP}, ""),
        (JOB, "libvirt holds it for another call"),
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, "libvirt holds it for another call"),
        (libvirt.VIR_ERR_NO_SUPPORT, ""),
        (libvirt.VIR_ERR_OPERATION_INVALID, ""),
    ],
)
def test_the_job_that_refuses_acpi_is_named(job: Any, told: str) -> None:
    assert domains.read(Hypervisor(RUNNING, job=job), HOST, ID, job=True).job == told


def test_an_unexpected_answer_about_jobs_is_an_error() -> None:
    with pytest.raises(libvirt.libvirtError):
        domains.read(Hypervisor(RUNNING, job=libvirt.VIR_ERR_RPC), HOST, ID, job=True)


def test_no_job_is_asked_for_where_none_is_expected() -> None:
    assert domains.read(Hypervisor(RUNNING, job=JOB), HOST, ID).job == ""


def test_all_are_read_as_one_by_one(connection: Any, handle: Any, vm_id: str) -> None:
    host = domains.host(connection)
    for step in (handle.create, handle.managedSave):
        step()
        assert domains.read(connection, host, vm_id) in domains.read_all(connection, host)


def test_the_xml_of_what_is_off_and_known_is_not_read_again(connection: Any, vm_id: str) -> None:
    host = domains.host(connection)
    known = {domain.id: domain for domain in domains.read_all(connection, host)}
    (again,) = (domain for domain in domains.read_all(connection, host, known) if domain.id == vm_id)
    assert again is known[vm_id]


@pytest.mark.parametrize("change", ["create", "rename", "managedSave"])
def test_what_is_known_otherwise_is_read_again(connection: Any, handle: Any, vm_id: str, change: str) -> None:
    host = domains.host(connection)
    if change == "managedSave":
        handle.create()
    known = {domain.id: replace(domain, state=OFF) for domain in domains.read_all(connection, host)}
    getattr(handle, change)(*(["new"] if change == "rename" else []))
    (again,) = (domain for domain in domains.read_all(connection, host, known) if domain.id == vm_id)
    assert again == domains.read(connection, host, vm_id)


def test_a_driver_that_tells_no_states_at_once_is_asked_for_each(connection: Any, handle: Any, vm_id: str) -> None:
    class Simple:
        def __getattr__(self, name: str) -> Any:
            return getattr(connection, name)

        def getAllDomainStats(self, _stats: int) -> None:  # noqa: N802 - libvirt's name
            raise Failure(libvirt.VIR_ERR_NO_SUPPORT)

    handle.create()
    found = domains.read_all(Simple(), domains.host(connection))
    assert RUNNING in [domain.state for domain in found if domain.id == vm_id]


def test_a_run_gets_a_mark_that_stays_when_others_come(connection: Any, handle: Any, vm_id: str) -> None:
    host = domains.host(connection)
    handle.create()
    run = domains.mark_run(connection, vm_id)
    assert run != ""
    assert domains.read(connection, host, vm_id).run == run
    assert domains.mark_run(connection, vm_id) == run


def test_the_next_run_is_another(connection: Any, handle: Any, vm_id: str) -> None:
    runs = set[str]()
    for _ in range(2):
        handle.create()
        runs.add(domains.mark_run(connection, vm_id))
        handle.destroy()
    assert len(runs) == 2
    assert "vmpower" not in handle.XMLDesc()


def test_leases_are_its_addresses(connection: Any) -> None:
    """The test driver's own domain has an interface with a made-up lease."""
    host = domains.host(connection)
    own = connection.lookupByName("test").UUIDString()
    (address,) = domains.read(connection, host, own).addresses
    assert address.count(".") == 3


class Addressed:
    """A domain whose agent tells of three interfaces."""

    def __init__(self) -> None:
        self.sources: list[int] = []

    def lookupByUUIDString(self, _vm_id: str) -> "Addressed":  # noqa: N802 - libvirt's name
        return self

    def interfaceAddresses(self, source: int) -> dict[str, Any]:  # noqa: N802 - libvirt's name
        self.sources.append(source)
        addresses = [{"addr": "192.0.2.1", "prefix": 24, "type": 0}, {"addr": "2001:db8::1", "prefix": 64, "type": 1}]
        return {"eth0": {"addrs": addresses}, "eth1": {"addrs": None}, "lo": {"addrs": [{"addr": "127.0.0.1"}]}}


def test_what_its_agent_says_are_its_addresses_is_asked_of_its_agent() -> None:
    handle = Addressed()
    assert domains.agent_addresses(handle, ID) == ("192.0.2.1", "2001:db8::1", "127.0.0.1")
    assert handle.sources == [libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT]


def test_a_vm_without_interface_has_no_address(connection: Any, vm_id: str) -> None:
    assert domains.read(connection, domains.host(connection), vm_id).addresses == ()
