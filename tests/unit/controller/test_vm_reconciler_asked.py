"""What people ask of a machine beside its spec: decisions, a login for its guest, bringing it down before it goes."""

from datetime import timedelta

import pytest

from controller.models import VirtualMachine
from controller.source import GuestCredentials, Key, SourceError
from protos.power.v1 import power_pb2 as pb
from tests.unit.controller.builders import (
    AWAITING_DECISION,
    FAILED,
    RUNNING_HOOKS,
    WAITING,
    machine,
    provider,
    vm,
    with_status,
)
from tests.unit.controller.conftest import Begin, Controller, Make

pytestmark = pytest.mark.looptime
LOGIN = GuestCredentials("admin", "hunter2")
EXEC = {"exec": {"command": ["/bin/save"]}}


def calls(controller: Controller) -> list[str]:
    return [request[0] for request in controller.client.requests]


def leaving(resource: VirtualMachine) -> VirtualMachine:
    gone = {"leaving": True, "generation": resource.metadata.generation + 1}
    return resource.model_copy(update={"metadata": resource.metadata.model_copy(update=gone)})


async def test_a_decision_is_carried_out_told_and_taken(begin: Begin) -> None:
    controller = await begin(machine(escalation="Ask"))
    await controller.client.tell("op-1", state=AWAITING_DECISION)
    controller.source.decide("extend=5m")
    await controller.settle()
    assert controller.client.requests[-1] == ("extend_by", "op-1", timedelta(minutes=5))
    assert [decided.text for decided in controller.source.taken] == ["extend=5m"]
    assert "DecisionTaken" in controller.source.reasons()


async def test_news_that_overtook_the_answer_to_a_decision_count_and_not_the_answer(begin: Begin) -> None:
    controller = await begin(machine(escalation="Ask"))
    await controller.client.tell("op-1", state=AWAITING_DECISION)
    await controller.settle()
    controller.client.answer_time = 1
    controller.source.decide("extend=1ms")
    await controller.settle()
    await controller.client.tell("op-1", state=AWAITING_DECISION)
    await controller.settle(10)
    assert controller.source.last().phase == "AwaitingDecision"


async def test_news_that_come_after_the_answer_with_the_end_are_older_than_it(begin: Begin) -> None:
    controller = await begin(machine())
    await controller.settle(2)
    controller.client.news_time = 5
    await controller.client.tell("op-1", state=AWAITING_DECISION)
    controller.source.decide("cancel")
    await controller.settle(60)
    assert [status.phase for status in controller.source.written()] == ["ShuttingDown", "Running"]


async def test_a_decision_that_cannot_be_taken_away_is_carried_out_once(begin: Begin) -> None:
    controller = await begin(machine(escalation="Ask"))
    await controller.client.tell("op-1", state=AWAITING_DECISION)
    await controller.settle()
    controller.source.failures = [SourceError("the API server does not answer")]
    controller.source.decide("extend=5m")
    await controller.settle(10)
    assert calls(controller).count("extend_by") == 1
    assert [decided.text for decided in controller.source.taken] == ["extend=5m"]


async def test_a_decision_waits_until_the_operation_is_known_again(make_controller: Make) -> None:
    controller = make_controller(vm(active="op-7"))
    await controller.start(machine(None))
    controller.source.decide("cancel")
    await controller.settle()
    assert (calls(controller), controller.source.taken) == ([], [])


async def test_a_decision_is_about_what_is_under_way_and_not_about_what_a_later_spec_begins(begin: Begin) -> None:
    controller = await begin(machine(escalation="Force"))
    controller.source.decide("cancel")
    await controller.apply(machine(escalation="Force", generation=2))
    assert calls(controller) == ["shutdown", "cancel", "shutdown"]


