"""Programs in guests: what they really receive, how they end, and what is told of their output."""

from typing import Any

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.conftest import NewGuest
from tests.e2e.proxmox.served import Served, duration, ending

AGENT: dict[str, object] = {"agent": "answers"}
NASTY = [
    "a b",
    "",
    'say "hi"',
    "it's",
    "$HOME `id` $(id)",
    "100% %PATH%",
    "a=b&c;d",
    "^ | < > ( ) * \\",
    "two\nlines\n",
    "tab\there",
    "ü ☕ 漢",
    "+",
]
SUCCEEDED, FAILED, TIMED_OUT = pb.HOOK_STATE_SUCCEEDED, pb.HOOK_STATE_FAILED, pb.HOOK_STATE_TIMED_OUT


def run(it: Served, web: str, *command: str, **fields: Any) -> pb.HookResult:
    """What became of a program that ran before the guest was asked; it goes down in any case."""
    hook = pb.Hook(name="save", exec=pb.ExecHook(command=command), **fields)
    operation = it.calls.end(it.shutdown(web, pre_stop=[hook]))
    assert ending(operation) == "GRACEFUL"
    [result] = operation.verdict.hooks
    return result


def test_a_program_receives_exactly_its_words(it: Served, guest: NewGuest) -> None:
    web = guest(**AGENT)
    assert run(it, web, "printf", "%s|", *NASTY).output == "".join(f"{word}|" for word in NASTY)


def test_a_program_of_one_word_is_one(it: Served, guest: NewGuest) -> None:
    web = guest(**AGENT)
    assert run(it, web, "true").state == SUCCEEDED
    assert it.cluster.show(web)["execs"][-1]["argv"] == ["true"]


def test_no_shell_is_in_between(it: Served, guest: NewGuest) -> None:
    assert run(it, guest(**AGENT), "echo", "$(id)", "&&", "true").output == "$(id) && true\n"


def test_a_program_reports_its_exit_code_and_both_streams(it: Served, guest: NewGuest) -> None:
    result = run(it, guest(**AGENT), "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (result.state, result.exit_code, result.output) == (FAILED, 7, "out\nerr\n")


def test_a_program_that_a_signal_ends_has_the_exit_code_of_a_shell(it: Served, guest: NewGuest) -> None:
    result = run(it, guest(**AGENT), "sh", "-c", "kill -9 $$")
    assert (result.state, result.exit_code) == (FAILED, 137)


def test_output_may_be_any_utf_8(it: Served, guest: NewGuest) -> None:
    assert run(it, guest(**AGENT), "sh", "-c", r"printf 'gr\303\274\303\237e \342\230\225'").output == "grüße ☕"


def test_output_that_is_no_utf_8_is_shown_as_far_as_it_is(it: Served, guest: NewGuest) -> None:
    assert run(it, guest(**AGENT), "printf", r"a\377b").output == "a�b"


def test_output_that_the_agent_cut_is_said_to_be(it: Served, guest: NewGuest) -> None:
    web = guest(agent_output=10, **AGENT)
    result = run(it, web, "sh", "-c", "printf 123456789012; echo err >&2")
    assert result.output == "1234567890\n[the guest agent kept no more of this]\nerr\n"


def test_a_program_that_takes_too_long_is_timed_out(it: Served, guest: NewGuest) -> None:
    result = run(it, guest(**AGENT), "sleep", "60", timeout=duration(1))
    assert (result.state, "process 1" in result.output) == (TIMED_OUT, True)


def test_a_program_that_is_not_there_is_reported_in_the_agents_words(it: Served, guest: NewGuest) -> None:
    result = run(it, guest(**AGENT), "/no/such/program")
    assert (result.state, "No such file" in result.output) == (FAILED, True)


@pytest.mark.parametrize(
    ("agent", "sentence"),
    [("off", "installs one and turns on its option"), ("absent", "does not answer"), ("deaf", "does not answer")],
)
def test_without_an_agent_the_reason_is_told_and_the_guest_asked(
    it: Served, guest: NewGuest, agent: str, sentence: str
) -> None:
    web = guest(agent=agent)
    hook = pb.Hook(name="save", exec=pb.ExecHook(command=["true"]))
    operation = it.calls.end(it.shutdown(web, 5, pre_stop=[hook]))
    assert sentence in operation.verdict.hooks[0].output
    assert it.asked(web)[0] == "shutdown"


def test_programs_run_in_order_and_before_the_guest_is_asked(it: Served, guest: NewGuest) -> None:
    web = guest(**AGENT)
    hooks = [pb.Hook(name=name, exec=pb.ExecHook(command=["echo", name])) for name in ("first", "second")]
    it.calls.end(it.shutdown(web, pre_stop=hooks))
    shown = it.cluster.show(web)
    assert [program["argv"][1] for program in shown["execs"]] == ["first", "second"]
    assert shown["execs"][-1]["ended_at"] <= shown["asked"][-1][0]


def test_a_program_after_the_start_waits_for_the_agent(it: Served, guest: NewGuest) -> None:
    web = guest(power="off", agent="absent")
    hook = pb.Hook(name="warm", exec=pb.ExecHook(command=["true"]))
    operation = it.calls.stub.PowerOn(pb.PowerOnRequest(vm=web, post_start=[hook]))
    it.calls.until_state(operation, pb.OPERATION_STATE_RUNNING_HOOKS)
    it.cluster.set(web, agent="answers")
    assert [result.state for result in it.calls.end(operation).verdict.hooks] == [SUCCEEDED]


# Snapshots


@pytest.mark.parametrize("memory", [True, False])
def test_a_snapshot_is_there_before_the_guest_is_asked(it: Served, guest: NewGuest, memory: bool) -> None:
    web = guest(snapshot_secs=1)
    hook = pb.SnapshotHook(name="before", description="Grüße", include_memory=memory)
    operation = it.calls.end(it.shutdown(web, pre_stop=[pb.Hook(name="keep", snapshot=hook)]))
    assert [result.state for result in operation.verdict.hooks] == [SUCCEEDED]
    [asked] = [call[2] for call in it.cluster.requests() if call[1].endswith(f"{it.calls.vm(web).id}/snapshot")]
    assert asked == {"snapname": "before", "description": "Grüße"} | ({"vmstate": 1} if memory else {})


def test_a_snapshot_without_a_name_gets_one_that_proxmox_ve_takes(it: Served, guest: NewGuest) -> None:
    web = guest()
    operation = it.calls.end(it.shutdown(web, pre_stop=[pb.Hook(name="keep", snapshot=pb.SnapshotHook())]))
    [result] = operation.verdict.hooks
    assert (result.state, result.output) == (SUCCEEDED, "")


def test_a_snapshot_that_fails_is_told_in_proxmox_ves_words(it: Served, guest: NewGuest) -> None:
    web = guest()
    hooks = [pb.Hook(name=name, snapshot=pb.SnapshotHook(name="same")) for name in ("first", "second")]
    operation = it.calls.end(it.shutdown(web, pre_stop=hooks))
    first, second = operation.verdict.hooks
    assert (first.state, second.state) == (SUCCEEDED, FAILED)
    assert "same" in second.output
