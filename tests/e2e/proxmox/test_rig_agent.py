"""The rig's guest agents: whether they answer, and what programs really receive and say."""

from typing import Any

import pytest

from tests.e2e.proxmox.conftest import NewMachine, assert_took
from tests.rigs.polling import poll
from tests.rigs.proxmox.client import Client, Machine, Refused
from tests.rigs.proxmox.cluster import Cluster

NOT_RUNNING = "500 QEMU guest agent is not running"


def ran(machine: Machine, *argv: str, **values: object) -> dict[str, Any]:
    """A program when it has ended, as exec-status has it."""
    pid = machine.client.send(f"{machine.path}/agent/exec", command=argv, **values)["pid"]

    def end() -> dict[str, Any] | None:
        status: dict[str, Any] = machine.client.get(f"{machine.path}/agent/exec-status", pid=pid)
        return status if status["exited"] else None

    return poll(end)


@pytest.fixture
def web(machine: NewMachine) -> Machine:
    return machine(agent="answers")


# Asking


def test_an_agent_that_answers_is_what_pve_asks_by(web: Machine) -> None:
    web.does("shutdown", timeout=5)
    assert [signal for _, signal in web.shown["heard"]] == ["agent"]


@pytest.mark.parametrize("agent", ["absent", "hangs"])
def test_an_agent_that_does_not_answer_is_passed_over_after_three_seconds(machine: NewMachine, agent: str) -> None:
    web = machine(agent=agent)
    task = web.does("shutdown", timeout=5)
    why = f"VM {web.vmid} qga command 'guest-ping' failed - got timeout"
    assert task["log"] == [f"QEMU Guest Agent is not running - {why}", "TASK OK"]
    assert [signal for _, signal in web.shown["heard"]] == ["acpi"]


def test_an_agent_that_answers_pings_only_uses_up_all_the_time(machine: NewMachine) -> None:
    web = machine(agent="deaf")
    task = web.does("shutdown", timeout=3, forceStop=1)
    assert task["log"] == ["VM quit/powerdown failed - terminating now with SIGTERM", "TASK OK"]
    assert web.shown["off_cause"] == "pve-forced"


def test_an_agent_that_answers_pings_only_is_a_failure_without_force(machine: NewMachine) -> None:
    assert machine(agent="deaf").does("shutdown", timeout=1)["exitstatus"] == "VM quit/powerdown failed"


def test_ending_a_shutdown_by_the_agent_with_force_cuts_the_power(machine: NewMachine) -> None:
    web = machine(agent="answers", ignores=True)
    upid = web.asks("shutdown", timeout=60, forceStop=1)
    web.client.delete(f"/nodes/{web.node}/tasks/{upid}")
    assert web.cluster.wait_off(web.key)["off_cause"] == "pve-forced"


def test_ending_one_without_force_leaves_the_guest_to_itself(machine: NewMachine) -> None:
    web = machine(agent="answers", ignores=True)
    upid = web.asks("shutdown", timeout=60)
    web.client.delete(f"/nodes/{web.node}/tasks/{upid}")
    assert web.cluster.task(upid, ended=True)["exitstatus"] == "VM quit/powerdown failed"
    assert web.shown["power"] == "running"


def test_in_pve_8_an_agent_that_does_not_answer_uses_up_all_the_time() -> None:
    with Cluster({"web": {"agent": "absent"}}, release=8, time_scale=0.05) as cluster, Client(cluster) as client:
        task = Machine(cluster, client, "web").does("shutdown", timeout=3)
        heard = cluster.show("web")["heard"]
    assert (task["exitstatus"], heard) == ("VM quit/powerdown failed", [])


def test_a_guest_can_ignore_its_agent_alone(machine: NewMachine) -> None:
    web = machine(agent="answers", ignores="agent")
    web.does("shutdown", timeout=3, forceStop=1)
    assert_took(3, web.shown)


def test_a_disabled_agent_is_not_asked(machine: NewMachine) -> None:
    web = machine(config={"agent": "0"})
    web.does("shutdown", timeout=5)
    assert [signal for _, signal in web.shown["heard"]] == ["acpi"]


# Pings


def test_a_ping_is_answered(web: Machine) -> None:
    assert web.client.post(f"{web.path}/agent/ping") == {"result": {}}


@pytest.mark.parametrize("agent", ["absent", "hangs"])
def test_a_ping_is_not_answered(machine: NewMachine, agent: str) -> None:
    web = machine(agent=agent)
    with pytest.raises(Refused, match=NOT_RUNNING):
        web.client.post(f"{web.path}/agent/ping")


