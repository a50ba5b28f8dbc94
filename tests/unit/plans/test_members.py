from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from plans.frozen import OTHERS, SELF, SETTLE, FrozenTier
from plans.members import Declared, LeftOut, OwnVMUnclear, PlanRefused, Provider, Violation, resolve
from plans.model import PlanSpec
from protos.power.v1 import power_pb2 as pb

MINUTE = timedelta(minutes=1)
ON, OFF, SUSPENDED = pb.POWER_STATE_ON, pb.POWER_STATE_OFF, pb.POWER_STATE_SUSPENDED
UUID = "4c4c4544-0042-3510-8051-b8c04f4e3132"


def vm(name: str, state: pb.PowerState.ValueType = ON, vm_id: str = "", **labels: str) -> pb.VM:
    return pb.VM(id=vm_id or f"id-{name}", name=name, power_state=state, labels=labels)


def provider(*vms: pb.VM, **called: str) -> Provider:
    return Provider(vms, MINUTE, called)


def spec(*members: Sequence[Mapping[str, Any]], **more: Any) -> PlanSpec:
    """A plan whose tiers, called t0, t1 and so on, have these members."""
    tiers = [{"name": f"t{number}", "members": list(each)} for number, each in enumerate(members)]
    return PlanSpec.model_validate({"budget": {"total": "10m"}, "tiers": tiers, "others": "Ignore"} | more)


def vms(*names: str) -> list[dict[str, Any]]:
    return [{"vms": list(names)}]


def labelled(provider: str = "lab", **labels: str) -> list[dict[str, Any]]:
    return [{"providerRef": {"name": provider}, "labels": labels}]


def selected(**labels: str) -> list[dict[str, Any]]:
    return [{"selector": {"matchLabels": labels}}]


def names(tiers: Sequence[FrozenTier]) -> dict[str, list[str]]:
    return {tier.name: [target.title for target in tier.targets] for tier in tiers}


def refusals(
    plan: PlanSpec, providers: Mapping[str, Provider], *declared: Declared, own: Collection[str] = ()
) -> dict[str, str]:
    with pytest.raises(PlanRefused) as refused:
        resolve(plan, providers, declared, own)
    return dict(refused.value.violations)


LAB = {"lab": provider(vm("web"), vm("db"))}


def test_vms_are_named_by_name_or_id() -> None:
    assert names(resolve(spec(vms("lab/web", "lab/id-db")), LAB)) == {"t0": ["lab/web", "lab/db"]}


def test_a_vm_is_named_by_a_path_that_its_provider_knows() -> None:
    there = {"lab": provider(vm("web"), **{"dc/vm/web": "id-web"})}
    assert names(resolve(spec(vms("lab/dc/vm/web")), there)) == {"t0": ["lab/web"]}


def test_an_id_counts_before_a_name() -> None:
    there = {"lab": provider(vm("7", vm_id="8"), vm("web", vm_id="7"))}
    assert names(resolve(spec(vms("lab/7")), there)) == {"t0": ["lab/web"]}


def test_a_provider_of_another_namespace_is_named_with_it() -> None:
    assert names(resolve(spec(vms("prod/lab/web")), {"prod/lab": provider(vm("web"))})) == {"t0": ["prod/lab/web"]}


def test_vms_are_found_by_what_their_provider_tells_of_them() -> None:
    there = {"lab": provider(vm("a", tier="batch", team="x"), vm("b", tier="batch"), vm("c", tier="db", team="x"))}
    assert names(resolve(spec(labelled(tier="batch", team="x")), there)) == {"t0": ["lab/a"]}


def test_of_a_label_with_several_values_one_is_enough() -> None:
    there = {"lab": provider(vm("a", tags="prod;batch"), vm("b", tags="batchless"))}
    assert names(resolve(spec(labelled(tags="batch")), there)) == {"t0": ["lab/a"]}


def test_labels_that_no_vm_has_are_a_tier_without_vms() -> None:
    assert names(resolve(spec(labelled(tags="batch")), LAB)) == {"t0": []}


