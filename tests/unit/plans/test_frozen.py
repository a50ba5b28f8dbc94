from datetime import timedelta
from typing import Any

import pytest

from plans.frozen import SELF, SETTLE, FrozenTier, Target, scheduled, target
from plans.model import AtDeadline
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


def saved(minimum: float = 0, **request: Any) -> tuple[FrozenTier, Target]:
    """A VM with a minute of its own, and two in which its memory is saved; its tier has this minimum, in seconds."""
    plain = of(pb.ShutdownRequest(**request))
    one = plain.model_copy(update={"need": plain.need + 2 * MINUTE, "save_time": 2 * MINUTE})
    tier = FrozenTier(
        name="a", targets=(one,), minimum=timedelta(seconds=minimum), at_deadline=AtDeadline.SAVE
    )  # fmt: skip
    return tier, one


def test_a_tiers_minimum_is_for_its_guests() -> None:
    tier = FrozenTier(name="a", targets=(of(pb.ShutdownRequest()),), minimum=MINUTE)
    assert tier.stage.minimum == MINUTE + SETTLE


def test_a_tier_whose_vms_are_saved_gives_no_time_back_for_that() -> None:
    tier, _ = saved(20)
    assert tier.stage.minimum == timedelta(seconds=20) + SETTLE + 2 * MINUTE


@pytest.mark.parametrize(
    ("minimum", "gets", "time"), [(0, 185, 60), (0, 165, 40), (0, 125, 0), (0, 60, 0), (0, 999, 60)]
)
def test_a_vm_that_is_saved_has_what_saving_leaves(minimum: float, gets: float, time: float) -> None:
    tier, one = saved(minimum)
    assert tier.time(one, timedelta(seconds=gets)) == timedelta(seconds=time)


@pytest.mark.parametrize(("gets", "time"), [(145, 20), (125, 20), (25, 20), (15, 10)])
def test_its_guest_has_the_minimum_also_where_saving_has_to_begin_later_for_that(gets: float, time: float) -> None:
    tier, one = saved(20)
    assert tier.time(one, timedelta(seconds=gets)) == timedelta(seconds=time)


@pytest.mark.parametrize(
    ("at_deadline", "owner", "saves"),
    [
        (AtDeadline.SAVE, pb.ESCALATION_NEVER, True),
        (AtDeadline.RESPECT, pb.ESCALATION_SAVE, True),
        (AtDeadline.RESPECT, pb.ESCALATION_FORCE, False),
        (AtDeadline.FORCE, pb.ESCALATION_SAVE, False),
        (AtDeadline.STOP, pb.ESCALATION_SAVE, False),
    ],
)
def test_who_says_that_a_vm_is_saved(at_deadline: AtDeadline, owner: "pb.Escalation.ValueType", saves: bool) -> None:
    one = of(pb.ShutdownRequest(escalation=owner))
    tier = FrozenTier(name="a", targets=(one,), at_deadline=at_deadline)
    assert tier.saves(one) is saves
    assert (tier.request(one, MINUTE).escalation == pb.ESCALATION_SAVE) is saves


def test_what_an_owner_says_of_a_vm_that_cannot_be_saved_counts_only_with_the_owners_save() -> None:
    one = of(pb.ShutdownRequest(escalation=pb.ESCALATION_SAVE, save_fallback=pb.ESCALATION_FORCE))
    said = [
        FrozenTier(name="a", targets=(one,), at_deadline=at_deadline).request(one, MINUTE).save_fallback
        for at_deadline in AtDeadline
    ]
    kept, none = pb.ESCALATION_FORCE, pb.ESCALATION_UNSPECIFIED
    assert dict(zip(AtDeadline, said, strict=True)) == {
        AtDeadline.RESPECT: kept,
        AtDeadline.FORCE: none,
        AtDeadline.SAVE: pb.ESCALATION_NEVER,
        AtDeadline.STOP: none,
    }


def test_a_hook_of_a_vm_that_is_saved_has_its_share_of_the_guests_time() -> None:
    _, one = saved(pre_stop=[pb.Hook(exec=pb.ExecHook(command=["drain"]))])
    assert one.shutdown(timedelta(seconds=45)).pre_stop[0].timeout.ToTimedelta() == timedelta(seconds=15)


def test_our_own_vm_shares_no_time_with_the_tiers() -> None:
    tiers = FrozenTier(name="a", targets=()), FrozenTier(name=SELF, targets=(), after=("a",))
    assert [stage.name for stage in scheduled(tiers)] == ["a"]
