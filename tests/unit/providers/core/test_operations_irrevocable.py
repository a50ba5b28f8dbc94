"""VMs that are powered off hard at the deadline whatever is asked, once they have been asked (Proxmox VE's HA)."""

from dataclasses import replace
from datetime import timedelta

import pytest

from protos.power.v1 import power_pb2 as pb
from providers.core.adapter import Delegation
from providers.core.errors import VMRefused
from providers.core.extension import Extension
from tests.unit.providers.finisher import WEB, MakeFinisher
from tests.unit.providers.world import elapsed, ending, until

pytestmark = pytest.mark.looptime

HA = replace(WEB, delegation=Delegation(revocable=False, always_forced="HA manages it."))
LONGER = Extension(timeout=timedelta(seconds=200))


@pytest.mark.parametrize("escalation", [pb.ESCALATION_NEVER, pb.ESCALATION_ASK])
async def test_what_cannot_be_kept_is_refused_before_anything_is_done(
    make_finisher: MakeFinisher, escalation: pb.Escalation.ValueType
) -> None:
    provider = await make_finisher(HA)
    with pytest.raises(VMRefused, match=r"web: HA manages it\. Escalation (NEVER|ASK) cannot be kept"):
        await provider.ask(timeout=60, escalation=escalation)
    assert (provider.operations.active(), provider.adapter.asked) == ([], [])


async def test_force_is_taken(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(HA)
    operation = await provider.end(await provider.ask(timeout=60, escalation=pb.ESCALATION_FORCE))
    assert (ending(operation), elapsed(operation)) == ("SUCCEEDED: FORCED/TIMEOUT", 60)


async def test_an_extension_after_it_was_asked_is_refused(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(HA)
    operation = await provider.ask(timeout=60)
    await until(5)
    with pytest.raises(VMRefused, match=r"HA manages it\. It has been asked, which cannot be taken back or changed"):
        await provider.operations.extend(operation.id, LONGER)
    assert elapsed(await provider.end(operation)) == 60


async def test_a_cancel_after_it_was_asked_is_refused(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(HA)
    operation = await provider.ask(timeout=60)
    await until(5)
    with pytest.raises(VMRefused, match="cannot be taken back or changed"):
        await provider.operations.cancel(operation.id)
    assert ending(await provider.end(operation)) == "SUCCEEDED: FORCED/TIMEOUT"


async def test_force_after_it_was_asked_is_obeyed(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(HA)
    operation = await provider.ask(timeout=60)
    await until(5)
    await provider.operations.force(operation.id)
    ended = await provider.end(operation)
    assert (ending(ended), elapsed(ended)) == ("SUCCEEDED: FORCED/REQUESTED", 5)


async def test_an_extension_before_it_was_asked_is_taken(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(HA)
    provider.adapter.lock()
    operation = await provider.ask(timeout=60)
    await until(5)
    await provider.operations.extend(operation.id, LONGER)
    provider.adapter.unlock()
    assert elapsed(await provider.end(operation)) == 200


async def test_a_cancel_before_it_was_asked_is_taken(make_finisher: MakeFinisher) -> None:
    provider = await make_finisher(HA)
    provider.adapter.lock()
    operation = await provider.ask(timeout=60)
    await until(5)
    assert ending(await provider.operations.cancel(operation.id)) == "CANCELLED: STILL_RUNNING"