def test_a_vm_that_is_meant_twice_in_a_tier_is_there_once() -> None:
    there = {"lab": provider(vm("a", tier="batch"))}
    assert names(resolve(spec([*vms("lab/a", "lab/id-a"), *labelled(tier="batch")]), there)) == {"t0": ["lab/a"]}


def test_a_tier_is_after_those_that_the_plan_says() -> None:
    (_, second) = resolve(spec(vms("lab/web"), vms("lab/db")), LAB)
    assert second.after == ("t0",)


def test_a_vm_needs_the_time_of_its_provider_and_some_to_be_seen_off() -> None:
    (tier,) = resolve(spec(vms("lab/web")), LAB)
    assert tier.targets[0].need == MINUTE + SETTLE


def test_the_hypervisors_own_time_for_a_vm_comes_before_its_providers() -> None:
    slow = vm("web")
    slow.own_timeout.FromTimedelta(3 * MINUTE)
    (tier,) = resolve(spec(vms("lab/web")), {"lab": provider(slow)})
    assert tier.targets[0].need == 3 * MINUTE + SETTLE


def test_a_vm_that_is_off_takes_no_time_and_is_asked_all_the_same() -> None:
    (tier,) = resolve(spec(vms("lab/web")), {"lab": provider(vm("web", OFF))})
    assert (tier.stage.need, [target.vm for target in tier.targets]) == (timedelta(), ["id-web"])


def saving(**tier: Any) -> PlanSpec:
    """A plan with one tier, which has atDeadline Save unless it says something else."""
    written = {"name": "t0", "members": vms("lab/web"), "atDeadline": "Save"} | tier
    return PlanSpec.model_validate({"budget": {"total": "10m"}, "tiers": [written], "others": "Ignore"})


@pytest.mark.parametrize(("written", "seconds"), [({}, 120), ({"saveTime": "30s"}, 30)])
def test_a_vm_whose_memory_is_saved_needs_time_for_that(written: dict[str, str], seconds: float) -> None:
    (tier,) = resolve(saving(**written), LAB)
    (one,) = tier.targets
    assert (one.need, one.own) == (MINUTE + SETTLE + timedelta(seconds=seconds), MINUTE)


def test_so_does_one_whose_owner_wants_it_saved_and_no_other() -> None:
    owners = Declared("default/w", "lab", "web", {"a": "b"}, pb.ShutdownRequest(escalation=pb.ESCALATION_SAVE))
    written = saving(members=[*vms("lab/db"), *selected(a="b")], atDeadline="Respect", saveTime="30s")
    (tier,) = resolve(written, LAB, [owners])
    assert {one.name: one.save_time.total_seconds() for one in tier.targets} == {"web": 30, "db": 0}


def test_a_suspended_vm_is_left_as_it_is() -> None:
    assert names(resolve(spec(vms("lab/web")), {"lab": provider(vm("web", SUSPENDED))})) == {"t0": []}


# VirtualMachine resources


def declared(name: str, wanted: str = "web", timeout: int = 30, **more: Any) -> Declared:
    request = pb.ShutdownRequest(escalation=pb.ESCALATION_NEVER, **more)
    request.timeout.FromTimedelta(timedelta(seconds=timeout))
    return Declared(f"default/{name}", "lab", wanted, {"tier": "web"}, request)


def test_the_lifecycle_of_a_resource_counts() -> None:
    hooks = [pb.Hook(exec=pb.ExecHook(command=["drain"])), pb.Hook(exec=pb.ExecHook(command=["sync"]))]
    hooks[1].timeout.FromTimedelta(timedelta(seconds=10))
    (tier,) = resolve(spec(selected(tier="web")), LAB, [declared("w", pre_stop=hooks)])
    (target,) = tier.targets
    asked = target.shutdown(MINUTE)
    assert target.need == timedelta(seconds=30 + 30 + 10) + SETTLE
    assert (asked.vm, asked.escalation, len(asked.pre_stop)) == ("id-web", pb.ESCALATION_NEVER, 2)
    assert target.resource == "default/w"


