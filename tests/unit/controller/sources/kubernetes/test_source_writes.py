"""What the source writes, reads at use, and gives back."""

import pytest

from controller.models import PlanRef, PowerRunSpec
from controller.run_status import PowerRunStatus
from controller.source import Decided, Event, Key, ResourceGone, SourceError
from controller.sources.kubernetes.api import JSON_PATCH, ApiError, Object
from controller.status_models import ProviderStatus, VirtualMachineStatus
from tests.unit.controller.builders import record
from tests.unit.controller.sources.kubernetes.fakes import AWAY, WEB, raw
from tests.unit.controller.sources.kubernetes.watched import Watched

pytestmark = pytest.mark.looptime

HELD = ["vmpower/on-delete"]
BRING_DOWN = {"vmpower/on-delete": "OffGraceful"}
NOW = "2030-01-01T12:00:00Z"
OFF = VirtualMachineStatus(phase="Off", power_state="Off")
LEAVING: Object = {"annotations": BRING_DOWN, "deletionTimestamp": NOW}
REFUSALS = [AWAY, *(ApiError(code, "no") for code in (401, 403, 409, 500))]


# Statuses


async def test_a_status_is_written_as_people_read_it(watched: Watched) -> None:
    await watched.start(raw())
    await watched.source.write_status(WEB, OFF)
    written = watched.api.objects[WEB]["status"]
    assert (written["phase"], written["powerState"], written["observedGeneration"]) == ("Off", "Off", 0)


async def test_a_status_that_was_written_is_read_again_as_it_was(watched: Watched) -> None:
    status = OFF.model_copy(update={"operation": record(), "observed_generation": 3})
    await watched.start(raw())
    await watched.source.write_status(WEB, status)
    await watched.put(raw(generation=2) | {"status": watched.api.objects[WEB]["status"]})
    watched.api.put(raw(generation=3) | {"status": watched.api.objects[WEB]["status"]})
    await watched.settle()
    assert watched.applied().status == status


async def test_what_a_status_no_longer_has_is_removed(watched: Watched) -> None:
    await watched.start(raw())
    await watched.source.write_status(WEB, OFF.model_copy(update={"operation": record(message="asked")}))
    assert watched.api.objects[WEB]["status"]["operation"]["startTime"] == "2030-01-01T12:00:00Z"
    await watched.source.write_status(WEB, OFF)
    assert "operation" not in watched.api.objects[WEB]["status"]


async def test_a_status_has_no_empty_fields(watched: Watched) -> None:
    await watched.start(raw())
    await watched.source.write_status(WEB, OFF.model_copy(update={"operation": record()}))
    assert None not in watched.api.objects[WEB]["status"].values()
    assert None not in watched.api.objects[WEB]["status"]["operation"].values()


async def test_a_provider_has_one_too(watched: Watched) -> None:
    local = Key("Provider", "default", "local")
    await watched.start(raw("local", kind="Provider"))
    await watched.source.write_status(local, ProviderStatus(version="1.2"))
    assert watched.api.objects[local]["status"]["version"] == "1.2"


async def test_one_status_is_one_write(watched: Watched) -> None:
    await watched.start(raw())
    before = len(watched.api.calls)
    await watched.source.write_status(WEB, OFF)
    assert len(watched.api.calls) - before == 1


async def test_a_status_is_not_written_to_a_resource_that_was_made_anew(watched: Watched) -> None:
    await watched.start(raw(uid="first"))
    watched.api.end()
    watched.api.delete()
    watched.api.put(raw(uid="second"))
    with pytest.raises(SourceError):
        await watched.source.write_status(WEB, OFF)
    assert "status" not in watched.api.objects[WEB]


async def test_the_status_of_a_resource_that_is_gone_is_told_so(watched: Watched) -> None:
    await watched.start(raw())
    watched.api.end()
    watched.api.delete()
    with pytest.raises(ResourceGone):
        await watched.source.write_status(WEB, OFF)


async def test_the_status_of_a_resource_that_we_know_to_be_gone_is_not_even_tried(watched: Watched) -> None:
    await watched.start(raw())
    watched.api.delete()
    await watched.settle()
    with pytest.raises(ResourceGone):
        await watched.source.write_status(WEB, OFF)
    assert watched.api.asked("patch_status") == []


@pytest.mark.parametrize("error", [*REFUSALS, ApiError(422, "no")])
async def test_a_status_that_cannot_be_written_now_can_be_tried_again(watched: Watched, error: ApiError) -> None:
    await watched.start(raw())
    watched.api.fail("patch_status", error)
    with pytest.raises(SourceError) as raised:
        await watched.source.write_status(WEB, OFF)
    assert raised.value is error
    await watched.source.write_status(WEB, OFF)
    assert watched.api.objects[WEB]["status"]["phase"] == "Off"


