"""libvirt's words and ours, as tables."""

from dataclasses import replace
from xml.sax.saxutils import escape

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.core.adapter import OffCause, PowerState, Reason, Signal
from providers.core.errors import UnknownNativeState
from providers.libvirt.states import NATIVE_STATES, Agent, Domain, Host, domain, dotted, to_vm, without_credentials

QEMU = Host("node1", "libvirt 9.0.0", qemu=True)
TEST = Host("node1", "libvirt 9.0.0", qemu=False)
RUNNING = Domain("id", "name", libvirt.VIR_DOMAIN_RUNNING, 1, QEMU, agent=Agent.CONNECTED)
OFF = replace(RUNNING, state=libvirt.VIR_DOMAIN_SHUTOFF, agent=Agent.DISCONNECTED)
PAUSED = replace(RUNNING, state=libvirt.VIR_DOMAIN_PAUSED, reason=libvirt.VIR_DOMAIN_PAUSED_USER)
CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'{}/></channel>"


def xml(name: str = "web", features: str = "<acpi/>", devices: str = "", more: str = "") -> str:
    return (
        f"<domain type='kvm'><name>{escape(name)}</name><uuid>u-u-i-d</uuid>"
        f"<features>{features}</features>{more}<devices>{devices}</devices></domain>"
    )


def parsed(text: str, host: Host = QEMU) -> Domain:
    return domain(text, libvirt.VIR_DOMAIN_RUNNING, 1, persistent=True, saved=False, host=host)


# What the XML says


def test_names_and_ids_are_read() -> None:
    assert (parsed(xml()).id, parsed(xml()).name) == ("u-u-i-d", "web")


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1))
def test_any_name_arrives_as_it_was_given(name: str) -> None:
    assert parsed(xml(name)).name.split() == name.split()


@pytest.mark.parametrize(
    ("devices", "agent"),
    [
        ("", Agent.ABSENT),
        ("<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>", Agent.ABSENT),
        ("<channel type='unix'/>", Agent.ABSENT),
        (CHANNEL.format(""), Agent.DISCONNECTED),
        (CHANNEL.format(" state='disconnected'"), Agent.DISCONNECTED),
        (CHANNEL.format(" state='connected'"), Agent.CONNECTED),
    ],
)
def test_the_agent_is_what_its_channel_says(devices: str, agent: Agent) -> None:
    assert parsed(xml(devices=devices)).agent is agent


@pytest.mark.parametrize(("features", "acpi"), [("<acpi/>", True), ("<apic/>", False), ("", False)])
def test_acpi_is_a_feature_of_the_machine(features: str, acpi: bool) -> None:
    assert parsed(xml(features=features)).acpi is acpi


def test_a_driver_without_such_features_is_trusted_to_find_a_way() -> None:
    assert to_vm(parsed(xml(features=""), TEST)).signals == (Signal.ACPI,)


@pytest.mark.parametrize(
    ("action", "restarts"),
    [("", False), ("destroy", False), ("preserve", False), ("restart", True), ("rename-restart", True)],
)
def test_on_poweroff_tells_whether_it_is_started_again(action: str, restarts: bool) -> None:
    more = f"<on_poweroff>{action}</on_poweroff>" if action else ""
    assert parsed(xml(more=more)).restarts is restarts


# States


@pytest.mark.parametrize(
    ("state", "power"),
    [
        (libvirt.VIR_DOMAIN_RUNNING, PowerState.ON),
        (libvirt.VIR_DOMAIN_BLOCKED, PowerState.ON),
        (libvirt.VIR_DOMAIN_SHUTDOWN, PowerState.ON),
        (libvirt.VIR_DOMAIN_PAUSED, PowerState.PAUSED),
        (libvirt.VIR_DOMAIN_CRASHED, PowerState.PAUSED),
        (libvirt.VIR_DOMAIN_PMSUSPENDED, PowerState.SUSPENDED),
        (libvirt.VIR_DOMAIN_SHUTOFF, PowerState.OFF),
    ],
)
def test_each_state_has_its_power(state: int, power: PowerState) -> None:
    assert to_vm(replace(RUNNING, state=state)).power_state is power


@given(st.integers().filter(lambda state: state not in NATIVE_STATES))
def test_an_unknown_state_is_an_error_and_never_off(state: int) -> None:
    with pytest.raises(UnknownNativeState, match=str(state)):
        to_vm(replace(RUNNING, state=state))


def test_a_managed_save_is_suspended_and_says_what_force_would_cost() -> None:
    vm = to_vm(replace(OFF, saved=True))
    assert (vm.power_state, vm.problems[0].reason) == (PowerState.SUSPENDED, Reason.SUSPENDED)
    assert "discards" in vm.problems[0].message


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        (libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, None),
        (libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, OffCause.GUEST),
        (libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED, OffCause.HOST),
        (libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, OffCause.CRASHED),
        (libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED, OffCause.HOST),
        (libvirt.VIR_DOMAIN_SHUTOFF_SAVED, OffCause.HOST),
        (libvirt.VIR_DOMAIN_SHUTOFF_FAILED, None),
        (libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT, OffCause.HOST),
        (libvirt.VIR_DOMAIN_SHUTOFF_DAEMON, OffCause.HOST),
    ],
)
def test_each_reason_to_be_off_has_its_cause(reason: int, cause: OffCause | None) -> None:
    assert to_vm(replace(OFF, reason=reason)).off_cause is cause