def test_what_a_resource_says_counts_also_for_a_vm_that_its_tier_names() -> None:
    members = [*vms("lab/web"), *selected(tier="web"), *vms("lab/id-web")]
    (tier,) = resolve(spec(members), LAB, [declared("w")])
    assert [target.resource for target in tier.targets] == ["default/w"]


def test_secrets_are_not_kept() -> None:
    login = pb.GuestCredentials(username="root", password="hunter2")
    hook = pb.Hook(http_get=pb.HttpGetHook(url="http://:8080/", headers={"Authorization": "hunter2"}))
    (tier,) = resolve(spec(selected(tier="web")), LAB, [declared("w", guest_credentials=login, pre_stop=[hook])])
    assert "hunter2" not in tier.model_dump_json()
    assert tier.targets[0].shutdown(MINUTE).pre_stop[0].http_get.url == "http://:8080/"


# What is refused


def test_an_unknown_provider_is_refused() -> None:
    assert refusals(spec(vms("lab/web", "pve/web")), LAB) == {
        "tiers.0.members.0.vms.1": "no provider is called 'pve'; known: lab"
    }
    assert refusals(spec(labelled("pve", a="b")), LAB).keys() == {"tiers.0.members.0.providerRef"}


def test_a_vm_that_is_not_there_is_refused() -> None:
    assert refusals(spec(vms("lab/mail")), LAB) == {
        "tiers.0.members.0.vms.0": "provider 'lab' has no VM with the id or name 'mail'"
    }


def test_a_name_of_several_vms_is_refused() -> None:
    there = {"lab": provider(vm("web", vm_id="1"), vm("web", vm_id="2"))}
    assert refusals(spec(vms("lab/web")), there) == {
        "tiers.0.members.0.vms.0": "several VMs are called so; write one of the ids 1, 2"
    }


def test_a_vm_in_two_tiers_is_refused() -> None:
    there = {"lab": provider(vm("web", tier="batch"))}
    assert refusals(spec(vms("lab/web"), labelled(tier="batch")), there) == {
        "tiers.1.members.0": "lab/web is in tier 't0' already"
    }


def test_a_vm_with_two_resources_is_refused() -> None:
    both = declared("w"), declared("v")
    assert refusals(spec(selected(tier="web")), LAB, *both) == {
        "tiers.0.members.0.selector": "lab/web has two resources, default/w and default/v"
    }


def test_a_resource_about_no_vm_is_refused() -> None:
    assert refusals(spec(selected(tier="web")), LAB, declared("w", "mail")).keys() == {"tiers.0.members.0.selector"}


def test_a_selector_is_refused_where_there_are_no_resources() -> None:
    assert refusals(spec(selected(tier="web")), LAB) == {
        "tiers.0.members.0.selector": "no VirtualMachine resources are known here"
    }


def test_all_mistakes_are_told_at_once() -> None:
    assert len(refusals(spec(vms("lab/mail", "pve/web"), vms("lab/ftp")), LAB)) == 3


# Running VMs that no tier names

MANY = {"lab": provider(vm("web"), vm("db"), vm("mail"), vm("old", OFF)), "pve": provider(vm("elsewhere"))}


def test_running_vms_that_no_tier_names_are_refused() -> None:
    assert refusals(spec(vms("lab/web"), others="Refuse"), MANY) == {
        "others": "no tier names lab/db, lab/mail, which run; name them, or write First, Last or Ignore"
    }


def test_they_go_first() -> None:
    tiers = resolve(spec(vms("lab/web"), vms("lab/db"), others="First"), MANY)
    assert names(tiers)[OTHERS] == ["lab/mail"]
    assert [(tier.name, tier.after) for tier in tiers] == [(OTHERS, ()), ("t0", (OTHERS,)), ("t1", ("t0",))]


