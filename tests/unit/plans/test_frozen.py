from datetime import timedelta

import pytest

from plans.frozen import SELF, SETTLE, FrozenTier, Target, scheduled, target
from protos.power.v1 import power_pb2 as pb

MINUTE = timedelta(minutes=1)
VM = pb.VM(id="7", name="web", power_state=pb.POWER_STATE_ON)


def of(request: pb.ShutdownRequest, vm: pb.VM = VM) -> Target:
    return target("lab", vm, MINUTE, request)


def test_a_vm_without_a_name_is_called_by_its_id() -> None:
    assert of(pb.ShutdownRequest(), pb.VM(id="7")).title == "lab/7"


def test_a_request_is_as_it_was_but_for_what_each_run_says() -> None:
    policy = pb.SignalPolicy(order=[pb.SIGNAL_ACPI])
    request = pb.ShutdownRequest(vm="web", request_id="x", escalation=pb.ESCALATION_ASK, signal_policy=policy)
    request.timeout.FromTimedelta(MINUTE)
    expected = pb.ShutdownRequest(vm="7", escalation=pb.ESCALATION_ASK, signal_policy=policy)
    assert of(request).shutdown(MINUTE) == expected


def test_each_call_has_a_request_of_its_own() -> None:
    one = of(pb.ShutdownRequest())
    one.shutdown(MINUTE).reason = "mine"
    assert one.shutdown(MINUTE).reason == ""


@pytest.mark.parametrize(("seconds", "hook"), [(90, 30), (200, 30), (45, 15), (0, 0.1)])
def test_of_too_little_time_hooks_get_their_share(seconds: float, hook: float) -> None:
    one = of(pb.ShutdownRequest(pre_stop=[pb.Hook(exec=pb.ExecHook(command=["drain"]))]))
    assert one.need == timedelta(seconds=90) + SETTLE
    request = one.shutdown(timedelta(seconds=seconds))
    assert request.pre_stop[0].timeout.ToTimedelta() == timedelta(seconds=hook)


def test_a_tiers_minimum_is_for_its_guests() -> None:
    tier = FrozenTier(name="a", targets=(of(pb.ShutdownRequest()),), minimum=MINUTE)
    assert tier.stage.minimum == MINUTE + SETTLE


def test_our_own_vm_shares_no_time_with_the_tiers() -> None:
    tiers = FrozenTier(name="a", targets=()), FrozenTier(name=SELF, targets=(), after=("a",))
    assert [stage.name for stage in scheduled(tiers)] == ["a"]
