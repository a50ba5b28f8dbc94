"""Guests that are hibernated at their deadlines instead of being stopped, on a cluster."""

import pytest

from protos.power.v1 import power_pb2 as pb
from tests.e2e.proxmox.conftest import NewGuest
from tests.e2e.proxmox.served import Served

SAVE = pb.ESCALATION_SAVE


@pytest.mark.parametrize("agent", ["off", "deaf"])
def test_a_deaf_guest_is_hibernated_at_its_deadline(it: Served, guest: NewGuest, agent: str) -> None:
    web = guest(ignores=True, agent=agent)
    assert it.ending(it.shutdown(web, 1, escalation=SAVE)) == "SAVED/TIMEOUT"
    assert it.calls.vm(web).power_state == pb.POWER_STATE_SUSPENDED
    assert it.cluster.show(web)["lock"] == "suspended"


def test_a_power_on_resumes_it(it: Served, guest: NewGuest) -> None:
    web = guest(ignores=True)
    it.calls.end(it.shutdown(web, 1, escalation=SAVE))
    assert it.ending(it.calls.stub.PowerOn(pb.PowerOnRequest(vm=web))) == "STARTED"
    assert it.calls.vm(web).power_state == pb.POWER_STATE_ON


def test_proxmox_ve_is_not_told_to_force_it(it: Served, guest: NewGuest) -> None:
    web = guest(ignores=True)
    it.calls.end(it.shutdown(web, 1, escalation=SAVE))
    asked = [params for _, how, params in it.cluster.show(web)["asked"] if how == "shutdown"]
    assert ["forceStop" in params for params in asked] == [False]


def test_a_container_is_said_to_be_unsavable_and_is_left_running(it: Served, guest: NewGuest) -> None:
    web = guest(kind="lxc", ignores=True)
    (problem,) = it.calls.vm(web).forecast.save_problems
    assert "container" in problem.message
    operation = it.calls.end(it.shutdown(web, 1, escalation=SAVE))
    assert operation.verdict.outcome == pb.OUTCOME_STILL_RUNNING
    assert "container" in operation.error.message


def test_a_guest_with_a_device_of_its_nodes_is_forced_where_the_request_says_so(it: Served, guest: NewGuest) -> None:
    tied = {"hostpci0": "0000:01:00.0"}
    web = guest(lambda vm: bool(vm.forecast.save_problems), ignores=True, config=tied)
    operation = it.calls.end(it.shutdown(web, 1, escalation=SAVE, save_fallback=pb.ESCALATION_FORCE))
    assert operation.verdict.outcome == pb.OUTCOME_FORCED
    assert "hostpci0" in operation.verdict.message


def test_a_save_that_fails_leaves_it_running(it: Served, guest: NewGuest) -> None:
    web = guest(ignores=True)
    it.cluster.fail("POST", f"/{it.calls.vm(web).id}/status/suspend", 500, "no storage")
    operation = it.calls.end(it.shutdown(web, 1, escalation=SAVE))
    assert operation.verdict.outcome == pb.OUTCOME_STILL_RUNNING
    assert "no storage" in operation.error.message
    assert it.calls.vm(web).power_state == pb.POWER_STATE_ON


def test_what_is_managed_by_ha_is_not_taken_on(it: Served, guest: NewGuest) -> None:
    web = guest(lambda vm: bool(vm.forecast.save_problems), ha="started")
    with pytest.raises(Exception, match="Escalation SAVE cannot be kept"):
        it.shutdown(web, 1, escalation=SAVE)