def test_there_is_no_ping_without_an_agent(machine: NewMachine) -> None:
    web = machine()
    with pytest.raises(Refused, match="500 No QEMU guest agent configured"):
        web.client.post(f"{web.path}/agent/ping")


def test_there_is_no_ping_without_power(machine: NewMachine) -> None:
    web = machine(agent="answers", power="off")
    with pytest.raises(Refused, match=f"500 VM {web.vmid} is not running"):
        web.client.post(f"{web.path}/agent/ping")


def test_an_agent_in_a_paused_guest_does_not_answer(machine: NewMachine) -> None:
    web = machine(agent="answers", power="paused")
    with pytest.raises(Refused, match=NOT_RUNNING):
        web.client.post(f"{web.path}/agent/ping")


# Programs


def test_a_program_receives_its_arguments_as_they_are(web: Machine) -> None:
    arguments = ["a b", "'", '"', "$HOME", "%PATH%", "two\nlines", "", "\\"]
    said = ran(web, "printf", "%s|", *arguments)
    assert said["out-data"] == "".join(f"{one}|" for one in arguments)
    assert web.shown["execs"][0]["argv"] == ["printf", "%s|", *arguments]


def test_an_empty_argument_in_a_form_takes_away_those_before_it(web: Machine) -> None:
    web.client.post(f"{web.path}/agent/exec", command=["false", "", "true", "x"])
    assert web.shown["execs"][0]["argv"] == ["true", "x"]


def test_a_program_reads_its_input(web: Machine) -> None:
    assert ran(web, "cat", input_data="one\ntwo\n")["out-data"] == "one\ntwo\n"


def test_an_exit_code_is_told(web: Machine) -> None:
    said = ran(web, "sh", "-c", "echo no >&2; exit 3")
    assert (said["exitcode"], said["err-data"]) == (3, "no\n")
    assert "out-data" not in said


def test_a_signal_is_told_in_place_of_an_exit_code(web: Machine) -> None:
    said = ran(web, "sh", "-c", "kill -9 $$")
    assert said["signal"] == 9
    assert "exitcode" not in said


def test_a_program_that_runs_says_only_that(web: Machine) -> None:
    pid = web.client.post(f"{web.path}/agent/exec", command=["sleep", "60"])["pid"]
    assert web.client.get(f"{web.path}/agent/exec-status", pid=pid) == {"exited": 0}


def test_an_end_is_told_once(web: Machine) -> None:
    ran(web, "true")
    pid = web.shown["execs"][0]["pid"]
    with pytest.raises(Refused, match=f"500 Agent error: PID {pid} does not exist"):
        web.client.get(f"{web.path}/agent/exec-status", pid=pid)


def test_a_program_that_is_not_there_is_an_error_of_the_agent(web: Machine) -> None:
    with pytest.raises(Refused) as refused:
        ran(web, "/no/such/program")
    assert b"Failed to execute child process" in refused.value.body


def test_a_long_output_is_cut_and_that_is_said(machine: NewMachine) -> None:
    web = machine(agent="answers", agent_output=10)
    said = ran(web, "echo", "0123456789abc")
    assert (said["out-data"], said["out-truncated"]) == ("0123456789", 1)


def test_utf_8_comes_back_as_if_each_octet_were_a_character(web: Machine) -> None:
    assert ran(web, "printf", "\\303\\274")["out-data"] == "ü".encode().decode("latin-1")


def test_octets_go_in_as_characters(web: Machine) -> None:
    said = ran(web, "od", "-An", "-tx1", input_data="ü".encode().decode("latin-1"))
    assert said["out-data"].split() == ["c3", "bc"]


def test_octets_that_are_utf_8_arrive_as_what_they_mean(web: Machine) -> None:
    ran(web, "printf", "%s", "ü ☕".encode().decode("latin-1"))
    assert web.shown["execs"][-1]["argv"] == ["printf", "%s", "ü ☕"]


@pytest.mark.parametrize("argument", ["ü", "漢"])
def test_an_argument_beyond_ascii_does_not_arrive(web: Machine, argument: str) -> None:
    with pytest.raises(Refused, match="500"):
        ran(web, "echo", argument)
    assert web.shown["execs"] == []


def test_an_input_that_is_too_long_is_a_bad_parameter(web: Machine) -> None:
    with pytest.raises(Refused) as refused:
        ran(web, "cat", input_data="x" * (64 * 1024 + 1))
    assert list(refused.value.errors) == ["input-data"]


def test_programs_end_when_the_power_goes(web: Machine) -> None:
    web.client.post(f"{web.path}/agent/exec", command=["sh", "-c", "sleep 600"])
    web.does("stop")
    assert poll(lambda: web.shown["execs"][0]["exitcode"]) == -9