# Decisions that are taken

FORCE = Decided(WEB, "force", "me")


def deciding(text: str, **others: str) -> Object:
    return raw(annotations={"vmpower/decision": text, **others})


async def test_a_decision_that_is_taken_is_removed_and_nothing_else(watched: Watched) -> None:
    await watched.start(deciding("force", other="stays"))
    await watched.source.acknowledge(FORCE)
    assert watched.api.objects[WEB]["metadata"]["annotations"] == {"other": "stays"}
    assert watched.api.asked("patch")[0][2] == JSON_PATCH


async def test_a_decision_that_came_meanwhile_stays(watched: Watched) -> None:
    await watched.start(deciding("force"))
    watched.api.put(deciding("cancel"))
    await watched.source.acknowledge(FORCE)
    assert watched.api.objects[WEB]["metadata"]["annotations"] == {"vmpower/decision": "cancel"}


async def test_a_decision_that_somebody_withdrew_is_taken_all_the_same(watched: Watched) -> None:
    await watched.start(deciding("force"))
    watched.api.put(raw())
    await watched.source.acknowledge(FORCE)
    assert "annotations" not in watched.api.objects[WEB]["metadata"]


async def test_a_decision_about_a_resource_that_is_gone_is_taken_all_the_same(watched: Watched) -> None:
    await watched.start(deciding("force"))
    watched.api.delete()
    await watched.source.acknowledge(FORCE)
    assert len(watched.api.asked("patch")) == 1


@pytest.mark.parametrize("error", REFUSALS)
async def test_a_decision_that_cannot_be_removed_now_can_be_tried_again(watched: Watched, error: ApiError) -> None:
    await watched.start(deciding("force"))
    watched.api.fail("patch", error)
    with pytest.raises(SourceError) as raised:
        await watched.source.acknowledge(FORCE)
    assert raised.value is error
    await watched.source.acknowledge(FORCE)
    assert watched.api.objects[WEB]["metadata"]["annotations"] == {}


# Resources that are let go


async def test_who_is_let_go_loses_our_finalizer_and_no_other(watched: Watched) -> None:
    await watched.start(raw(**LEAVING, finalizers=["a/b", *HELD, "c/d"]))
    await watched.source.remove_finalizer(WEB)
    assert watched.api.objects[WEB]["metadata"]["finalizers"] == ["a/b", "c/d"]


async def test_who_is_let_go_while_others_hold_it_is_deleted_for_us(watched: Watched) -> None:
    await watched.start(raw(**LEAVING, finalizers=[*HELD, "c/d"]))
    watched.told()
    await watched.source.remove_finalizer(WEB)
    await watched.settle()
    assert watched.told() == ["deleted web"]
    assert len(watched.api.asked("patch")) == 1


async def test_who_is_let_go_by_now_need_not_be_again(watched: Watched) -> None:
    await watched.start(raw(**LEAVING, finalizers=HELD))
    watched.api.end()
    watched.api.delete()
    await watched.source.remove_finalizer(WEB)
    await watched.settle()
    await watched.source.remove_finalizer(WEB)
    assert len(watched.api.asked("patch")) == 1


async def test_whom_we_do_not_hold_we_need_not_let_go(watched: Watched) -> None:
    await watched.start(raw())
    await watched.source.remove_finalizer(WEB)
    assert watched.api.asked("patch") == []


async def test_finalizers_that_others_moved_meanwhile_are_left_to_the_next_try(watched: Watched) -> None:
    await watched.start(raw(**LEAVING, finalizers=["a/b", *HELD]))
    watched.api.put(raw(**LEAVING, finalizers=HELD))
    with pytest.raises(SourceError):
        await watched.source.remove_finalizer(WEB)
    await watched.settle()
    await watched.source.remove_finalizer(WEB)
    assert watched.api.objects[WEB]["metadata"]["finalizers"] == []


@pytest.mark.parametrize("error", REFUSALS)
async def test_who_cannot_be_let_go_now_can_be_later(watched: Watched, error: ApiError) -> None:
    await watched.start(raw(**LEAVING, finalizers=HELD))
    watched.api.fail("patch", error)
    with pytest.raises(SourceError) as raised:
        await watched.source.remove_finalizer(WEB)
    assert raised.value is error
    await watched.source.remove_finalizer(WEB)
    assert watched.api.objects[WEB]["metadata"]["finalizers"] == []


# Events, and the end


async def test_people_are_told_about_the_resource_that_we_know(watched: Watched) -> None:
    await watched.start(raw(uid="u-1"))
    await watched.source.emit_event(WEB, Event("Warning", "ForcedOff", "Powered off hard."))
    await watched.settle()
    assert watched.events() == [("Warning", "ForcedOff")]
    assert watched.api.events[0][1].involved_object.uid == "u-1"


