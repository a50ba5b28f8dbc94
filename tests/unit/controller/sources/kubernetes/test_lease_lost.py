"""To lose the lead in time, and to hand it over."""

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from controller.sources.kubernetes.lease import Terms
from tests.unit.controller.sources.kubernetes.lease_api import Failure
from tests.unit.controller.sources.kubernetes.replicas import DURATION, RETRY, Replicas, in_every_outage, now, refuse

pytestmark = pytest.mark.looptime


# To lose the lead


@in_every_outage
async def test_a_short_outage_is_survived(replicas: Replicas, outage: Failure) -> None:
    _, keeping = await replicas.leading("a")
    await asyncio.sleep(60)
    replicas.server.outage = outage
    await asyncio.sleep(RETRY * 2)
    replicas.server.outage = None
    await asyncio.sleep(60)
    assert not keeping.done()


@in_every_outage
@pytest.mark.parametrize("after", [60.0, 60.5, 61.0, 61.5, 61.9])
async def test_the_lead_ends_before_the_lease_does(replicas: Replicas, outage: Failure, after: float) -> None:
    _, keeping = await replicas.leading("a")
    await asyncio.sleep(after)
    renewed = replicas.server.asked[-1][0]
    replicas.server.outage = outage
    await keeping
    assert RETRY * 2 < now() - renewed < DURATION - RETRY


@in_every_outage
async def test_no_two_lead_at_once_when_only_the_first_is_cut_off(replicas: Replicas, outage: Failure) -> None:
    _, keeping = await replicas.leading("a")
    second = replicas.standing_by(replicas.lease("b"))
    await asyncio.sleep(60)
    replicas.connections["a"].outage = outage
    await keeping
    assert not second.done()
    replicas.keep(await second)
    assert replicas.server.holder == "b"


async def test_who_sees_another_hold_the_lease_leads_no_more(replicas: Replicas) -> None:
    _, keeping = await replicas.leading("a")
    replicas.server.write({"spec": replicas.server.spec | {"holderIdentity": "b"}})
    seen = now()
    await keeping
    assert now() - seen <= 2 * RETRY
    assert replicas.server.holder == "b"


async def test_a_lead_that_is_lost_to_none_is_known_from_one_that_another_took(replicas: Replicas) -> None:
    lease, keeping = await replicas.leading("a")
    replicas.server.outage = refuse
    await keeping
    replicas.server.outage = None
    keeping = replicas.keep(await lease.acquire())
    assert not lease.another_led.is_set()
    replicas.server.write({"spec": replicas.server.spec | {"holderIdentity": "b"}})
    await keeping
    assert lease.another_led.is_set()


async def test_a_lease_that_was_given_back_is_no_others(replicas: Replicas) -> None:
    lease, _ = await replicas.leading("a")
    await lease.release()
    replicas.keep(await lease.acquire())
    assert not lease.another_led.is_set()


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
async def test_a_wall_clock_that_is_set_does_not_prolong_the_lead(replicas: Replicas, step: float) -> None:
    _, keeping = await replicas.leading("a")
    await asyncio.sleep(60)
    renewed = replicas.server.asked[-1][0]
    replicas.server.outage = refuse
    replicas.wall_offset += step
    await keeping
    assert now() - renewed < DURATION - RETRY


async def test_a_lead_that_was_lost_can_be_won_again(replicas: Replicas) -> None:
    lease, keeping = await replicas.leading("a")
    replicas.server.outage = refuse
    await keeping
    replicas.server.outage = None
    again = replicas.keep(await lease.acquire())
    assert again is not keeping
    await asyncio.sleep(60)
    assert (replicas.server.holder, again.done()) == ("a", False)


# To hand over


async def test_a_lead_that_is_given_back_is_taken_at_once(replicas: Replicas) -> None:
    first, _ = await replicas.leading("a")
    second = replicas.standing_by(replicas.lease("b"))
    await asyncio.sleep(60)
    released = now()
    await first.release()
    replicas.keep(await second)
    assert now() - released <= RETRY


async def test_who_does_not_lead_gives_nothing_back(replicas: Replicas) -> None:
    await replicas.lease("a").release()
    assert replicas.server.asked == []


async def test_who_lost_the_lead_gives_nothing_back(replicas: Replicas) -> None:
    lease, keeping = await replicas.leading("a")
    replicas.server.outage = refuse
    await keeping
    replicas.server.outage = None
    asked = len(replicas.server.asked)
    await lease.release()
    assert len(replicas.server.asked) == asked


async def test_a_lease_that_another_holds_by_now_is_left_to_it(replicas: Replicas) -> None:
    lease, _ = await replicas.leading("a")
    replicas.server.write({"spec": replicas.server.spec | {"holderIdentity": "b"}})
    with capture_logs() as logs:
        await lease.release()
    assert replicas.server.holder == "b"
    assert [entry["event"] for entry in logs] == ["lease not given back; it runs out"]


@in_every_outage
async def test_giving_back_ends_in_time_whatever_the_api_does(replicas: Replicas, outage: Failure) -> None:
    lease, _ = await replicas.leading("a")
    replicas.server.outage = outage
    began = now()
    with capture_logs() as logs:
        await lease.release()
    assert now() - began <= 5
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [
        ("warning", "lease not given back; it runs out")
    ]


async def test_after_a_lead_was_given_back_nothing_renews_it(replicas: Replicas) -> None:
    lease, keeping = await replicas.leading("a")
    await lease.release()
    asked = len(replicas.server.asked)
    await asyncio.sleep(600)
    assert (keeping.done(), len(replicas.server.asked)) == (True, asked)


# The terms


@pytest.mark.parametrize("seconds", [4, 5, 8, 15, 60, 300])
def test_a_leader_stops_before_another_can_begin_and_may_fail_once(seconds: int) -> None:
    terms = Terms("lab", "vmpower", "a", timedelta(seconds=seconds))
    assert 2 * terms.retry < terms.deadline < seconds - terms.retry
