"""What an operation tells from its first step to its verdict, and what it never tells."""

import uuid

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.conftest import NewGuest
from tests.e2e.proxmox.served import Served, duration, ending, served, wait_for, wait_until

FORCING = pb.OPERATION_STATE_FORCING


def steps(operation: pb.Operation) -> list[str]:
    return [step.message for step in operation.steps]


def test_the_steps_of_a_guest_that_obeys_are_its_story(it: Served, guest: NewGuest) -> None:
    operation = it.calls.end(it.shutdown(guest()))
    assert [message.split(" 2")[0] for message in steps(operation)] == [
        "the guest has until",
        "asking the guest by ACPI",
        "The guest shut itself down, asked by ACPI.",
    ]


@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_that_proxmox_ve_cut_the_power_is_a_step_and_the_verdict(it: Served, guest: NewGuest, kind: str) -> None:
    operation = it.calls.end(it.shutdown(guest(kind=kind, ignores=True), 1))
    [forcing] = [step.message for step in operation.steps if step.state == FORCING]
    assert forcing == "the hypervisor has powered it off hard, reason TIMEOUT"
    assert operation.verdict.message == "Powered off hard by the hypervisor, as it was told, reason TIMEOUT."


def test_that_it_was_taken_back_is_a_step(it: Served, guest: NewGuest) -> None:
    operation = it.ask(guest(shutdown_secs=4), 2)
    it.calls.stub.ExtendOperation(pb.ExtendOperationRequest(id=operation.id, extension=duration(60)))
    ended = it.calls.end(operation)
    assert ending(ended) == "GRACEFUL"
    assert "the hypervisor will not cut the power by itself any more" in steps(ended)


def test_a_refusal_is_told_in_proxmox_ves_words_and_force_comes_at_once(it: Served, guest: NewGuest) -> None:
    web = guest()
    it.cluster.fail("POST", f"/{it.calls.vm(web).id}/status/shutdown", 500, "boom", times=1)
    operation = it.calls.end(it.shutdown(web, 600))
    assert ending(operation) == "FORCED/COMMAND_FAILED"
    assert any("ACPI was refused" in message and "boom" in message for message in steps(operation))


def test_the_same_request_is_the_same_operation_and_asks_once(it: Served, guest: NewGuest) -> None:
    web, request_id = guest(shutdown_secs=2), str(uuid.uuid4())
    first = it.shutdown(web, request_id=request_id)
    assert it.shutdown(web, request_id=request_id).id == first.id
    assert (it.ending(first), it.asked(web)) == ("GRACEFUL", ["shutdown"])


def test_no_secret_is_kept_or_told(it: Served, guest: NewGuest) -> None:
    web = guest(agent="answers")
    login = pb.GuestCredentials(username="admin", password="streng-geheim")
    hook = pb.Hook(name="save", exec=pb.ExecHook(command=["true"]))
    operation = it.calls.end(it.shutdown(web, pre_stop=[hook], guest_credentials=login))
    kept = b"".join(file.read_bytes() for file in (it.provider.folder / "state").iterdir()).decode(errors="replace")
    assert operation.id in kept
    for secret in ("streng-geheim", it.cluster.token_secret):
        assert secret not in it.provider.output() + kept + str(operation)


def test_a_guest_that_panics_is_told_as_crashed_at_once(it: Served, guest: NewGuest) -> None:
    web = guest(ignores=True)
    operation = it.ask(web, 600)
    it.cluster.power(web, "guest-panicked")
    assert it.ending(operation) == "CRASHED"


def test_a_guest_that_a_colleague_started_again_meanwhile_is_not_cut_for_its_last_run() -> None:
    with served({"web": {"shutdown_secs": 1}}) as it:
        operation = it.ask("web", 3)
        it.provider.kill()
        it.cluster.wait_off("web")
        it.cluster.power("web", "on")
        wait_until(lambda: it.cluster.show("web")["power"] == "running")
        started = it.cluster.show("web")["on_at"]
        it.provider.start()
        ended = it.calls.end(operation)
        assert (ended.verdict.outcome, "started again" in ended.verdict.message) == (pb.OUTCOME_UNKNOWN, True)
        wait_for(operation.force_after.ToNanoseconds() / 1e9 + 1)
        shown = it.cluster.show("web")
        assert (shown["power"], shown["on_at"]) == ("running", started)
