"""What the source yields of what the API has."""

import pytest

from controller.source import Key, LeadLost, Synced
from controller.sources.kubernetes.api import PLURALS, ApiError, Foreign, Object
from controller.status_models import VirtualMachineStatus
from tests.unit.controller.sources.kubernetes.fakes import AWAY, GONE, WEB, raw
from tests.unit.controller.sources.kubernetes.watched import Watched

pytestmark = pytest.mark.looptime

PROVIDER = raw("local", kind="Provider")
HELD = ["vmpower/on-delete"]
BRING_DOWN = {"vmpower/on-delete": "OffGraceful"}
NOW = "2030-01-01T12:00:00Z"


# What there is


async def test_what_there_is_comes_first_then_synced_then_each_change(watched: Watched) -> None:
    await watched.start(PROVIDER, raw("a"), raw("b"))
    first = watched.told()
    assert sorted(first[:-1]) == ["applied a 1", "applied b 1", "applied local 1"]
    assert first[-1] == "synced"
    assert await watched.put(raw("c")) == ["applied c 1"]


async def test_synced_waits_for_all_kinds(watched: Watched) -> None:
    watched.api.fail("list", None, AWAY, AWAY, AWAY, AWAY)
    await watched.start(PROVIDER, raw())
    assert Synced() not in watched.changes
    await watched.settle(10)
    assert watched.told() == ["applied web 1", "applied local 1", "synced"]


async def test_synced_comes_once(watched: Watched) -> None:
    await watched.start(PROVIDER, raw())
    watched.told()
    for _ in range(2):
        watched.api.end(GONE)
        await watched.settle(1)
    assert (watched.told(), len(watched.api.asked("list"))) == ([], 3 * len(PLURALS))


async def test_only_the_namespace_that_was_named_is_asked_for(watched: Watched) -> None:
    await watched.start()
    assert watched.namespaces == ["lab"]


# The lead


async def test_nothing_is_asked_for_before_we_lead(watched: Watched) -> None:
    watched.lease.free.clear()
    await watched.start(raw())
    await watched.settle(3600)
    assert (watched.api.calls, watched.changes) == ([], [])
    watched.lease.free.set()
    await watched.settle()
    assert watched.told() == ["applied web 1", "synced"]


async def test_a_lost_lead_ends_the_watch(watched: Watched) -> None:
    await watched.start(raw())
    watched.lease.lost.set()
    assert watched.task is not None
    with pytest.raises(LeadLost, match="another controller may lead"):
        await watched.task


async def test_after_a_lost_lead_nothing_is_told_or_asked(watched: Watched) -> None:
    await watched.start(raw())
    watched.told()
    watched.lease.lost.set()
    watched.api.put(raw(generation=2))
    await watched.settle()
    asked = len(watched.api.calls)
    watched.api.end()
    await watched.settle(60)
    assert (watched.told(), len(watched.api.calls)) == ([], asked)


async def test_after_a_lost_lead_one_can_watch_again_and_is_told_all(watched: Watched) -> None:
    await watched.start(PROVIDER, raw())
    watched.lease.lost.set()
    await watched.settle()
    watched.told()
    await watched.start()
    assert sorted(watched.told()) == ["applied local 1", "applied web 1", "synced"]
    assert (watched.lease.acquired, len(watched.connections)) == (2, 1)


async def test_after_a_lost_lead_unfinished_writes_are_given_up(watched: Watched) -> None:
    watched.api.fail("patch", *[AWAY] * 100)  # a second try may come before the lead is lost
    await watched.start(raw(annotations=BRING_DOWN))
    tried = len(watched.api.asked("patch"))
    watched.lease.lost.set()
    await watched.settle(60)
    assert len(watched.api.asked("patch")) == tried > 0


async def test_a_bug_is_no_silence(watched: Watched) -> None:
    watched.api.fail("list", RuntimeError("a bug"))
    await watched.start()
    assert watched.task is not None
    with pytest.raises(RuntimeError, match="a bug"):
        await watched.task