async def test_about_a_resource_that_is_gone_there_is_nobody_to_tell(watched: Watched) -> None:
    await watched.start()
    await watched.source.emit_event(WEB, Event("Normal", "GracefulShutdown", ""))
    await watched.settle()
    assert watched.events() == []


async def test_at_the_end_events_are_sent_the_lead_is_given_back_and_the_connection_closed(watched: Watched) -> None:
    await watched.start(raw())
    await watched.source.emit_event(WEB, Event("Normal", "GracefulShutdown", ""))
    await watched.stop()
    assert watched.events() == [("Normal", "GracefulShutdown")]
    assert (watched.lease.released, watched.connections[0].closed) == (1, True)


async def test_a_source_that_was_never_watched_has_nothing_to_give_back(watched: Watched) -> None:
    await watched.source.close()
    assert (watched.lease.released, watched.connections) == (0, [])


# Providers in use

LOCAL = Key("Provider", "default", "local")
IN_USE = ["vmpower/in-use"]


async def test_a_provider_in_use_is_held_with_one_write(watched: Watched) -> None:
    await watched.start(raw("local", kind="Provider"))
    await watched.source.hold_provider(LOCAL, True)
    await watched.settle()
    await watched.source.hold_provider(LOCAL, True)
    assert watched.api.objects[LOCAL]["metadata"]["finalizers"] == IN_USE
    assert len(watched.api.asked("patch")) == 1


async def test_a_deleted_provider_serves_until_it_is_not_held_any_more(watched: Watched) -> None:
    await watched.start(raw("local", kind="Provider", finalizers=IN_USE))
    assert await watched.put(raw("local", kind="Provider", finalizers=IN_USE, deletionTimestamp=NOW)) == [
        "applied local 1 leaving"
    ]
    await watched.source.hold_provider(LOCAL, False)
    await watched.settle()
    assert watched.told() == ["deleted local"]


async def test_a_provider_that_is_gone_need_not_be_held(watched: Watched) -> None:
    await watched.start(raw("local", kind="Provider"))
    watched.api.fail("patch", ApiError(404, "gone"))
    await watched.source.hold_provider(LOCAL, True)
    await watched.source.hold_provider(Key("Provider", "default", "unheard-of"), True)


# Annotations


async def test_an_annotation_that_the_core_knows_is_applied(watched: Watched) -> None:
    await watched.start(raw())
    assert await watched.put(raw(annotations={"vmpower/paused": "true"})) == ["applied web 1"]
    assert await watched.put(raw(annotations={"vmpower/paused": "true", "example.com/a": "b"})) == []


NIGHT = Key("PowerRun", "lab", "night-1")


async def test_a_run_is_declared_with_what_differs_from_its_defaults(watched: Watched) -> None:
    await watched.start()
    spec = PowerRunSpec(plan_ref=PlanRef(name="night"), emergency=True, trigger="a says LB")
    made = await watched.source.make_run(NIGHT.name, NIGHT.namespace, spec)
    assert watched.api.asked("create") == [
        (NIGHT, {"planRef": {"name": "night"}, "emergency": True, "trigger": "a says LB"})
    ]
    assert (made.metadata.uid, made.spec) == ("uid-night-1", spec)


async def test_a_run_that_was_declared_can_be_written_to_at_once(watched: Watched) -> None:
    await watched.start()
    await watched.source.make_run(NIGHT.name, NIGHT.namespace, PowerRunSpec(plan_ref=PlanRef(name="night")))
    await watched.source.write_status(NIGHT, PowerRunStatus(phase="Running"))
    assert watched.api.objects[NIGHT]["status"]["phase"] == "Running"


async def test_a_run_that_cannot_be_declared_is_told(watched: Watched) -> None:
    await watched.start()
    watched.api.fail("create", ApiError(409, "it exists"))
    with pytest.raises(SourceError, match="it exists"):
        await watched.source.make_run(NIGHT.name, NIGHT.namespace, PowerRunSpec(plan_ref=PlanRef(name="night")))


async def test_a_run_is_deleted_by_its_uid(watched: Watched) -> None:
    await watched.start()
    await watched.source.make_run(NIGHT.name, NIGHT.namespace, PowerRunSpec(plan_ref=PlanRef(name="night")))
    await watched.source.delete_run(NIGHT)
    assert watched.api.asked("delete_object") == [(NIGHT, "uid-night-1")]


async def test_a_run_that_is_not_known_any_more_is_not_deleted(watched: Watched) -> None:
    await watched.start()
    await watched.source.delete_run(NIGHT)
    assert watched.api.asked("delete_object") == []
