"""libvirt's words and ours, as tables."""

from dataclasses import replace
from xml.sax.saxutils import escape

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.core.adapter import Cause, OffCause, PowerState, Reason, Signal
from providers.core.errors import UnknownNativeState
from providers.libvirt.states import (
    NATIVE_STATES,
    NOTHING,
    Agent,
    Domain,
    Heard,
    Host,
    agent_of,
    domain,
    dotted,
    to_vm,
    without_credentials,
)

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


@pytest.mark.parametrize(
    ("devices", "why"),
    [
        ("<hostdev mode='subsystem' type='pci'/>", "a device of the host's"),
        ("<interface type='hostdev'/>", "a network device of the host's"),
        ("<filesystem type='mount'><driver type='virtiofs'/></filesystem>", "virtiofs"),
        ("<shmem name='x'/>", "shmem"),
    ],
)
def test_what_keeps_memory_from_being_saved_is_told_before(devices: str, why: str) -> None:
    (problem,) = to_vm(parsed(xml(devices=devices))).save_problems
    assert why in problem.message
    assert problem.reason is None


def test_a_transient_domain_cannot_be_saved() -> None:
    (problem,) = to_vm(replace(RUNNING, persistent=False)).save_problems
    assert "transient" in problem.message


def test_an_ordinary_domain_can_be_saved() -> None:
    assert to_vm(parsed(xml(devices="<interface type='network'/>"))).save_problems == ()


def test_sleep_is_no_saved_memory() -> None:
    asleep = to_vm(replace(RUNNING, state=libvirt.VIR_DOMAIN_PMSUSPENDED))
    assert (asleep.power_state, asleep.saved) == (PowerState.SUSPENDED, False)


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
        (libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, None),
        (libvirt.VIR_DOMAIN_SHUTOFF_SAVED, OffCause.HOST),
        (libvirt.VIR_DOMAIN_SHUTOFF_FAILED, None),
        (libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT, OffCause.HOST),
        (libvirt.VIR_DOMAIN_SHUTOFF_DAEMON, None),
    ],
)
def test_each_reason_to_be_off_has_its_cause(reason: int, cause: OffCause | None) -> None:
    assert to_vm(replace(OFF, reason=reason)).off_cause is cause


SHUTDOWN = libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN
DESTROYED = libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED
CRASHED = libvirt.VIR_DOMAIN_SHUTOFF_CRASHED
BY_GUEST = libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_GUEST
BY_HOST = libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_HOST


@pytest.mark.parametrize(
    ("reason", "heard", "cause"),
    [
        (SHUTDOWN, Heard(shutdown=BY_GUEST), OffCause.GUEST),
        (SHUTDOWN, Heard(shutdown=BY_HOST), OffCause.HOST),
        (SHUTDOWN, Heard(shutdown=libvirt.VIR_DOMAIN_EVENT_SHUTDOWN_FINISHED), OffCause.GUEST),
        (DESTROYED, Heard(shutdown=BY_HOST), OffCause.HOST),
        (DESTROYED, Heard(shutdown=BY_GUEST), OffCause.GUEST),
        (CRASHED, Heard(crash=True), OffCause.CRASHED),
        (CRASHED, Heard(crash=True, shutdown=BY_HOST), OffCause.CRASHED),
        (CRASHED, Heard(shutdown=BY_GUEST), None),
        (libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, Heard(shutdown=BY_GUEST), None),
    ],
)
def test_what_events_told_completes_the_cause(reason: int, heard: Heard, cause: OffCause | None) -> None:
    assert to_vm(replace(OFF, reason=reason), heard).off_cause is cause


# Elsewhere

MOVED = replace(OFF, reason=libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)
ELSEWHERE = Heard(elsewhere=True)
COMING = replace(PAUSED, reason=libvirt.VIR_DOMAIN_PAUSED_MIGRATION)


def test_a_vm_that_was_migrated_is_neither_on_nor_off_and_says_who_acts() -> None:
    vm = to_vm(MOVED)
    assert (vm.power_state, vm.ended, vm.signals) == (PowerState.UNKNOWN, None, ())
    (problem,) = vm.problems
    assert (problem.reason, problem.passing) == (Reason.COMMAND_FAILED, False)
    assert "moved to another host" in problem.message
    assert "Its owner acts there" in problem.message


def test_a_vm_that_libvirtd_has_forgotten_to_be_migrated_is_not_off() -> None:
    assert to_vm(OFF, ELSEWHERE).power_state is PowerState.UNKNOWN
    assert to_vm(replace(OFF, saved=True), ELSEWHERE).power_state is PowerState.UNKNOWN


def test_a_vm_that_is_being_migrated_to_here_is_not_here_yet() -> None:
    vm = to_vm(COMING, ELSEWHERE)
    assert (vm.power_state, vm.problems[0].passing) == (PowerState.UNKNOWN, True)
    assert "to this host" in vm.problems[0].message


def test_a_vm_halted_for_its_migration_from_here_is_paused() -> None:
    assert to_vm(COMING).power_state is PowerState.PAUSED


def test_a_vm_that_runs_here_is_on_whatever_was_heard() -> None:
    assert to_vm(RUNNING, ELSEWHERE).power_state is PowerState.ON


# Runs and panics


def metadata(*marks: str, number: int = 7) -> str:
    marked = "".join(f"<v:run xmlns:v='https://vmpower/run/{mark}'/>" for mark in marks)
    return f"<domain id='{number}'><metadata><o:other xmlns:o='urn:other'/>{marked}</metadata></domain>"


