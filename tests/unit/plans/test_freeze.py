from datetime import timedelta

import pytest

from client.errors import ProviderError
from plans.clock import Clock
from plans.freeze import Unreachable, freeze
from plans.members import LeftOut, PlanRefused
from protos.power.v1 import power_pb2 as pb
from tests.unit.plans.builders import plan, tier
from tests.unit.plans.fake import DEFAULT, FakeProvider, wall

pytestmark = pytest.mark.looptime


async def test_a_vm_has_the_timeout_of_its_provider() -> None:
    frozen = await freeze(plan(tier("a", "lab/app")), {"lab": FakeProvider(app=1)}, Clock(wall))
    assert frozen.tiers[0].targets[0].need >= DEFAULT


async def test_no_guest_is_touched() -> None:
    lab = FakeProvider(app=1)
    await freeze(plan(tier("a", "lab/app")), {"lab": lab}, Clock(wall))
    assert {type(request) for request in lab.requests} == {pb.GetProviderInfoRequest}


async def test_a_path_is_looked_up_at_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = FakeProvider(app=1)
    monkeypatch.setattr(lab, "_vm", lambda name: lab.vms[name.rpartition("/")[2]])
    frozen = await freeze(plan(tier("a", "lab/dc/vm/app")), {"lab": lab}, Clock(wall))
    assert frozen.tiers[0].targets[0].vm == "app"


async def test_how_far_a_clock_is_ahead_is_measured() -> None:
    lab = FakeProvider(app=1)
    lab.ahead = timedelta(minutes=-5)
    frozen = await freeze(plan(tier("a", "lab/app")), {"lab": lab}, Clock(wall))
    assert frozen.ahead["lab"].total_seconds() == pytest.approx(-300, abs=0.1)


@pytest.mark.parametrize(("at_deadline", "told"), [("Save", ["It is tied."]), ("Force", [])])
async def test_what_keeps_memory_from_being_saved_is_told_of_those_that_are_to_be_saved(
    at_deadline: str, told: list[str]
) -> None:
    lab = FakeProvider(app=1)
    lab.vms["app"].forecast.save_problems.add(message="It is tied.")
    frozen = await freeze(plan(tier("a", "lab/app", atDeadline=at_deadline)), {"lab": lab}, Clock(wall))
    assert list(frozen.save_problems(frozen.tiers[0], frozen.tiers[0].targets[0])) == told


async def test_a_provider_that_saves_nothing_is_told_before() -> None:
    lab = FakeProvider(app=1)
    lab.saves = False
    frozen = await freeze(plan(tier("a", "lab/app", atDeadline="Save")), {"lab": lab}, Clock(wall))
    (one,) = frozen.tiers[0].targets
    assert list(frozen.save_problems(frozen.tiers[0], one)) == ["Its provider saves no VM's memory."]
    assert one.save_time == timedelta()


async def test_a_provider_that_the_plan_does_not_name_may_be_away() -> None:
    pve = FakeProvider(x=1)
    pve.away = True
    frozen = await freeze(plan(tier("a", "lab/app")), {"lab": FakeProvider(app=1), "pve": pve}, Clock(wall))
    assert frozen.ahead.keys() == {"lab"}


async def test_one_that_it_names_may_not() -> None:
    lab = FakeProvider(app=1)
    lab.away = True
    with pytest.raises(Unreachable, match="lab: Connection refused") as refused:
        await freeze(plan(tier("a", "lab/app")), {"lab": lab}, Clock(wall))
    assert isinstance(refused.value.error, ProviderError)


async def test_a_vm_that_is_not_there_is_refused_by_its_field() -> None:
    with pytest.raises(PlanRefused, match=r"tiers\.0\.members\.0\.vms\.0: provider 'lab' has no VM .* 'mail'"):
        await freeze(plan(tier("a", "lab/mail")), {"lab": FakeProvider(app=1)}, Clock(wall))


async def test_a_plan_of_unknown_providers_is_refused_by_its_field() -> None:
    with pytest.raises(PlanRefused, match=r"tiers\.0\.members\.0\.vms\.0: no provider is called 'pve'"):
        await freeze(plan(tier("a", "pve/app")), {"lab": FakeProvider(app=1)}, Clock(wall))


async def test_who_misspells_a_provider_is_told_all_that_are_known() -> None:
    with pytest.raises(PlanRefused, match="no provider is called 'labb'; known: lab, pve"):
        await freeze(plan(tier("a", "labb/app")), {"lab": FakeProvider(app=1), "pve": FakeProvider()}, Clock(wall))


async def test_a_run_of_a_plan_with_a_long_name_is_called_as_kubernetes_takes_it() -> None:
    clock, spec = Clock(wall), plan(tier("a", "lab/app"))
    frozen = await freeze(spec, {"lab": FakeProvider(app=1)}, clock)
    assert frozen.start(f"{'x' * 62}.{'y' * 10}", spec, clock()).run.startswith(f"{'x' * 62}-20300101-")


async def test_a_run_ends_when_its_budget_is_over() -> None:
    clock, spec = Clock(wall), plan(tier("a", "lab/app"), total="10m")
    start = (await freeze(spec, {"lab": FakeProvider(app=1)}, clock)).start("nightly", spec, clock())
    assert start.ends - start.at == timedelta(minutes=10)
    assert start.run.startswith("nightly-20300101-0000")


async def test_without_our_own_vm_the_others_stay_as_they_are() -> None:
    frozen = await freeze(plan(tier("a", "lab/app")), {"lab": FakeProvider(app=1, me=1)}, Clock(wall), own=["lab/me"])
    assert [each.name for each in frozen.tiers] == ["a", "(self)"]
    assert frozen.without_own().tiers == frozen.tiers[:1]


async def test_without_a_vm_its_tier_has_the_others() -> None:
    lab = FakeProvider(app=1, web=1, db=1)
    frozen = await freeze(plan(tier("a", "lab/app", "lab/web"), tier("b", "lab/db")), {"lab": lab}, Clock(wall))
    left = frozen.without({"lab/web", "lab/db"})
    assert [[each.key for each in tier.targets] for tier in left.tiers] == [["lab/app"], []]


async def test_a_provider_that_is_away_can_be_left_out() -> None:
    lab, pve, left_out = FakeProvider(app=1), FakeProvider(db=1), LeftOut()
    pve.away = True
    spec = plan(tier("a", "lab/app"), tier("b", "pve/db"))
    frozen = await freeze(spec, {"lab": lab, "pve": pve}, Clock(wall), left_out=left_out)
    assert [[target.title for target in each.targets] for each in frozen.tiers] == [["lab/app"], []]
    assert (left_out.away, left_out.violations) == ({"pve"}, [])


async def test_with_all_of_them_away_nothing_is_left() -> None:
    lab = FakeProvider(app=1)
    lab.away = True
    with pytest.raises(Unreachable):
        await freeze(plan(tier("a", "lab/app")), {"lab": lab}, Clock(wall), left_out=LeftOut())