async def test_a_decision_right_before_the_spec_forces_nothing_that_it_begins(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.source.decide("force")
    await controller.apply(machine(generation=2))
    assert calls(controller) == ["shutdown"]
    assert "DecisionRefused" in controller.source.reasons()


async def test_a_decision_that_is_found_with_a_spec_that_nobody_has_acted_upon_forces_nothing_that_it_begins(
    make_controller: Make,
) -> None:
    controller = make_controller()
    unseen = with_status(machine(generation=2), observed_generation=1)
    controller.source.apply(provider(), unseen)
    controller.source.decide("force")
    await controller.start(unseen)
    assert calls(controller) == ["shutdown"]


async def test_a_decision_right_after_the_spec_is_about_what_that_begins(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.source.apply(machine(generation=2))
    controller.source.decide("force")
    await controller.settle()
    assert calls(controller) == ["shutdown", "force"]


async def test_a_cancelled_shutdown_stays_cancelled(begin: Begin) -> None:
    controller = await begin(machine())
    controller.source.decide("cancel")
    await controller.settle(24 * 3600)
    assert calls(controller) == ["shutdown", "cancel"]
    assert controller.source.ready() == ("False", "Cancelled")


async def test_a_cancelled_shutdown_is_never_said_to_be_still_to_come(begin: Begin) -> None:
    controller = await begin(machine())
    await controller.client.tell("op-1", state=WAITING)
    await controller.settle()
    controller.client.call_time = 0.01  # statuses are written meanwhile
    controller.source.decide("cancel")
    await controller.settle(10)
    said = [next(c.reason for c in status.conditions if c.type == "Ready") for status in controller.source.written()]
    assert said == ["ShuttingDown", "Cancelled"]


async def test_a_decision_without_a_shutdown_is_refused_and_taken(begin: Begin) -> None:
    controller = await begin(machine("On"))
    controller.source.decide("force")
    await controller.settle()
    assert (calls(controller), len(controller.source.taken)) == ([], 1)
    assert controller.source.reasons() == ["DecisionRefused"]


async def test_a_login_is_read_for_hooks_that_run_in_the_guest(make_controller: Make) -> None:
    controller = make_controller()
    controller.source.secrets[("default", "web-guest")] = LOGIN
    await controller.start(machine(preStop=EXEC, guestCredentialsSecretRef={"name": "web-guest"}))
    assert controller.client.logins == [LOGIN]


async def test_a_provider_that_was_restarted_is_handed_the_login_again(make_controller: Make) -> None:
    controller = make_controller()
    controller.source.secrets[("default", "web-guest")] = LOGIN
    await controller.start(machine(preStop=EXEC, guestCredentialsSecretRef={"name": "web-guest"}))
    await controller.client.tell("op-1", state=RUNNING_HOOKS)
    await controller.client.break_watches()
    await controller.settle(10)
    assert controller.client.logins == [LOGIN, LOGIN]
    assert len(controller.client.operations) == 1


async def test_no_login_is_read_where_no_hook_needs_one(begin: Begin) -> None:
    controller = await begin(machine(preStop={"snapshot": {}}, guestCredentialsSecretRef={"name": "web-guest"}))
    assert controller.client.logins == [None]


async def test_a_secret_that_is_missing_is_said_and_nothing_is_done(make_controller: Make) -> None:
    controller = make_controller()
    await controller.start(machine(preStop=EXEC, guestCredentialsSecretRef={"name": "web-guest"}))
    assert (calls(controller), controller.source.ready()) == ([], ("False", "GuestCredentialsUnavailable"))
    controller.source.secrets[("default", "web-guest")] = LOGIN
    await controller.settle(10)
    assert calls(controller) == ["shutdown"]


async def test_a_machine_that_leaves_is_brought_down_and_then_let_go(begin: Begin) -> None:
    controller = await begin(machine("On"))
    await controller.apply(leaving(machine("On")))
    assert (calls(controller), controller.source.released) == (["shutdown"], [])
    await controller.client.end("op-1")
    await controller.settle()
    assert controller.source.released == [Key("VirtualMachine", "default", "web")]
    assert controller.source.last().last_power_off


async def test_a_machine_that_is_off_leaves_at_once(make_controller: Make) -> None:
    controller = make_controller(vm(pb.POWER_STATE_OFF))
    await controller.start(leaving(machine("On")))
    assert calls(controller) == []
    assert len(controller.source.released) == 1


async def test_a_machine_without_a_vm_leaves_at_once(make_controller: Make) -> None:
    controller = make_controller(vm(name="other"))
    await controller.start(leaving(machine("On")))
    assert len(controller.source.released) == 1


async def test_a_guest_that_stays_up_keeps_its_resource(begin: Begin) -> None:
    controller = await begin(machine("On", escalation="Never"))
    await controller.apply(leaving(machine("On", escalation="Never")))
    await controller.client.end("op-1", "STILL_RUNNING", FAILED)
    await controller.settle()
    assert controller.source.released == []


# For whom, and why


async def test_what_is_asked_for_says_for_which_resource_and_why(begin: Begin) -> None:
    controller = await begin(machine(meta={"manager": "argocd", "annotations": {"vmpower/reason": "kernel update"}}))
    controller.source.decide("force", by="kubectl-annotate")
    await controller.settle()
    resource = "VirtualMachine default/web"
    assert controller.client.asked == [
        (f"{resource} (argocd)", "kernel update"),
        (f"{resource} (kubectl-annotate)", ""),
    ]


async def test_a_reason_is_no_longer_than_providers_take(begin: Begin) -> None:
    controller = await begin(machine(meta={"annotations": {"vmpower/reason": "x" * 300}}))
    assert controller.client.asked == [("VirtualMachine default/web", "x" * 256)]