def test_a_run_is_its_number_and_its_mark() -> None:
    assert to_vm(parsed(metadata("ab12"))).run_id == "7.ab12"


def test_the_first_of_several_marks_counts() -> None:
    assert parsed(metadata("ab12", "cd34")).run == "7.ab12"


@pytest.mark.parametrize("xml", ["<domain id='7'/>", metadata(), metadata("ab12").replace(" id='7'", "")])
def test_a_domain_without_a_mark_or_a_number_has_no_run_to_tell(xml: str) -> None:
    assert parsed(xml).run == ""


def test_what_is_off_has_no_run() -> None:
    assert to_vm(replace(OFF, run="7.ab12")).run_id == ""


@pytest.mark.parametrize(
    ("state", "reason", "unmarked"),
    [
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED, True),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, True),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE, False),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, False),
    ],
)
def test_a_mark_is_missing_where_it_could_be_set(state: int, reason: int, unmarked: bool) -> None:
    assert replace(RUNNING, state=state, reason=reason).unmarked is unmarked


@pytest.mark.parametrize("change", [{"run": "7.ab12"}, {"job": "it is being dumped"}])
def test_no_mark_is_missing_where_there_is_one_or_a_job(change: dict[str, str]) -> None:
    assert not replace(RUNNING, **change).unmarked  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_CRASHED),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_CRASHED),
    ],
)
def test_states_that_a_panic_leaves_behind_are_known(state: int, reason: int) -> None:
    assert to_vm(replace(RUNNING, state=state, reason=reason)).crashed


def test_a_panic_that_was_heard_counts_until_it_is_off() -> None:
    assert to_vm(RUNNING, Heard(panic=True)).crashed
    assert not to_vm(OFF, Heard(panic=True)).crashed
    assert not to_vm(RUNNING).crashed


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


def told(domain: Domain, heard: Heard = NOTHING) -> list[tuple[Reason | None, bool]]:
    return [(problem.reason, problem.passing) for problem in to_vm(domain, heard).problems]


MIGRATING = replace(RUNNING, job="it is being migrated to another host")


def test_a_job_that_refuses_acpi_is_waited_for_and_named() -> None:
    vm = to_vm(replace(MIGRATING, agent=Agent.ABSENT))
    assert vm.signals == ()
    locked = next(problem for problem in vm.problems if problem.reason is Reason.LOCKED)
    assert locked.passing
    assert (
        locked.message == "It cannot be asked while it is being migrated to another host; it is asked when that ends."
    )


def test_an_agent_is_asked_also_while_a_job_refuses_acpi() -> None:
    assert to_vm(MIGRATING).signals == (Signal.GUEST_AGENT,)
    assert told(MIGRATING) == [(None, False)]


def test_a_busy_agent_leaves_acpi() -> None:
    busy = Heard(agent_busy=True)
    assert to_vm(RUNNING, busy).signals == (Signal.ACPI,)
    assert told(RUNNING, busy) == [(None, False)]


def test_a_busy_agent_is_waited_for_where_there_is_no_acpi() -> None:
    assert told(replace(RUNNING, acpi=False), Heard(agent_busy=True)) == [(Reason.LOCKED, True)]


def test_an_agent_that_has_left_is_waited_for_where_there_is_no_acpi() -> None:
    left = replace(RUNNING, agent=Agent.DISCONNECTED, acpi=False)
    assert told(left, Heard(agent=True)) == [(Reason.TOOLS_UNAVAILABLE, True)]


@pytest.mark.parametrize("heard", [NOTHING, Heard(agent=True)])
def test_an_agent_that_has_left_leaves_acpi(heard: Heard) -> None:
    assert told(replace(RUNNING, agent=Agent.DISCONNECTED), heard) == [(None, False)]


def test_a_disk_that_is_being_copied_is_named() -> None:
    disks = "<disk><mirror/><target dev='vda'/></disk><disk><target dev='vdb'/></disk>"
    vm = to_vm(parsed(xml(devices=disks + CHANNEL.format(" state='connected'"))))
    assert vm.signals == (Signal.GUEST_AGENT, Signal.ACPI)
    assert [problem.message for problem in vm.problems if "vda" in problem.message]
    assert not any("vdb" in problem.message for problem in vm.problems)


def test_the_agent_can_be_read_alone() -> None:
    assert agent_of(xml(devices=CHANNEL.format(" state='disconnected'"))) is Agent.DISCONNECTED


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


# What problems come from


@pytest.mark.parametrize(
    ("domain", "heard", "causes"),
    [
        (replace(RUNNING, agent=Agent.ABSENT), Heard(), (Cause.AGENT_MISSING,)),
        (replace(RUNNING, agent=Agent.DISCONNECTED), Heard(), (Cause.AGENT_STOPPED,)),
        (RUNNING, Heard(agent_busy=True), (Cause.AGENT_BUSY,)),
        (replace(RUNNING, agent=Agent.ABSENT, acpi=False), Heard(), (Cause.AGENT_MISSING, Cause.ACPI_MISSING)),
        (replace(RUNNING, restarts=True), Heard(), (Cause.RESTARTS,)),
        (replace(RUNNING, job="it is being migrated"), Heard(), (Cause.LOCKED,)),
        (PAUSED, Heard(), (Cause.PAUSED,)),
        (replace(OFF, saved=True), Heard(), (Cause.SUSPENDED,)),
        (MOVED, Heard(), (Cause.UNREACHED,)),
    ],
)
def test_a_problem_names_what_it_comes_from(domain: Domain, heard: Heard, causes: tuple[Cause, ...]) -> None:
    assert to_vm(domain, heard).problems[0].causes == causes