def test_a_shutdown_that_the_host_asked_for_is_the_hosts() -> None:
    off = replace(OFF, reason=libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN)
    assert to_vm(off, asked_by_host=True).off_cause is OffCause.HOST


def test_a_crash_is_a_crash_whoever_asked() -> None:
    off = replace(OFF, reason=libvirt.VIR_DOMAIN_SHUTOFF_CRASHED)
    assert to_vm(off, asked_by_host=True).off_cause is OffCause.CRASHED


# Signals and problems


@pytest.mark.parametrize(
    ("agent", "acpi", "signals", "reasons"),
    [
        (Agent.CONNECTED, True, (Signal.GUEST_AGENT, Signal.ACPI), []),
        (Agent.CONNECTED, False, (Signal.GUEST_AGENT,), []),
        (Agent.DISCONNECTED, True, (Signal.ACPI,), [None]),
        (Agent.ABSENT, True, (Signal.ACPI,), [None]),
        (Agent.DISCONNECTED, False, (), [Reason.TOOLS_UNAVAILABLE]),
        (Agent.ABSENT, False, (), [Reason.TOOLS_UNAVAILABLE]),
    ],
)
def test_what_it_hears_follows_from_agent_and_acpi(
    agent: Agent, acpi: bool, signals: tuple[Signal, ...], reasons: list[Reason | None]
) -> None:
    vm = to_vm(replace(RUNNING, agent=agent, acpi=acpi))
    assert vm.signals == signals
    assert [problem.reason for problem in vm.problems] == reasons


def test_a_guest_that_would_be_started_again_hears_nothing() -> None:
    vm = to_vm(replace(RUNNING, restarts=True))
    assert (vm.signals, [problem.reason for problem in vm.problems]) == ((), [Reason.TOOLS_UNAVAILABLE])


@pytest.mark.parametrize(
    ("reason", "passing", "words"),
    [
        (libvirt.VIR_DOMAIN_PAUSED_UNKNOWN, False, "resumes"),
        (libvirt.VIR_DOMAIN_PAUSED_USER, False, "resumes"),
        (libvirt.VIR_DOMAIN_PAUSED_MIGRATION, True, "migrated"),
        (libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT, True, "snapshot"),
        (libvirt.VIR_DOMAIN_PAUSED_IOERROR, False, "its disk reports I/O errors"),
        (libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED, False, "migration failed"),
        (99, False, "resumes"),
    ],
)
def test_a_pause_says_why_and_whether_it_passes(reason: int, passing: bool, words: str) -> None:
    (problem,) = to_vm(replace(PAUSED, reason=reason)).problems
    assert (problem.reason, problem.passing) == (Reason.PAUSED, passing)
    assert words in problem.message


@given(
    st.sampled_from([state for state, power in NATIVE_STATES.items() if power is not PowerState.ON]),
    st.integers(0, 20),
    st.sampled_from(Agent),
    st.booleans(),
)
def test_only_a_vm_that_is_on_hears_anything(state: int, reason: int, agent: Agent, acpi: bool) -> None:
    assert to_vm(replace(RUNNING, state=state, reason=reason, agent=agent, acpi=acpi)).signals == ()


def test_a_transient_vm_is_labelled() -> None:
    assert to_vm(replace(RUNNING, persistent=False)).labels == {"persistent": "false"}
    assert to_vm(RUNNING).labels == {}


# Addresses and versions


@pytest.mark.parametrize(
    ("uri", "endpoint"),
    [
        ("qemu:///system", "qemu:///system"),
        ("test:///default", "test:///default"),
        ("qemu+unix:///session?socket=/run/a@b", "qemu+unix:///session?socket=/run/a@b"),
        ("qemu+ssh://root@host/system?no_tty=1", "qemu+ssh://host/system?no_tty=1"),
        ("qemu+tls://user:p%40ss@host:16514/system", "qemu+tls://host:16514/system"),
        ("qemu+tcp://user:p@ss@[::1]/system", "qemu+tcp://[::1]/system"),
    ],
)
def test_an_endpoint_has_no_credentials(uri: str, endpoint: str) -> None:
    assert without_credentials(uri) == endpoint


@pytest.mark.parametrize(("packed", "version"), [(9_000_000, "9.0.0"), (7_002_022, "7.2.22"), (2, "0.0.2")])
def test_versions_are_unpacked(packed: int, version: str) -> None:
    assert dotted(packed) == version
