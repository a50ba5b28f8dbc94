"""From what a provider says of itself and of its VMs to findings."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.doctor import checks
from cli.doctor.checks import Answer
from cli.doctor.finding import Check, Finding, Level
from client.times import duration, timestamp
from protos.power.v1 import power_pb2 as pb
from tests.unit.cli.samples import vm

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
WELL: dict[str, Any] = {
    "type": "libvirt",
    "endpoint": "qemu:///system",
    "connected": True,
    "guest_exec": True,
    "signals": [pb.SIGNAL_GUEST_AGENT, pb.SIGNAL_ACPI],
    "role": pb.ROLE_OPERATOR,
    "time": timestamp(NOW),
}


def answer(took: timedelta = timedelta(0), provider: str = "", **fields: Any) -> Answer:
    """One that was asked at NOW, and heard so much later."""
    return Answer(pb.GetProviderInfoResponse(**WELL | fields), "unix:///p.sock", NOW, NOW + took, provider)


def of(**fields: Any) -> list[Finding]:
    return list(checks.provider(answer(**fields)))


def only(**fields: Any) -> Finding:
    (found,) = of(**fields)
    return found


def problem(*causes: pb.Cause.ValueType, reason: pb.Reason.ValueType = pb.REASON_UNSPECIFIED) -> pb.Problem:
    return pb.Problem(reason=reason, message="So it is.", causes=causes)


def of_vm(
    *problems: pb.Problem, signals: Any = (pb.SIGNAL_GUEST_AGENT, pb.SIGNAL_ACPI), **fields: Any
) -> list[Finding]:
    found = vm("web", forecast=pb.Forecast(signals=signals, problems=problems), **fields)
    return list(checks.vm(answer(), found))


def test_nothing_is_found_where_all_is_well() -> None:
    assert of() == []


def test_a_provider_of_before_these_fields_says_nothing_wrong() -> None:
    old = pb.GetProviderInfoResponse(type="libvirt", connected=True, guest_exec=True)
    assert list(checks.provider(Answer(old, "unix:///p.sock", NOW, NOW))) == []


@pytest.mark.parametrize(
    ("problem", "check"),
    [
        (pb.CONNECTION_PROBLEM_UNSPECIFIED, Check.HYPERVISOR_UNREACHABLE),
        (pb.CONNECTION_PROBLEM_UNREACHABLE, Check.HYPERVISOR_UNREACHABLE),
        (pb.CONNECTION_PROBLEM_LOGIN_REFUSED, Check.HYPERVISOR_LOGIN),
        (pb.CONNECTION_PROBLEM_CERTIFICATE, Check.HYPERVISOR_CERTIFICATE),
        (pb.CONNECTION_PROBLEM_NOT_PERMITTED, Check.HYPERVISOR_PERMISSION),
    ],
)
def test_why_the_hypervisor_does_not_answer_is_told_in_the_providers_words(
    problem: pb.ConnectionProblem.ValueType, check: Check
) -> None:
    found = only(connected=False, connection_error=pb.ConnectionError(problem=problem, message="It is down."))
    assert (found.check, found.level, found.what) == (check, Level.PROBLEM, "It is down.")


def test_an_error_of_before_does_not_count_while_the_hypervisor_answers() -> None:
    assert of(connection_error=pb.ConnectionError(message="It was down.")) == []


def test_a_provider_that_has_not_tried_yet_names_its_hypervisor() -> None:
    assert "qemu:///system does not answer" in only(connected=False).what


def test_a_reader_is_told_what_the_role_is_for() -> None:
    found = only(role=pb.ROLE_READER)
    assert (found.check, "--operators" in found.who) == (Check.READER_ONLY, True)


def test_a_reader_with_a_certificate_is_told_how_to_read_its_names() -> None:
    (found,) = checks.provider(replace(answer(role=pb.ROLE_READER), certificate=Path("/my files/me.pem")))
    assert found.commands[0].startswith("openssl x509 -in '/my files/me.pem' -noout -subject -ext subjectAltName")


def test_a_reader_on_a_socket_is_told_how_to_read_the_number() -> None:
    assert only(role=pb.ROLE_READER).commands == ("id -u",)


def test_a_journal_that_cannot_be_written_is_a_problem() -> None:
    assert only(journal_error="disk full").what == "The provider cannot write its operations to disk: disk full."


def test_a_privilege_is_told_with_its_place_and_purpose() -> None:
    missing = pb.MissingPrivilege(privilege="VM.PowerMgmt", place="/vms/100", purpose="every shutdown", required=True)
    found = only(type="proxmox", missing_privileges=[missing])
    assert (found.level, found.why) == (Level.PROBLEM, "It is needed for every shutdown.")
    assert found.what == "The provider's account has no VM.PowerMgmt on /vms/100."
    assert found.commands[0] == "pveum role modify vmpower --privs VM.PowerMgmt --append 1"


def test_a_privilege_for_hooks_alone_is_a_warning() -> None:
    missing = pb.MissingPrivilege(privilege="VM.Snapshot", place="/vms", purpose="snapshot hooks")
    assert only(type="proxmox", missing_privileges=[missing]).level is Level.WARNING


@pytest.mark.parametrize(
    ("off", "what"),
    [
        (timedelta(hours=1), "The provider's clock is 1:00:00 ahead of this machine's."),
        (-timedelta(hours=1), "The provider's clock is 1:00:00 behind this machine's."),
    ],
)
def test_a_clock_that_is_an_hour_off_is_a_problem(off: timedelta, what: str) -> None:
    found = only(time=timestamp(NOW + off))
    assert (found.check, found.level, found.what) == (Check.CLOCK, Level.PROBLEM, what)


def test_a_clock_that_is_some_seconds_off_is_a_warning() -> None:
    assert only(time=timestamp(NOW + timedelta(seconds=20))).level is Level.WARNING


def test_what_the_call_itself_may_explain_is_no_difference() -> None:
    assert of(took=timedelta(seconds=10), time=timestamp(NOW)) == []
    assert of(took=timedelta(seconds=10), time=timestamp(NOW + timedelta(seconds=10))) == []


def test_the_hypervisors_clock_is_told_too() -> None:
    found = only(hypervisor_clock_ahead=duration(timedelta(minutes=-59)))
    assert (found.check, found.what) == (
        Check.HYPERVISOR_CLOCK,
        "The hypervisor's clock is 0:59:00 behind the provider's.",
    )


def test_guest_exec_that_is_off_is_a_warning() -> None:
    found = only(guest_exec=False)
    assert (found.check, found.level) == (Check.GUEST_EXEC_DISABLED, Level.WARNING)


# VMs


def test_a_vm_that_would_go_down_gracefully_has_no_finding() -> None:
    assert of_vm() == []


def test_what_stands_in_the_way_is_a_problem_and_a_warning_is_a_warning() -> None:
    (paused,) = of_vm(problem(pb.CAUSE_PAUSED, reason=pb.REASON_PAUSED), signals=())
    (silent,) = of_vm(problem(pb.CAUSE_AGENT_STOPPED), signals=[pb.SIGNAL_ACPI])
    assert [(each.check, each.level, each.what) for each in (paused, silent)] == [
        ("PAUSED", Level.PROBLEM, "So it is."),
        ("AGENT_STOPPED", Level.WARNING, "So it is."),
    ]


def test_a_command_names_the_vm_and_the_hypervisor_as_a_shell_takes_them() -> None:
    paused = problem(pb.CAUSE_PAUSED, reason=pb.REASON_PAUSED)
    found = vm("web", id="a b", forecast=pb.Forecast(problems=[paused]))
    (finding,) = checks.vm(answer(endpoint="qemu+ssh://host/system?no_tty=1"), found)
    assert finding.commands == ("virsh -c 'qemu+ssh://host/system?no_tty=1' resume 'a b'",)


def test_a_container_of_proxmox_ve_has_the_commands_of_containers() -> None:
    found = vm("ct", id="101", labels={"kind": "lxc"}, forecast=pb.Forecast(problems=[problem(pb.CAUSE_LOCKED)]))
    (finding,) = checks.vm(answer(type="proxmox"), found)
    assert any(command.startswith("pct unlock 101") for command in finding.commands)


def test_each_cause_of_a_problem_is_a_finding_and_its_sentence_is_told_once() -> None:
    deaf = problem(pb.CAUSE_AGENT_MISSING, pb.CAUSE_ACPI_MISSING, reason=pb.REASON_TOOLS_UNAVAILABLE)
    first, second = of_vm(deaf, signals=())
    assert (first.check, second.check) == ("AGENT_MISSING", "ACPI_MISSING")
    assert first.what == "So it is."
    assert second.what == "It has no ACPI: there is no power button to press."


def test_a_vm_that_only_its_agent_can_ask_lacks_acpi() -> None:
    (found,) = of_vm(signals=[pb.SIGNAL_GUEST_AGENT])
    assert (found.check, found.level) == ("ACPI_MISSING", Level.WARNING)


def test_on_proxmox_ve_an_agent_alone_is_as_it_should_be() -> None:
    found = vm("web", forecast=pb.Forecast(graceful=True, signals=[pb.SIGNAL_GUEST_AGENT]))
    assert list(checks.vm(answer(type="proxmox"), found)) == []


def test_a_vm_whose_button_is_held_by_a_job_does_not_lack_one() -> None:
    (found,) = of_vm(problem(pb.CAUSE_LOCKED), signals=[pb.SIGNAL_GUEST_AGENT])
    assert found.check == "LOCKED"


def test_a_vm_that_is_off_lacks_nothing() -> None:
    assert of_vm(signals=(), power_state=pb.POWER_STATE_OFF) == []


@pytest.mark.parametrize(
    ("reason", "check"),
    [
        (pb.REASON_LOCKED, "LOCKED"),
        (pb.REASON_TOOLS_UNAVAILABLE, "NOT_GRACEFUL"),
        (pb.REASON_COMMAND_FAILED, "NOT_GRACEFUL"),
    ],
)
def test_a_problem_without_a_cause_is_told_by_its_reason(reason: pb.Reason.ValueType, check: str) -> None:
    (found,) = of_vm(problem(reason=reason), signals=())
    assert (found.check, found.level, found.what) == (check, Level.PROBLEM, "So it is.")


def test_a_name_that_differs_by_its_letters_only_is_proposed() -> None:
    found = checks.unknown("lab/WEB", {"web": "lab/web", "db": "lab/db"}, "vmpower")
    assert found.what == "No VM has the id or name 'lab/WEB'. Is it lab/web?"