async def test_while_another_one_leads_that_is_said_once(watched: Watched) -> None:
    watched.lease.free.clear()
    watched.lease.another_led.set()
    await watched.start(raw())
    await watched.settle(60)
    assert watched.told() == ["standby"]
    watched.lease.free.set()
    await watched.settle()
    assert watched.told() == ["applied web 1", "synced"]


async def test_that_another_one_led_meanwhile_is_said_before_all_else(watched: Watched) -> None:
    watched.lease.another_led.set()
    await watched.start(raw())
    assert watched.told() == ["standby", "applied web 1", "synced"]


async def test_who_lost_the_lead_to_none_knows_best(watched: Watched) -> None:
    await watched.start(raw())
    watched.lease.lost.set()
    await watched.settle()
    watched.told()
    await watched.start()
    assert watched.told() == ["applied web 1", "synced"]


# What is gone


async def test_what_is_in_no_list_is_gone(watched: Watched) -> None:
    await watched.start(raw())
    assert [watched.source.is_gone(Key("VirtualMachine", "lab", name)) for name in ("web", "other")] == [True, True]
    assert not watched.source.is_gone(Key("VirtualMachine", "elsewhere", "other"))  # nothing is known of there


async def test_what_cannot_be_listed_is_not_gone(watched: Watched) -> None:
    watched.api.fail("list", None, None, None, *[ApiError(403, "forbidden")] * 100)
    await watched.start(raw())
    assert watched.told() == ["applied web 1", "synced"]
    assert not watched.source.is_gone(Key("PowerRun", "lab", "tonight"))


async def test_a_plan_and_its_run_are_told(watched: Watched) -> None:
    spec = {"budget": {"total": "10m"}, "tiers": [{"name": "apps", "members": [{"vms": ["lab/app"]}]}]}
    plan = raw("night", kind="PowerPlan", spec=spec)
    await watched.start(plan, raw("tonight", kind="PowerRun", spec={"planRef": {"name": "night"}}))
    assert sorted(watched.told()) == ["applied night 1", "applied tonight 1", "synced"]
    circle = spec | {"tiers": [spec["tiers"][0] | {"after": ["apps"]}]}  # type: ignore[index]
    assert await watched.put(raw("night", kind="PowerPlan", generation=2, spec=circle)) == ["rejected night 2"]


# What is news


async def test_another_spec_is_applied(watched: Watched) -> None:
    await watched.start(raw())
    assert await watched.put(raw(generation=2, spec={"providerRef": {"name": "local"}, "powerState": "On"})) == [
        "applied web 2"
    ]


@pytest.mark.parametrize(
    "echo",
    [
        raw(status={"phase": "Off"}),
        raw(finalizers=["somebody/else"]),
        raw(annotations={"a": "b"}),
    ],
)
async def test_what_leaves_the_spec_as_it_is_yields_nothing(watched: Watched, echo: Object) -> None:
    await watched.start(raw())
    assert await watched.put(echo) == []


async def test_other_labels_are_applied_as_plans_select_by_them(watched: Watched) -> None:
    await watched.start(raw())
    assert await watched.put(raw(labels={"tier": "web"})) == ["applied web 1"]
    assert watched.api.objects[WEB]["metadata"]["labels"] == {"tier": "web"}


async def test_labels_of_other_kinds_mean_nothing(watched: Watched) -> None:
    await watched.start(PROVIDER)
    assert await watched.put(PROVIDER | {"metadata": PROVIDER["metadata"] | {"labels": {"a": "b"}}}) == []


async def test_our_own_writes_yield_nothing(watched: Watched) -> None:
    await watched.start(raw())
    watched.told()
    await watched.source.write_status(WEB, VirtualMachineStatus(phase="Off"))
    await watched.put(raw(annotations=BRING_DOWN))
    assert watched.api.objects[WEB]["metadata"]["finalizers"] == HELD
    assert watched.told() == []


async def test_a_list_that_is_read_anew_yields_what_has_changed_only(watched: Watched) -> None:
    await watched.start(raw("same"), raw("other"), raw("gone"))
    watched.told()
    watched.api.end(GONE)
    watched.api.put(raw("other", generation=2))
    watched.api.delete(Key("VirtualMachine", "default", "gone"))
    await watched.settle()
    assert watched.told() == ["applied other 2", "deleted gone"]


