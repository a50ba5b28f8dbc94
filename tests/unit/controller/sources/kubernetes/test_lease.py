"""To lead, and to wait until one may."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from tests.unit.controller.sources.kubernetes.lease_api import Failure
from tests.unit.controller.sources.kubernetes.replicas import (
    DURATION,
    RETRY,
    Replicas,
    hang,
    in_every_outage,
    internal_error,
    now,
    refuse,
    succeed,
)

pytestmark = pytest.mark.looptime


# To lead


async def test_who_finds_no_lease_makes_one_and_leads(replicas: Replicas) -> None:
    await replicas.leading("a")
    assert (replicas.server.spec["holderIdentity"], replicas.server.spec["leaseDurationSeconds"]) == ("a", 15)
    assert now() == 0


async def test_the_times_of_the_lease_are_in_utc(replicas: Replicas) -> None:
    await replicas.leading("a")
    for name in ("acquireTime", "renewTime"):
        assert abs(datetime.fromisoformat(replicas.server.spec[name]) - datetime.now(UTC)) < timedelta(minutes=1)


async def test_the_times_have_the_fraction_without_which_the_api_takes_none(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = SimpleNamespace(now=lambda zone: datetime(2030, 1, 1, 12, tzinfo=zone))
    monkeypatch.setattr("controller.sources.kubernetes.lease.datetime", noon)
    await replicas.leading("a")
    assert {replicas.server.spec["acquireTime"], replicas.server.spec["renewTime"]} == {
        "2030-01-01T12:00:00.000001+00:00"
    }


async def test_a_fraction_of_a_second_is_rounded_up_to_what_a_lease_can_say(replicas: Replicas) -> None:
    replicas.keep(await replicas.lease("a", seconds=4.5).acquire())
    assert replicas.server.spec["leaseDurationSeconds"] == 5


async def test_the_leader_renews_and_keeps_the_time_when_it_began(replicas: Replicas) -> None:
    _, keeping = await replicas.leading("a")
    acquired, renewed = replicas.server.spec["acquireTime"], replicas.server.spec["renewTime"]
    await asyncio.sleep(600)
    assert not keeping.done()
    assert replicas.server.spec["acquireTime"] == acquired
    assert replicas.server.spec["renewTime"] > renewed


async def test_who_leads_already_need_not_ask(replicas: Replicas) -> None:
    lease, keeping = await replicas.leading("a")
    asked = len(replicas.server.asked)
    assert await lease.acquire() is keeping
    assert len(replicas.server.asked) == asked


# To wait


async def test_who_comes_second_waits_for_as_long_as_the_first_renews(replicas: Replicas) -> None:
    await replicas.leading("a")
    second = replicas.standing_by(replicas.lease("b"))
    await asyncio.sleep(600)
    assert not second.done()
    second.cancel()


async def test_a_leader_that_died_is_followed_when_its_lease_has_run_out(replicas: Replicas) -> None:
    _, first = await replicas.leading("a")
    second = replicas.standing_by(replicas.lease("b"))
    await asyncio.sleep(60)
    await replicas.kill(first)
    died = now()
    replicas.keep(await second)
    assert DURATION - RETRY <= now() - died <= DURATION + 2 * RETRY
    assert replicas.server.holder == "b"


async def test_two_that_find_no_lease_do_not_both_lead(replicas: Replicas) -> None:
    both = [replicas.standing_by(replicas.lease(name)) for name in "ab"]
    done, waiting = await asyncio.wait(both, timeout=60)
    assert (len(done), len(waiting)) == (1, 1)
    replicas.keep(done.pop().result())
    waiting.pop().cancel()


async def test_who_is_overtaken_between_look_and_write_does_not_lead(replicas: Replicas) -> None:
    _, first = await replicas.leading("a")
    await replicas.kill(first)

    async def overtaken() -> None:
        replicas.server.write({"spec": replicas.server.spec | {"holderIdentity": "c"}})

    second = replicas.standing_by(replicas.lease("b"))
    await asyncio.sleep(DURATION - 0.5)
    replicas.server.failures.extend([succeed, overtaken])  # at its look, and at its write
    await asyncio.sleep(DURATION - RETRY)
    assert replicas.server.holder == "c"
    assert not second.done()
    second.cancel()


@in_every_outage
async def test_an_api_that_is_away_keeps_nobody_from_leading_later(replicas: Replicas, outage: Failure) -> None:
    replicas.server.outage = outage
    waiting = replicas.standing_by(replicas.lease("a"))
    await asyncio.sleep(600)
    assert not waiting.done()
    replicas.server.outage = None
    back = now()
    replicas.keep(await waiting)
    assert now() - back <= 2 * RETRY


@pytest.mark.parametrize("failure", [hang, refuse, internal_error])
async def test_a_lease_that_could_not_be_made_is_made_later(replicas: Replicas, failure: Failure) -> None:
    replicas.server.failures.extend([succeed, failure])  # at the look, and at the write
    await replicas.leading("a")
    assert replicas.server.holder == "a"
    assert 0 < now() <= 2 * RETRY