def test_they_go_last() -> None:
    tiers = resolve(spec(vms("lab/web"), vms("lab/db"), others="Last"), MANY)
    assert [(tier.name, tier.after) for tier in tiers] == [("t0", ()), ("t1", ("t0",)), (OTHERS, ("t1",))]


def test_they_are_ignored() -> None:
    assert names(resolve(spec(vms("lab/web"), others="Ignore"), MANY)) == {"t0": ["lab/web"]}


def test_vms_of_a_provider_that_the_plan_does_not_name_are_no_others() -> None:
    assert names(resolve(spec(vms("pve/elsewhere"), others="Refuse"), MANY)) == {"t0": ["pve/elsewhere"]}


# The platform's VMs


@pytest.fixture
def platform() -> Mapping[str, Provider]:
    problem = pb.Problem(causes=[pb.CAUSE_MANAGED])
    vcls = pb.VM(id="1", name="vCLS-1", power_state=ON, labels={"a": "b"}, forecast=pb.Forecast(problems=[problem]))
    eam = pb.VM(id="2", name="eam", power_state=ON, labels={"a": "b", "managed-by": "com.vmware.vim.eam"})
    return {"lab": provider(vcls, eam, vm("web"))}


def test_vms_of_the_platform_are_members_by_no_label(platform: Mapping[str, Provider]) -> None:
    assert names(resolve(spec(labelled(a="b")), platform)) == {"t0": []}


def test_vms_of_the_platform_are_no_others(platform: Mapping[str, Provider]) -> None:
    assert names(resolve(spec(vms("lab/web"), others="Refuse"), platform)) == {"t0": ["lab/web"]}


def test_vms_of_the_platform_are_members_where_they_are_named(platform: Mapping[str, Provider]) -> None:
    assert names(resolve(spec(vms("lab/vCLS-1")), platform)) == {"t0": ["lab/vCLS-1"]}


def test_a_mistake_is_told_with_the_field_as_the_manifest_has_it() -> None:
    assert Violation("tiers.0.members.1.vms.2", "is wrong").path == "spec.tiers[0].members[1].vms[2]"


# Our own VM

OWN = {"lab": provider(vm("web", a="b"), vm("me", vm_id=UUID, a="b")), "pve": provider(vm("x"))}


@pytest.mark.parametrize("own", [UUID, UUID.upper(), "lab/me", f"lab/{UUID}"])
def test_our_own_vm_goes_down_after_all_others(own: str) -> None:
    tiers = resolve(spec(vms("lab/web"), vms("pve/x")), OWN, own=[own])
    assert names(tiers) == {"t0": ["lab/web"], "t1": ["pve/x"], SELF: ["lab/me"]}
    assert tiers[-1].after == ("t0", "t1")


BIOS_UUID = "422e8ad7-6b1c-5b3f-0d0c-7d2a4f1e9b60"


@pytest.mark.parametrize("own", [BIOS_UUID, BIOS_UUID.upper(), "d78a2e42-1c6b-3f5b-0d0c-7d2a4f1e9b60"])
def test_our_own_vm_is_known_by_what_its_firmware_has_in_either_order_of_its_bytes(own: str) -> None:
    there = {"vcenter": provider(vm("web"), pb.VM(id="i", name="me", power_state=ON, system_uuid=BIOS_UUID))}
    assert names(resolve(spec(vms("vcenter/web")), there, own=[own]))[SELF] == ["vcenter/me"]


def test_where_two_may_be_our_own_nothing_is_guessed() -> None:
    twins = [pb.VM(id=f"i{number}", name="me", power_state=ON, system_uuid=BIOS_UUID) for number in (1, 2)]
    with pytest.raises(OwnVMUnclear, match="vcenter/i1, vcenter/i2"):
        resolve(spec(vms("vcenter/i1")), {"vcenter": provider(*twins)}, own=[BIOS_UUID])


@pytest.mark.parametrize("own", ["", "me", "unknown"])
def test_a_bare_name_is_nobodys(own: str) -> None:
    assert SELF not in names(resolve(spec(vms("lab/web")), OWN, own=[own]))


