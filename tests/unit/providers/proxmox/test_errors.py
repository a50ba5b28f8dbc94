"""The texts are Proxmox VE's own; where each comes from is told in providers/proxmox/errors.py."""

import pytest

from providers.core.errors import CommandFailed, HypervisorUnavailable, Locked, ProgramMissing, VMNotFound, VmpowerError
from providers.proxmox.errors import Refused, task_error, translate
from providers.proxmox.tasks import LOST


def failed(status: int, reason: str, errors: dict[str, str] | None = None) -> VmpowerError:
    return translate(Refused(status, reason, errors))


# Nodes


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (502, "Bad Gateway"),
        (503, "Service Unavailable"),
        (504, "Gateway Timeout"),
        (595, "No route to host"),
        (596, "Connection timed out"),
        (597, "Broken pipe"),
        (599, "Too many redirections"),
    ],
)
def test_a_node_that_another_cannot_ask_is_an_outage(status: int, reason: str) -> None:
    error = failed(status, reason)
    assert type(error) is HypervisorUnavailable
    assert f"The node does not answer ({reason})" in error.message


@pytest.mark.parametrize(
    "reason",
    [
        "cluster not ready - no quorum?",
        "cfs-lock 'file-ha_resources_cfg' error: no quorum!",
        "unable to open file '/etc/pve/nodes/pve1/qemu-server/100.conf.tmp.123' - Permission denied",
    ],
)
def test_a_node_without_quorum_is_an_outage_that_says_so(reason: str) -> None:
    error = failed(500, reason)
    assert type(error) is HypervisorUnavailable
    assert "cut off from most of its cluster" in error.message


# Locks


@pytest.mark.parametrize(
    ("reason", "lock"),
    [("VM is locked (backup)", "backup"), ("CT is locked (snapshot-delete)", "snapshot-delete")],
)
def test_a_guest_that_is_locked_is_locked_by_name(reason: str, lock: str) -> None:
    error = failed(500, reason)
    assert isinstance(error, Locked)
    assert error.metadata["lock"] == lock
    assert f"locked ({lock})" in error.message


@pytest.mark.parametrize("file", ["/var/lock/qemu-server/lock-100.conf", "/run/lock/lxc/pve-config-100.lock"])
def test_a_lock_file_that_another_task_holds_is_a_lock(file: str) -> None:
    error = failed(500, f"can't lock file '{file}' - got timeout")
    assert isinstance(error, Locked)
    assert file in error.message


# What passes


@pytest.mark.parametrize(
    "reason",
    [
        "cfs-lock 'domain-ha' error: got lock request timeout",
        "cfs-lock 'file-ha_crm_commands' error: no quorum!",
        "Unable to load access control list: Connection refused",
        "ipcc_send_rec[1] failed: Connection refused",
        "unable to open file '/etc/pve/nodes/pve1/qemu-server/100.conf' - Transport endpoint is not connected",
        "hostname lookup 'pve2' failed - failed to get address info for: pve2: Name or service not known",
    ],
)
def test_what_passes_by_itself_is_no_refusal(reason: str) -> None:
    assert type(failed(500, reason)) is HypervisorUnavailable
    assert type(task_error(reason)) is HypervisorUnavailable


@pytest.mark.parametrize("status", range(595, 600))
def test_a_call_that_did_not_reach_its_node_or_come_back_is_no_refusal(status: int) -> None:
    assert type(failed(status, "whatever")) is HypervisorUnavailable


def test_a_task_whose_end_is_not_known_is_no_refusal() -> None:
    assert type(task_error(LOST)) is HypervisorUnavailable


# Guests


@pytest.mark.parametrize("kind", ["qemu-server", "lxc"])
def test_a_guest_without_a_configuration_does_not_exist(kind: str) -> None:
    assert isinstance(failed(500, f"Configuration file 'nodes/pve1/{kind}/100.conf' does not exist"), VMNotFound)


def test_something_else_that_does_not_exist_is_no_missing_guest() -> None:
    assert type(failed(500, "snapshot 'before' does not exist")) is CommandFailed


@pytest.mark.parametrize("reason", ["VM 100 not running", "CT 100 already running", "VM 100 is not running"])
def test_a_guest_in_another_state_is_told_so(reason: str) -> None:
    assert "The guest's state does not allow it" in failed(500, reason).message