async def test_a_resource_that_was_made_anew_is_another_one(watched: Watched) -> None:
    await watched.start(raw(uid="first"))
    watched.told()
    watched.api.end(GONE)
    watched.api.delete()
    watched.api.put(raw(uid="second"))
    await watched.settle()
    assert watched.applied().metadata.uid == "second"
    assert watched.told() == ["deleted web", "applied web 1"]


# Deletion


async def test_a_resource_that_is_gone_is_deleted(watched: Watched) -> None:
    await watched.start(PROVIDER, raw())
    watched.told()
    watched.api.delete()
    watched.api.delete(Key("Provider", "default", "local"))
    await watched.settle()
    assert sorted(watched.told()) == ["deleted local", "deleted web"]


async def test_a_resource_that_others_hold_is_deleted_once(watched: Watched) -> None:
    await watched.start(raw(finalizers=["somebody/else"]))
    assert await watched.put(raw(deletionTimestamp=NOW, finalizers=["somebody/else"], generation=2)) == ["deleted web"]
    assert await watched.put(raw(deletionTimestamp=NOW, finalizers=[], generation=3)) == []
    watched.api.delete()
    await watched.settle()
    assert watched.told() == []


async def test_a_resource_that_is_deleted_before_we_look_was_never_there(watched: Watched) -> None:
    await watched.start(raw(deletionTimestamp=NOW, finalizers=["somebody/else"]))
    assert watched.told() == ["synced"]


async def test_a_resource_that_we_hold_is_leaving(watched: Watched) -> None:
    await watched.start(raw(annotations=BRING_DOWN, finalizers=HELD))
    leaving = raw(annotations=BRING_DOWN, finalizers=HELD, deletionTimestamp=NOW)
    assert await watched.put(leaving) == ["applied web 1 leaving"]
    assert await watched.put(leaving | {"status": {"phase": "ShuttingDown"}}) == []


async def test_an_owner_who_changes_their_mind_lets_it_go_as_it_is(watched: Watched) -> None:
    await watched.start(raw(annotations=BRING_DOWN, finalizers=HELD, deletionTimestamp=NOW))
    assert await watched.put(raw(finalizers=HELD, deletionTimestamp=NOW)) == ["deleted web"]
    assert watched.api.objects[WEB]["metadata"]["finalizers"] == []


async def test_a_provider_is_never_held(watched: Watched) -> None:
    await watched.start(raw("local", kind="Provider", annotations=BRING_DOWN))
    assert watched.api.asked("patch") == []


async def test_a_finalizer_that_could_not_be_written_is_written_when_the_object_has_changed(watched: Watched) -> None:
    watched.api.fail("patch", ApiError(409, "the object has been modified"))
    await watched.start(raw(annotations=BRING_DOWN))
    assert "finalizers" not in watched.api.objects[WEB]["metadata"]
    await watched.put(raw(annotations=BRING_DOWN, labels={"a": "b"}))
    assert watched.api.objects[WEB]["metadata"]["finalizers"] == HELD


# Many


async def test_two_thousand_resources_are_taken_in(watched: Watched) -> None:
    await watched.start(*(raw(f"vm-{number}") for number in range(2000)))
    assert len(watched.told()) == 2001
    assert len(watched.api.asked("list")) == 4 + 1 + 1 + 1


async def test_resources_of_another_controller_end_it_with_a_sentence(watched: Watched) -> None:
    watched.api.fail("require_ours", *[Foreign("another controller's")] * 2)
    await watched.start(raw())
    assert watched.task
    with pytest.raises(Foreign):
        await watched.task
    assert (watched.changes, watched.api.asked("patch_status")) == ([], [])


async def test_our_machines_are_the_nodes_which_are_read_when_they_are_asked_for(watched: Watched) -> None:
    await watched.start()
    watched.api.nodes = ["a", "b"]
    assert not watched.api.asked("system_uuids")
    assert await watched.source.own_machines() == ["a", "b"]
