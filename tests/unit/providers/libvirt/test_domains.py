"""The decisions in the calls that neither the test driver nor a quick real guest can bring about."""

from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from providers.libvirt import domains
from providers.libvirt.domains import AGENT_TOOK_IT_SECONDS

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
    """One domain, as connection and handle in one. `fails` has what each call raises, and the state after."""

    def __init__(self, state: int, **fails: tuple[int, int]) -> None:
        self._state = state
        self._fails = fails
        self.calls = list[tuple[str, tuple[Any, ...]]]()

    def lookupByUUIDString(self, _vm_id: str) -> "Hypervisor":  # noqa: N802 - libvirt's name
        return self

    def state(self) -> list[int]:
        if self._state < 0:
            raise Failure(libvirt.VIR_ERR_NO_DOMAIN)
        return [self._state, 0]

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


def test_qemu_is_asked_to_end_before_it_is_killed() -> None:
    world = Hypervisor(RUNNING)
    domains.power_off(world, ID)
    assert world.calls == [("destroyFlags", (libvirt.VIR_DOMAIN_DESTROY_GRACEFUL,))]


def test_a_qemu_that_does_not_end_is_killed() -> None:
    class Stubborn(Hypervisor):
        def destroyFlags(self, flags: int) -> None:  # noqa: N802 - libvirt's name
            self.calls.append(("destroyFlags", (flags,)))
            if flags == libvirt.VIR_DOMAIN_DESTROY_GRACEFUL:
                raise Failure(libvirt.VIR_ERR_SYSTEM_ERROR)

    world = Stubborn(RUNNING)
    domains.power_off(world, ID)
    assert world.calls[-1] == ("destroyFlags", (libvirt.VIR_DOMAIN_DESTROY_DEFAULT,))


@pytest.mark.parametrize("after", [OFF, GONE])
def test_a_vm_that_went_off_by_itself_meanwhile_is_not_killed(after: int) -> None:
    world = Hypervisor(RUNNING, destroyFlags=(libvirt.VIR_ERR_OPERATION_INVALID, after))
    domains.power_off(world, ID)
    assert len(world.calls) == 1


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


def test_leases_are_its_addresses(connection: Any) -> None:
    """The test driver's own domain has an interface with a made-up lease."""
    host = domains.host(connection)
    own = connection.lookupByName("test").UUIDString()
    (address,) = domains.read(connection, host, own).addresses
    assert address.count(".") == 3


def test_a_vm_without_interface_has_no_address(connection: Any, vm_id: str) -> None:
    assert domains.read(connection, domains.host(connection), vm_id).addresses == ()