@pytest.mark.parametrize(("reason", "running"), [("CT 100 not running", "not"), ("CT 100 already running", "already")])
def test_which_state_that_is_can_be_told_by_a_program(reason: str, running: str) -> None:
    assert failed(500, reason).metadata["running"] == running


@pytest.mark.parametrize(
    "reason",
    [
        "QEMU guest agent is not running",
        "VM 100 qga command 'guest-exec' failed - got timeout",
        "VM 100 qmp command 'guest-ping' failed - got timeout",
    ],
)
def test_an_agent_that_does_not_answer_is_the_guests_owners(reason: str) -> None:
    error = failed(500, reason)
    assert type(error) is CommandFailed
    assert error.message == f"Its QEMU guest agent does not answer ({reason}); the guest's owner looks after it."


def test_an_agent_that_answers_with_an_error_is_told_so() -> None:
    error = failed(500, "Agent error: Guest agent command failed, error was 'Invalid parameter'")
    assert type(error) is CommandFailed
    assert "agent refused or failed it (Agent error: " in error.message


def test_a_program_that_the_guest_does_not_have_is_the_hook_owners_matter() -> None:
    error = failed(500, "Agent error: Failed to execute child process “/none” (No such file or directory)")
    assert type(error) is ProgramMissing
    assert "the hook's owner mends the command or installs it in the guest" in error.message


def test_a_guest_without_an_agent_is_told_what_is_missing() -> None:
    error = failed(500, "No QEMU guest agent configured")
    assert type(error) is CommandFailed
    assert "the guest's owner installs one" in error.message


# What was asked


def test_a_missing_privilege_is_named_with_its_path() -> None:
    error = failed(403, "Permission check failed (/vms/100, VM.PowerMgmt)")
    assert type(error) is CommandFailed
    assert "lacks the privilege VM.PowerMgmt on /vms/100; " in error.message
    assert "docs/proxmox.md" in error.message


def test_privileges_of_which_one_would_do_are_all_named() -> None:
    error = failed(403, "Permission check failed (/vms/100, VM.GuestAgent.Audit|VM.GuestAgent.Unrestricted)")
    assert "the privilege VM.GuestAgent.Audit|VM.GuestAgent.Unrestricted on /vms/100" in error.message


@pytest.mark.parametrize("reason", ["Permission check failed", "Permission check failed (user != null)"])
def test_a_refusal_without_a_privilege_is_still_one_of_permission(reason: str) -> None:
    error = failed(403, reason)
    assert type(error) is CommandFailed
    assert f"may not do that ({reason})" in error.message


def test_parameters_that_are_refused_are_told_one_by_one() -> None:
    error = failed(400, "Parameter verification failed.", {"timeout": "value must be at least 0\n", "foo": "unknown"})
    assert type(error) is CommandFailed
    assert "(Parameter verification failed; timeout: value must be at least 0; foo: unknown)" in error.message


def test_a_text_that_is_in_no_table_is_told_in_proxmox_ves_own_words() -> None:
    error = failed(500, "start failed: QEMU exited with code 1")
    assert type(error) is CommandFailed
    assert "start failed: QEMU exited with code 1" in error.message


def test_the_status_is_kept_for_programs() -> None:
    assert failed(403, "Permission check failed").metadata["status"] == "403"


def test_a_status_without_a_text_is_an_error_all_the_same() -> None:
    assert "nothing said" in failed(500, "").message


# Tasks


@pytest.mark.parametrize(
    ("exitstatus", "kind"),
    [
        ("VM is locked (backup)", Locked),
        ("can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout", Locked),
        ("cluster not ready - no quorum?", HypervisorUnavailable),
        ("Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist", VMNotFound),
        ("VM quit/powerdown failed - got timeout", CommandFailed),
        ("unexpected status", CommandFailed),
    ],
)
def test_a_task_fails_by_the_same_words(exitstatus: str, kind: type[VmpowerError]) -> None:
    assert type(task_error(exitstatus)) is kind


@pytest.mark.parametrize("exitstatus", ["VM quit/powerdown failed - got timeout", "container did not stop"])
def test_a_guest_that_did_not_go_down_is_its_owners(exitstatus: str) -> None:
    assert "did not go down when it was asked" in task_error(exitstatus).message