def test_our_own_vm_is_matched_by_no_label_and_is_none_of_the_others() -> None:
    assert names(resolve(spec(labelled(a="b"), others="Refuse"), OWN, own=[UUID])) == {
        "t0": ["lab/web"],
        SELF: ["lab/me"],
    }


def test_our_own_vm_is_refused_in_a_tier() -> None:
    assert refusals(spec(vms("lab/me")), OWN, own=[UUID]) == {
        "tiers.0.members.0.vms.0": "is a VM that this program runs on, which goes down last by itself"
    }


def test_a_machine_that_is_none_of_these_vms_is_nobodys() -> None:
    assert SELF not in names(resolve(spec(vms("lab/web")), OWN, own=["00000000-0000-4000-8000-000000000001"]))


OTHER_UUID = "00000000-0000-4000-8000-00000000000b"
NODES = {
    "lab": provider(vm("web", a="b"), vm("node1", vm_id=UUID, a="b"), vm("node2", vm_id=OTHER_UUID)),
    "pve": provider(vm("x")),
}


def test_all_own_vms_go_down_together_after_all_others() -> None:
    tiers = resolve(spec(labelled(a="b"), vms("pve/x")), NODES, own=[UUID, OTHER_UUID, "at none of them"])
    assert names(tiers) == {"t0": ["lab/web"], "t1": ["pve/x"], SELF: ["lab/node1", "lab/node2"]}


def test_each_own_vm_is_refused_in_a_tier() -> None:
    fields = refusals(spec(vms("lab/node1", "lab/web", "lab/node2")), NODES, own=[UUID, OTHER_UUID]).keys()
    assert fields == {"tiers.0.members.0.vms.0", "tiers.0.members.0.vms.2"}


def test_an_own_vm_that_is_named_in_two_ways_is_one() -> None:
    assert names(resolve(spec(vms("lab/web")), NODES, own=[UUID, "lab/node1"]))[SELF] == ["lab/node1"]


def test_an_own_vm_that_is_suspended_is_left_as_it_is() -> None:
    there = {"lab": provider(vm("web"), vm("node1", SUSPENDED, vm_id=UUID), vm("node2", vm_id=OTHER_UUID))}
    assert names(resolve(spec(vms("lab/web")), there, own=[UUID, OTHER_UUID]))[SELF] == ["lab/node2"]


def test_only_the_vms_of_some_providers_may_be_our_own() -> None:
    there = {"lab": provider(vm("web")), "infra/lab": provider(vm("claims", vm_id=UUID))}
    plan = spec(vms("lab/web"), vms("infra/lab/claims"))
    assert SELF not in names(resolve(plan, there, own=[UUID], own_at=["lab"]))


# What a run begins without


def test_what_cannot_be_meant_is_told_and_left_out() -> None:
    left_out = LeftOut()
    plan = spec(vms("lab/web", "lab/gone"), vms("lab/db"), others="Refuse")
    lab = {"lab": provider(vm("web"), vm("db"), vm("new"))}
    assert names(resolve(plan, lab, left_out=left_out)) == {"t0": ["lab/web"], "t1": ["lab/db"]}
    assert str(left_out) == (
        "spec.tiers[0].members[0].vms[1]: provider 'lab' has no VM with the id or name 'gone'; "
        "spec.others: no tier names lab/new, which run; name them, or write First, Last or Ignore"
    )


def test_a_provider_that_is_away_is_told_once_and_by_that_alone() -> None:
    left_out = LeftOut(away={"team/pve"})
    plan = spec(vms("lab/web", "team/pve/a", "team/pve/b"))
    assert names(resolve(plan, LAB, left_out=left_out)) == {"t0": ["lab/web"]}
    assert str(left_out) == "provider team/pve does not answer"


def test_a_plan_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(PlanRefused):
        resolve(spec(vms("lab/gone")), LAB, left_out=LeftOut())
